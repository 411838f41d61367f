//! Events: what a run reports to the outside, their encoding, and their sinks.
//!
//! Everything that happens in a run is emitted once, as an [`Event`], into a [`Sink`]. Reports and saved
//! event files are made from events and from nothing else. Messages that belong to no test are events as
//! well: [`Notice`].
//!
//! A stream of events starts with [`Event::RunStarted`] and ends with [`Event::RunCompleted`]. On
//! the outside it is a row of [frames](frame), in [`PROTOCOL_VERSION`]; the golden bytes in this
//! crate's tests pin every shape.
//!
//! This crate opens no file and starts no task: it encodes, decodes and passes on events.

pub mod details;
pub mod event;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod notice;
mod plural;
pub mod printable;
pub mod resources;
mod shorten;
pub mod sink;
pub mod status;
pub mod value;

pub use details::{Attachment, ConsoleExcerpt, Details, FileError, Location, Step};
pub use event::Event;
pub use frame::{DecodeError, Decoder, EncodeError, TimedEvent, encode};
pub use notice::{Notice, NoticeLevel, NoticeSubject};
pub use plural::counted;
pub use provium_protocol::PROTOCOL_VERSION;
pub use resources::Resources;
pub use sink::Sink;
pub use status::{BlockReason, BootKind, BuildStatus, FileStatus, TestStatus};
pub use value::{Meta, Value};
