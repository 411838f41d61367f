//! Reports for people and machines, made from events and from nothing else.
//!
//! A report takes events one by one and returns the text to show now: [`Human`] a line a
//! test and a file, and what went wrong in it, [`JsonLines`] an object a file. Saved events give the
//! same text as a live run. [`Live`] gives lines that are true now only, and leaves nothing behind.
//! [`JUnit`] gives a document at the end.
//!
//! Nothing here prints, and no file is read: the source that an excerpt shows comes from the caller
//! ([`Sources`]).

mod counts;
mod eta;
mod excerpt;
mod failed_test;
mod failed_tests;
mod human;
mod json;
mod junit;
mod live;
mod notice;
mod record;
mod styles;
mod summary;
mod text;

pub use excerpt::Sources;
pub use failed_tests::{FailedFile, FailedTests};
pub use human::{Human, HumanOptions, Verbosity};
pub use json::JsonLines;
pub use junit::{JUnit, JUnitFile};
pub use live::{Live, TerminalSize};
pub use notice::notice_line;
