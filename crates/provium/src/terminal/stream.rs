//! The two streams that the process writes to.
//!
//! A reader may go away at any time (`provium | head`), which is not an error. Any other write error is
//! kept until the end of the program, which fails then.

use crate::failure::Failure;
use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

/// The first write that failed.
static FAILED: Mutex<Option<(Stream, io::Error)>> = Mutex::new(None);

/// What was not written, if a write has failed.
pub(crate) fn failure() -> Option<Failure> {
    let failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner).take();
    failed.map(|(stream, source)| Failure::Output {
        stream: match stream {
            Stream::Out => "standard output",
            Stream::Error => "standard error",
        },
        source,
    })
}

/// One of the two places that text goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl Stream {
    /// Writes, without erasing the live lines.
    pub(crate) fn write(self, bytes: &[u8]) {
        let mut stream: Box<dyn io::Write> = match self {
            Self::Out => Box::new(io::stdout().lock()),
            Self::Error => Box::new(io::stderr().lock()),
        };
        let written = stream.write_all(bytes).and_then(|()| stream.flush());
        if let Err(error) = written
            && error.kind() != ErrorKind::BrokenPipe
        {
            let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
            failed.get_or_insert((self, error));
        }
    }

    /// Columns and lines, where it is a terminal that knows them.
    pub(crate) fn terminal_size(self) -> Option<(u16, u16)> {
        let size = match self {
            Self::Out => rustix::termios::tcgetwinsize(io::stdout()),
            Self::Error => rustix::termios::tcgetwinsize(io::stderr()),
        };
        let size = size.ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }
}
