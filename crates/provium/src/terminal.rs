//! Standard output and standard error.
//!
//! Whoever reads may go away at any time (`provium | head`): that is no reason to fail, so errors of
//! writing are passed over here.

use crate::lowargs::ColorChoice;
use std::io::{IsTerminal as _, Write as _};

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

/// Writes to standard output.
pub(crate) fn out(text: &str) {
    out_bytes(text.as_bytes());
}

/// Writes bytes to standard output.
pub(crate) fn out_bytes(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

/// Writes to standard error.
pub(crate) fn error(text: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = stderr
        .write_all(text.as_bytes())
        .and_then(|()| stderr.flush());
}
