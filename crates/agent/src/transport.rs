//! The line to the host: a virtio-serial port, a serial line where there is none, or (for tests) a
//! socket.

use crate::roots;
use crate::sys::{Errno, Sys, fd, file, terminal};
use provium_protocol::AGENT_PORT;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long the port's name may take to arrive once the driver is there.
const PORT_WAIT: Duration = Duration::from_secs(3);
const PORT_LOOK: Duration = Duration::from_millis(2);
/// The second serial line; the first is the console.
const LINE: &str = "ttyS1";
const PORTS: &str = "class/virtio-ports";

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Port,
    /// Nobody may have listened when something was said, so it is said again.
    Line,
    /// Ends when the host does.
    Socket,
}

#[derive(Debug)]
pub(crate) struct Transport {
    fd: OwnedFd,
    pub(crate) kind: Kind,
}

/// What a read found.
pub(crate) enum Heard {
    Bytes(usize),
    Nothing,
    /// The host is not there (any more).
    Gone,
}

impl Transport {
    /// A socket that was inherited.
    pub(crate) fn socket(number: RawFd) -> Sys<Self> {
        let fd = fd::own(number);
        fd::set_nonblocking(number)?;
        Ok(Self { fd, kind: Kind::Socket })
    }

    /// Looks for the port, as long as it may still come, then for the serial line.
    pub(crate) fn find() -> Sys<Self> {
        let until = Instant::now() + PORT_WAIT;
        // Without the folder there is no driver, and waiting is in vain.
        while let Ok(ports) = port_names() {
            if let Some(port) = ports.iter().find(|port| is_ours(port)) {
                return Self::port(port);
            }
            if Instant::now() >= until {
                break;
            }
            std::thread::sleep(PORT_LOOK);
        }
        Self::line()
    }

    fn open(name: &str) -> Sys<OwnedFd> {
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY;
        file::open_at(roots::DEV, &file::path(name.as_bytes())?, flags, 0)
    }

    fn port(name: &str) -> Sys<Self> {
        Ok(Self { fd: Self::open(name)?, kind: Kind::Port })
    }

    fn line() -> Sys<Self> {
        let fd = Self::open(LINE)?;
        terminal::make_raw(&fd)?;
        Ok(Self { fd, kind: Kind::Line })
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> Heard {
        match fd::read(self.fd.as_raw_fd(), buffer) {
            // A serial line without bytes may read as empty, too.
            Ok(0) if self.kind == Kind::Line => Heard::Nothing,
            Ok(0) => Heard::Gone,
            Ok(got) => Heard::Bytes(got),
            Err(Errno::AGAIN | Errno::INTR) => Heard::Nothing,
            Err(_) => Heard::Gone,
        }
    }

    /// Writes what the line takes now.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
        fd::write(self.fd.as_raw_fd(), bytes).unwrap_or(0)
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn port_names() -> Sys<Vec<String>> {
    let folder = file::open_at(roots::SYS, &file::path(PORTS.as_bytes())?, libc::O_RDONLY, 0)?;
    let entries = file::list(folder)?;
    Ok(entries.into_iter().filter_map(|entry| String::from_utf8(entry.name).ok()).collect())
}

fn is_ours(port: &str) -> bool {
    let name = file::read_at(roots::SYS, &format!("{PORTS}/{port}/name"));
    name.is_ok_and(|name| name.trim_ascii() == AGENT_PORT.as_bytes())
}
