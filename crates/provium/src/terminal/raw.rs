//! The terminal in raw mode: every key goes to a guest, also Ctrl-C.
//!
//! The mode that it had before is restored when [`RawMode`] is dropped. What ends the process without that, such as
//! the thread of signals, calls [`restore_mode`], and so does every panic: one may abort the process, and its message
//! is not readable in raw mode.

use super::text::out_bytes;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use std::io::{self, IsTerminal as _};
use std::panic;
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

/// Lets each panic of any thread restore the mode of the terminal before its message is printed.
pub(crate) fn restore_on_panic() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        restore_mode();
        print(info);
    }));
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

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::termios::LocalModes;
    use std::io::Read as _;

    /// The process that the next test starts on a terminal.
    #[test]
    #[ignore = "panics, for the next test"]
    fn aborts_in_raw_mode() {
        extern "C" fn abort() {
            // It cannot unwind through a function of this kind: nothing is dropped.
            panic!("a bug");
        }
        restore_on_panic();
        let _raw = RawMode::enter().unwrap();
        let modes = tcgetattr(io::stdin()).unwrap().local_modes;
        assert!(!modes.intersects(LocalModes::ICANON | LocalModes::ECHO));
        eprint!("in raw mode;");
        abort();
    }

    #[test]
    fn a_panic_that_aborts_restores_the_terminal() {
        let (mut pty, pts) = pty_process::blocking::open().unwrap();
        let before = tcgetattr(&pty).unwrap();
        let test = "terminal::raw::tests::aborts_in_raw_mode";
        let command = pty_process::blocking::Command::new(std::env::current_exe().unwrap());
        let command = command.args(["--ignored", "--nocapture", "--exact", test]);
        let mut child = command.spawn(pts).unwrap();
        let mut printed = Vec::new();
        // EIO when no process has the terminal any more.
        let _ = pty.read_to_end(&mut printed);
        let status = child.wait().unwrap();
        let printed = String::from_utf8_lossy(&printed);
        assert_eq!(status.code(), None, "it was aborted: {printed}");
        assert!(printed.contains("in raw mode;"), "{printed}");
        assert!(printed.contains("a bug\r\n"), "{printed}");
        let after = tcgetattr(&pty).unwrap();
        assert_eq!(after.local_modes, before.local_modes);
        assert_eq!(after.input_modes, before.input_modes);
        assert_eq!(after.output_modes, before.output_modes);
    }
}
