//! Frames: the unit of the byte stream.
//!
//! | file | purpose |
//! |---|---|
//! | `ids` | lanes, calls, and the streams of a call |
//! | `layout` | the bytes of a frame |
//! | `decoder` | frames from bytes in pieces of any size, messages from frames |

mod decoder;
mod ids;
mod layout;

pub use decoder::{Assembler, FrameDecoder, FrameError, Item};
pub use ids::{CallId, Lane, StreamId};
pub use layout::{
    FLAG_MORE, Frame, FrameKind, HEADER_LEN, INITIAL_WINDOW, MAX_MESSAGE, MAX_PAYLOAD, SYNC,
};
