//! The kernel's announcements of devices, so that nobody has to sleep and look again.

#![expect(unsafe_code, reason = "netlink sockets have no type in std")]

use super::checked::checked;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// A listener to device events.
pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Starts listening: what is announced from here on is heard.
    pub(crate) fn listen() -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointers.
        let fd = checked(unsafe {
            libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_KOBJECT_UEVENT)
        })?;
        // SAFETY: a descriptor that was just made and belongs to nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        // SAFETY: `sockaddr_nl` is plain data, for which all zeros is a value.
        let mut address: libc::sockaddr_nl = unsafe { std::mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = 1; // the kernel's own events
        // SAFETY: the address is a `sockaddr_nl` of the size given.
        checked(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                std::ptr::from_ref(&address).cast(),
                size_of::<libc::sockaddr_nl>() as libc::socklen_t,
            )
        })?;
        Ok(Self { socket })
    }

    /// Waits until something was announced, then forgets what; false when `deadline` came first.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // Rounded up, so that the last millisecond is not spent spinning.
        let millis = libc::c_int::try_from(left.as_millis() + 1).unwrap_or(libc::c_int::MAX);
        // SAFETY: one `pollfd`.
        let ready = unsafe { libc::poll(&mut poll, 1, millis) };
        self.hear(|_| ());
        ready > 0
    }

    /// Takes in what was announced; true when an input device was among it.
    pub(super) fn heard_of_input(&self) -> bool {
        let mut heard = false;
        self.hear(|event| {
            heard |= event.split(|&byte| byte == 0).any(|line| line == b"SUBSYSTEM=input");
        });
        heard
    }

    fn hear(&self, mut each: impl FnMut(&[u8])) {
        let mut event = [0u8; 4096];
        loop {
            let (buffer, len) = (event.as_mut_ptr().cast(), event.len());
            // SAFETY: pointer and length are those of one array. The socket does not block.
            let read = unsafe { libc::recv(self.socket.as_raw_fd(), buffer, len, 0) };
            match usize::try_from(read) {
                Ok(read) if read > 0 => each(&event[..read]),
                _ => return,
            }
        }
    }
}

impl AsRawFd for Uevents {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

/// Waits for an announcement, or, in a kernel that makes none, a little while.
pub(crate) fn wait_or_pause(uevents: Option<&Uevents>, deadline: Instant) {
    match uevents {
        Some(uevents) => {
            uevents.wait(deadline);
        }
        None => {
            let left = deadline.saturating_duration_since(Instant::now());
            std::thread::sleep(left.min(Duration::from_millis(2)));
        }
    }
}
