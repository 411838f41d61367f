//! Terminals: a pair for a command, and a serial line in raw mode.

#![expect(unsafe_code, reason = "terminal calls of the kernel")]

use super::{Sys, check, fd, file};
use provium_protocol::op::WindowSize;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The character that ends a terminal's input.
pub(crate) const END_OF_INPUT: u8 = 4;

/// A terminal of that size: the side that is held, and the side that a command gets.
pub(crate) fn open_pair(window: WindowSize) -> Sys<(OwnedFd, OwnedFd)> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    let master = match file::open_str("/dev/ptmx", flags) {
        Ok(master) => master,
        Err(_) => file::open_str("/dev/pts/ptmx", flags)?,
    };
    let mut unlocked: libc::c_int = 0;
    // SAFETY: a valid int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw mut unlocked) })?;
    // SAFETY: no pointers. Opens the other side without a path, whatever is mounted where.
    let peer = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    let slave = match check(peer) {
        Ok(slave) => fd::own(slave),
        Err(_) => by_path(&master, flags)?,
    };
    // A terminal of the usual size is better than none.
    let _ = resize(slave.as_raw_fd(), window);
    Ok((master, slave))
}

/// Sets the size of a terminal; either side will do.
pub(crate) fn resize(fd: RawFd, window: WindowSize) -> Sys<()> {
    let size = libc::winsize {
        ws_row: window.rows,
        ws_col: window.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: a valid winsize.
    check(unsafe { libc::ioctl(fd, libc::TIOCSWINSZ, &raw const size) }).map(drop)
}

/// Makes a terminal the controlling one of this process's session.
pub(crate) fn take_control(fd: RawFd) -> Sys<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::ioctl(fd, libc::TIOCSCTTY, 0) }).map(drop)
}

/// The other side before Linux 4.13.
fn by_path(master: &OwnedFd, flags: i32) -> Sys<OwnedFd> {
    let mut number: libc::c_uint = 0;
    // SAFETY: room for one int.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number) })?;
    file::open_str(&format!("/dev/pts/{number}"), flags)
}

/// Makes a serial line carry bytes as they are.
pub(crate) fn make_raw(line: &OwnedFd) -> Sys<()> {
    // The C library's functions that set a speed differ between its versions, so these are the
    // kernel's own requests. Its `termios` is the beginning of the C library's.
    // SAFETY: all-zero is a valid termios, and it is filled before it is used.
    unsafe {
        let mut settings: libc::termios = mem::zeroed();
        check(libc::ioctl(
            line.as_raw_fd(),
            libc::TCGETS,
            &raw mut settings,
        ))?;
        libc::cfmakeraw(&raw mut settings);
        settings.c_cflag &= !(libc::CRTSCTS | libc::HUPCL | libc::CBAUD);
        settings.c_cflag |= libc::CLOCAL | libc::CREAD | libc::B115200;
        // With none, a line without bytes would look like one that has ended.
        settings.c_cc[libc::VMIN] = 1;
        settings.c_cc[libc::VTIME] = 0;
        check(libc::ioctl(
            line.as_raw_fd(),
            libc::TCSETS,
            &raw const settings,
        ))
        .map(drop)
    }
}
