//! Lua's patterns, in an implementation that a time limit can interrupt.
//!
//! Lua's own implementation runs in C, where no hook can interrupt it: a pattern that backtracks could
//! block its file, and with it the run, for an unlimited time. This one counts its steps and checks
//! periodically whether it may continue. Otherwise it behaves as `lstrlib.c` of Lua 5.4, including its
//! errors and its limit on recursion.

mod check;
mod classes;
mod matcher;
mod search;
#[cfg(test)]
mod tests;

pub(crate) use check::check;
pub(crate) use matcher::{Capture, Matcher, PatternError, has_specials};
pub(crate) use search::{FoundMatch, first_match};
