//! The connection to the host: a virtio-serial port, a serial line where there is none, or (for tests) a
//! socket.
//!
//! | | port | serial line |
//! |---|---|---|
//! | found by | its name, [`AGENT_PORT`] | its place, the second UART |
//! | needs | virtio, its bus's driver, `virtio_console` | a 16550 driver, nearly always built in |
//! | used | whenever its driver is there | otherwise |
//!
//! A port has its name a moment after its driver. The kernel's device events report when, so no polling
//! interval delays a boot.

use crate::roots;
use crate::sys::{Errno, Sys, boot, detached, fd, file, terminal};
use provium_protocol::AGENT_PORT;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long a port may take to get its name once its driver is loaded. It suffices for a guest that is
/// starved of CPU; one without such a driver does not wait at all.
const PORT_WAIT: Duration = Duration::from_secs(20);
/// Interval of the checks when the kernel announces nothing.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The same in a kernel without device events.
const BLIND_CHECK_INTERVAL: Duration = Duration::from_millis(5);
/// The second serial line; the first is the console.
const LINE: &str = "ttyS1";
const PORTS: &str = "class/virtio-ports";
const DEVICES: &str = "bus/virtio/devices";
/// Virtio's number for a console, in sysfs's words.
const CONSOLE: &[u8] = b"0x0003";

/// What carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Port,
    /// What was sent may have been lost, because the host did not listen yet; so it is sent again.
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
pub(crate) enum ReadOutcome {
    Bytes(usize),
    Nothing,
    /// The host has closed the connection, or has not opened it yet.
    Gone,
}

impl Transport {
    /// A socket that was inherited.
    pub(crate) fn socket(number: RawFd) -> Sys<Self> {
        let fd = fd::own(number);
        fd::set_nonblocking(number)?;
        Ok(Self {
            fd,
            kind: Kind::Socket,
        })
    }

    /// Waits for the port, as long as it may still appear, or else for a serial line; without limit if
    /// neither exists, because the image's init may still load a driver.
    ///
    /// # Errors
    /// `EBUSY`: another agent has it.
    pub(crate) fn find() -> Sys<Self> {
        // Before the first look, so that nothing is missed.
        let events = boot::device_events().ok();
        let port_wait = Instant::now() + PORT_WAIT;
        let mut is_logged = false;
        loop {
            let port = Self::port();
            match port {
                Ok(Some(found)) => return Ok(found),
                // A port can be open once only.
                Err(Errno(libc::EBUSY)) => return Err(Errno(libc::EBUSY)),
                Ok(None) | Err(_) => {}
            }
            let now = Instant::now();
            if port.is_err() || now >= port_wait || !has_console_driver() {
                match Self::line() {
                    Ok(found) => return Ok(found),
                    Err(Errno(libc::EBUSY)) => return Err(Errno(libc::EBUSY)),
                    Err(line) if !is_logged => {
                        let port = match port {
                            Err(errno) => errno.to_string(),
                            Ok(_) => "not there".to_owned(),
                        };
                        roots::log(&format!(
                            "no line to the host yet: port {AGENT_PORT}: {port}; {LINE}: {line}"
                        ));
                        is_logged = true;
                    }
                    Err(_) => {}
                }
            }
            await_device_event(events.as_ref());
        }
    }

    fn open(name: &str) -> Sys<OwnedFd> {
        let flags = libc::O_RDWR | libc::O_NONBLOCK | libc::O_NOCTTY;
        file::open_at(roots::DEV, &file::path(name.as_bytes())?, flags, 0)
    }

    /// The port, if it is there and has its name.
    fn port() -> Sys<Option<Self>> {
        let Some(port) = names(PORTS).into_iter().find(|port| is_ours(port)) else {
            return Ok(None);
        };
        Ok(Some(Self {
            fd: Self::open(&port)?,
            kind: Kind::Port,
        }))
    }

    fn line() -> Sys<Self> {
        let fd = Self::open(LINE)?;
        // Unlike a port, a serial line can be open any number of times.
        detached::lock(&fd)?;
        terminal::make_raw(&fd)?;
        Ok(Self {
            fd,
            kind: Kind::Line,
        })
    }

    pub(crate) fn read(&self, buffer: &mut [u8]) -> ReadOutcome {
        match fd::read(self.fd.as_raw_fd(), buffer) {
            // A serial line without bytes may read as empty, too.
            Ok(0) if self.kind == Kind::Line => ReadOutcome::Nothing,
            Ok(0) => ReadOutcome::Gone,
            Ok(got) => ReadOutcome::Bytes(got),
            Err(Errno::AGAIN | Errno::INTR) => ReadOutcome::Nothing,
            Err(_) => ReadOutcome::Gone,
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

/// The names in a folder of `/sys`; none if it does not exist.
fn names(folder: &str) -> Vec<String> {
    let entries = file::path(folder.as_bytes())
        .and_then(|path| file::open_at(roots::SYS, &path, libc::O_RDONLY, 0))
        .and_then(file::list)
        .unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| String::from_utf8(entry.name).ok())
        .collect()
}

fn is_ours(port: &str) -> bool {
    let name = file::read_at(roots::SYS, &format!("{PORTS}/{port}/name"));
    name.is_ok_and(|name| name.trim_ascii() == AGENT_PORT.as_bytes())
}

/// Whether there is a virtio console with its driver, so that its ports are to come.
fn has_console_driver() -> bool {
    names(DEVICES).iter().any(|device| {
        let number = file::read_at(roots::SYS, &format!("{DEVICES}/{device}/device"));
        number.is_ok_and(|number| number.trim_ascii() == CONSOLE)
            && file::path(format!("{DEVICES}/{device}/driver").as_bytes())
                .and_then(|driver| file::stat_at(roots::SYS, &driver, 0))
                .is_ok()
    })
}

/// Waits for a device event, or until the next check.
fn await_device_event(events: Option<&OwnedFd>) {
    let Some(events) = events else {
        return std::thread::sleep(BLIND_CHECK_INTERVAL);
    };
    let _ = fd::poll(
        &mut [fd::interest(events.as_raw_fd(), libc::POLLIN)],
        Some(CHECK_INTERVAL),
    );
    // What it was does not matter: everything is looked at again.
    let mut event = [0; 4096];
    while fd::read(events.as_raw_fd(), &mut event).is_ok_and(|read| read > 0) {}
}
