//! The terminal in raw mode: every key goes to a guest, also Ctrl-C.
//!
//! The mode that it had before is restored when [`RawMode`] is dropped, also by a panic. What ends the
//! process without that, such as the thread of signals, calls [`restore_mode`].

use super::text::out_bytes;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _};
use std::sync::{Mutex, PoisonError};

/// Ends what a program in a guest may have left on: another screen, a hidden cursor, reports of the mouse,
/// bracketed pastes, a colour. These are private modes of xterm that other terminals have, too.
const RESET: &[u8] =
    b"\x1b[?47l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[m";

/// The mode to restore.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Keeps the terminal of standard input in raw mode until it is dropped.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Puts the terminal into raw mode. Keys that were typed before are kept.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        *lock() = Some(before);
        let mode = Self(());
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(mode)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore_mode();
    }
}

/// Restores the mode that the terminal had before, if it is in raw mode. Waits for nothing.
pub(crate) fn restore_mode() {
    if let Some(before) = lock().take() {
        // Without a terminal there is nothing to restore.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

/// Resets what a program that was cut off may have left on at the terminal of standard output.
pub(crate) fn reset_screen() {
    if io::stdout().is_terminal() {
        out_bytes(RESET);
    }
}

/// Lines and columns of the terminal of standard input, if it knows them.
pub(crate) fn input_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdin()).ok()?;
    (size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
}

fn lock() -> std::sync::MutexGuard<'static, Option<Termios>> {
    BEFORE.lock().unwrap_or_else(PoisonError::into_inner)
}
