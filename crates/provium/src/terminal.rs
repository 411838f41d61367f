//! Standard output and standard error.
//!
//! Whoever reads may go away at any time (`provium | head`): that is no reason to fail, so errors of
//! writing are passed over here.

use crate::live;
use crate::lowargs::ColorChoice;
use std::io::IsTerminal as _;

/// Whether what people read is to be coloured.
pub(crate) fn wants_colour(choice: ColorChoice) -> bool {
    match choice {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            // https://no-color.org: any value but the empty one.
            let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            !refused && !dumb && std::io::stdout().is_terminal()
        }
    }
}

/// One of the two places that text goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Out,
    Error,
}

impl Stream {
    /// Writes, without a look at what stands there.
    pub(crate) fn write(self, bytes: &[u8]) {
        let mut stream: Box<dyn std::io::Write> = match self {
            Self::Out => Box::new(std::io::stdout().lock()),
            Self::Error => Box::new(std::io::stderr().lock()),
        };
        let _ = stream.write_all(bytes).and_then(|()| stream.flush());
    }

    /// Columns and lines, where it is a terminal that knows them.
    pub(crate) fn terminal_size(self) -> Option<(u16, u16)> {
        let size = match self {
            Self::Out => rustix::termios::tcgetwinsize(std::io::stdout()),
            Self::Error => rustix::termios::tcgetwinsize(std::io::stderr()),
        };
        let size = size.ok()?;
        (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
    }
}

/// Writes to standard output.
pub(crate) fn out(text: &str) {
    out_bytes(text.as_bytes());
}

/// Writes bytes to standard output.
pub(crate) fn out_bytes(bytes: &[u8]) {
    write(Stream::Out, bytes);
}

/// Writes to standard error.
pub(crate) fn error(text: &str) {
    write(Stream::Error, text.as_bytes());
}

fn write(stream: Stream, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let _cleared = live::make_way();
    stream.write(bytes);
}
