//! What a run tells the outside: events, their bytes, and where they go.
//!
//! Whatever happens in a run is told once, as an [`Event`], into a [`Sink`]. Reports, saved event
//! files and `provium-coverage` are made from events and from nothing else.
//!
//! A stream of events starts with [`Event::RunStarted`] and ends with [`Event::RunCompleted`]. On
//! the outside it is a row of [frames](frame), in [`PROTOCOL_VERSION`]; the golden bytes in this
//! crate's tests pin every shape.
//!
//! This crate opens no file and starts no task: it makes bytes, takes bytes, and passes events on.

pub mod amount;
pub mod event;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod notice;
pub mod printable;
mod shorten;
pub mod sink;
pub mod value;

pub use amount::Amount;
pub use event::{
    Attachment, BlockReason, BootKind, BuildStatus, ConsoleExcerpt, Details, Event, FileError,
    FileStatus, Location, Step,
};
pub use frame::{DecodeError, Decoder, EncodeError, Stamped, encode};
pub use notice::{Notice, NoticeLevel, NoticeSubject};
pub use provium_protocol::PROTOCOL_VERSION;
pub use sink::Sink;
pub use value::{Meta, Value};
