//! Lua's patterns, in an implementation that a time limit can interrupt.
//!
//! Lua's own runs in C, where no hook reaches it: a pattern that backtracks would hold up its file,
//! and with it the run, for as long as it likes. This one counts its steps and asks now and then
//! whether it may continue. Otherwise it does what `lstrlib.c` of Lua 5.4 does, its errors and its limit
//! on recursion included.

mod classes;
mod matcher;
#[cfg(test)]
mod tests;

pub(crate) use matcher::{Capture, Matcher, PatternError, has_specials};
