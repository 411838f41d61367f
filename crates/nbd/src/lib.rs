//! The NBD protocol as a server speaks it, and as a client asks what a server exports, without any I/O.
//!
//! The reference is [`doc/proto.md`](https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md) of the
//! project NBD, called "the specification" here; names in capitals are its own. All numbers are big-endian.
//!
//! ```text
//! client                                        server
//!   │ ◀──────────── NBDMAGIC, IHAVEOPT, handshake flags │  handshake
//!   │ client flags ───────────────────────────────────▶ │
//!   │ option, data ──────▶ ◀────── replies to the option │  any number of times
//!   │ GO or EXPORT_NAME ──▶ ◀─── size, transmission flags │
//!   │ request, cookie (, data) ───────────────────────▶ │  transmission: many at a time,
//!   │ ◀──────────────────────── reply, cookie (, data) │  answered in any order
//!   │ DISC ──────────────────────────────────────────▶ │
//! ```
//!
//! A [`Connection`] takes what the client sends and gives the [`Request`]s in it. It answers options by itself, and
//! refuses by itself what a disk cannot do: unknown commands and flags, ranges outside of the disk or not in whole
//! sectors, writes to a disk that is read-only. An [`Output`] collects the answers.
//!
//! Data is not copied on its way where that can be avoided: [`Connection::space`] is where the next bytes belong, the
//! buffer of a write's data included, and [`Output::read`] has the data of a read put behind the header that it is
//! sent with.
//!
//! An [`ExportQuery`] is the only client: it asks a server for the size of its default export, and disconnects.
//!
//! | the server offers | not offered |
//! |---|---|
//! | fixed newstyle, `NO_ZEROES`; `EXPORT_NAME`, `GO`, `INFO`, `LIST`, `ABORT`, `STRUCTURED_REPLY` | TLS, `oldstyle` |
//! | `READ`, `WRITE`, `FLUSH`, `TRIM`, `WRITE_ZEROES`, `DISC` | `CACHE`, `RESIZE` |
//! | FUA, `DF`, `NO_HOLE`, `FAST_ZERO` | |
//! | sizes of blocks, several connections (`CAN_MULTI_CONN`) | metadata contexts, `BLOCK_STATUS` |
//!
//! The crate knows neither sockets nor disks, and carries nothing out.

mod connection;
mod export_query;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod handshake;
mod output;
mod request;
mod violation;
mod wire;

pub use connection::{ClientMessage, Connection};
pub use export_query::{ExportQuery, QueryError};
pub use handshake::ExportInfo;
pub use output::Output;
pub use request::{Cookie, ErrorValue, Request, RequestKind};
pub use violation::Violation;
pub use wire::{MAX_OPTION, MAX_REQUEST, PREFERRED_BLOCK, SECTOR};
