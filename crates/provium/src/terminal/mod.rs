//! Standard output and standard error: text, live lines, tables.
//!
//! | file | what |
//! |---|---|
//! | `stream` | the two streams; keeps the first write error |
//! | `live` | lines at the bottom of a terminal that show the state of the run |
//! | `text` | everything else that is printed; erases the live lines first |
//! | `raw` | the terminal of standard input in raw mode, for a guest |
//! | `tables` | amounts and times in tables |

mod live;
mod raw;
mod stream;
mod tables;
mod text;

pub(crate) use live::{draw, end, size};
pub(crate) use raw::{RawMode, input_size, reset_screen, restore_mode, restore_on_panic};
pub(crate) use stream::{Stream, failure};
pub(crate) use tables::{RemovalSummary, ago, mebibytes, since_1970, took};
pub(crate) use text::{error, last_words, notice, out, out_bytes, set_colours, wants_colour};
