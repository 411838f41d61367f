//! Streams: bytes that arrive while a test runs.
//!
//! | file | purpose |
//! |---|---|
//! | `source` | where a stream's bytes come from: a command's captured output, a call in the guest, a console |
//! | `search` | what a call waits for in them |
//! | `buffer` | the bytes that were read and not handed out, and the wait for a match |
//! | `changes` | what has happened to the file of a stream, in words |
//! | `handle` | the stream as a test holds it: bounds every wait, closes with its scope |
//! | `open_streams` | the streams of a VM that are open |

mod buffer;
mod changes;
mod handle;
mod open_streams;
mod search;
mod source;

pub(crate) use handle::{StreamParts, WeakStream};
pub(crate) use open_streams::OpenStreams;
pub(crate) use search::{shown, shown_call};
pub(crate) use source::{ByteSource, ReadFuture};

pub use handle::{ByteStream, StreamKind};
pub use open_streams::Site;
