//! The way to the host: a virtio-serial port, or a UART, or (for tests) a socket.
//!
//! | | virtio-serial port | UART |
//! |---|---|---|
//! | found by | its name, [`AGENT_PORT`] | its place, `ttyS1` |
//! | needs | virtio, a bus driver, `virtio_console` | a 16550 driver, nearly always built in |
//! | used | whenever there is one | when no driver for a port is there |
//!
//! The port's node is made afresh from the numbers in sysfs, opened, and removed, so that neither
//! devtmpfs nor anything in the image's `/dev` is needed or touched.

#![expect(unsafe_code, reason = "terminal settings have no function in std; an inherited socket")]

use crate::init::checked::checked;
use crate::init::mounts::make_device;
use crate::init::uevents::{Uevents, wait_or_pause};
use provium_protocol::AGENT_PORT;
use provium_protocol::boot::AGENT_DIR;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a port may take to get its name once its driver is there. A guest that is starved of
/// CPU is still in time; one with no such driver does not wait at all.
const PORT_PATIENCE: Duration = Duration::from_secs(20);
/// How often to look again when nothing is announced.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The UART that is the agent's. The first one is the console.
const UART: &str = "ttyS1";
/// Virtio's device id of a console, as sysfs writes it.
const VIRTIO_CONSOLE: &str = "0x0003";

/// The byte stream to the host, non-blocking.
#[derive(Debug)]
pub(crate) struct Transport {
    stream: File,
    /// What it is.
    pub(crate) kind: Kind,
}

/// What carries the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A virtio-serial port. While the host's end is closed, `poll(2)` says `POLLHUP` at once and
    /// `read(2)` gives 0 bytes; both end when it is opened again.
    Port,
    /// A UART in raw mode. Nobody may have listened when something was said, so it is said again.
    Line,
    /// A socket, for tests. Ends when the host does.
    Socket,
}

/// What a read found.
pub(crate) enum Heard {
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The host is not there, or not any more.
    Gone,
}

impl Transport {
    /// A socket that was inherited and belongs to nobody else.
    pub(crate) fn socket(number: RawFd) -> io::Result<Self> {
        // SAFETY: the caller has the number from whoever started this process, for this use.
        let socket = unsafe { UnixStream::from_raw_fd(number) };
        socket.set_nonblocking(true)?;
        Ok(Self { stream: File::from(OwnedFd::from(socket)), kind: Kind::Socket })
    }

    /// Reads what is there, up to the buffer's length.
    pub(crate) fn read(&self, buffer: &mut [u8]) -> Heard {
        match (&self.stream).read(buffer) {
            // A serial line without bytes may read as empty, too.
            Ok(0) if self.kind == Kind::Line => Heard::Nothing,
            Ok(0) => Heard::Gone,
            Ok(got) => Heard::Bytes(got),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Heard::Nothing,
                _ => Heard::Gone,
            },
        }
    }

    /// Writes what the stream takes now; gives how much that is.
    pub(crate) fn write(&self, bytes: &[u8]) -> usize {
        (&self.stream).write(bytes).unwrap_or(0)
    }
}

impl AsRawFd for Transport {
    fn as_raw_fd(&self) -> RawFd {
        self.stream.as_raw_fd()
    }
}

/// Waits until there is a way to the host; for ever, as long as there is none. `sys` is where a
/// sysfs is mounted.
pub(crate) fn wait_for(sys: &Path, uevents: Option<&Uevents>) -> Transport {
    let patience = Instant::now() + PORT_PATIENCE;
    let mut said = false;
    loop {
        let port = virtio_port(sys);
        if let Ok(Some(stream)) = port {
            return Transport { stream, kind: Kind::Port };
        }
        let now = Instant::now();
        let port_may_come = port.is_ok() && now < patience && has_console_driver(sys);
        let mut look_again = now + LOOK_AGAIN;
        if port_may_come {
            look_again = look_again.min(patience);
        } else {
            match uart(sys) {
                Ok(stream) => return Transport { stream, kind: Kind::Line },
                Err(error) if !said => {
                    // Nobody else can be told: this is on the console of the guest.
                    let port = port.err().map(|error| format!(" ({error})")).unwrap_or_default();
                    let _ = writeln!(
                        io::stderr(),
                        "provium-agent: no way to the host: no virtio port {AGENT_PORT}{port}, \
                         and {UART}: {error}"
                    );
                    said = true;
                }
                Err(_) => {}
            }
        }
        wait_or_pause(uevents, look_again);
    }
}

/// The agent's port, if it is there and has its name already.
fn virtio_port(sys: &Path) -> io::Result<Option<File>> {
    let Ok(ports) = fs::read_dir(sys.join("class/virtio-ports")) else { return Ok(None) };
    for port in ports.flatten() {
        let port = port.path();
        // The name comes a moment after the port itself.
        let Ok(name) = fs::read_to_string(port.join("name")) else { continue };
        if name.trim_end() == AGENT_PORT {
            return open_device(&port).map(Some);
        }
    }
    Ok(None)
}

/// Whether some virtio console is there with its driver, so that its ports are to come.
fn has_console_driver(sys: &Path) -> bool {
    let Ok(devices) = fs::read_dir(sys.join("bus/virtio/devices")) else { return false };
    devices.flatten().any(|device| {
        let device = device.path();
        let id = fs::read_to_string(device.join("device"));
        id.is_ok_and(|id| id.trim_end() == VIRTIO_CONSOLE) && device.join("driver").exists()
    })
}

fn uart(sys: &Path) -> io::Result<File> {
    let fd = open_device(&sys.join("class/tty").join(UART))?;
    // The C library's `termios` begins as the kernel's; its functions for the speed differ between
    // its versions, so these are the plain calls.
    // SAFETY: `termios` is plain data, for which all zeros is a value.
    let mut settings: libc::termios = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a `termios`. Fails for a UART that the kernel has no hardware for.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCGETS as _, &mut settings) })?;
    // SAFETY: the pointer is to a `termios`.
    unsafe { libc::cfmakeraw(&mut settings) };
    settings.c_cflag &= !(libc::CRTSCTS | libc::HUPCL | libc::CBAUD);
    // The fastest there is: it sets how long the UART waits for more before it interrupts.
    settings.c_cflag |= libc::CLOCAL | libc::CREAD | libc::B115200;
    // With 0, no data would look like the end of the stream.
    settings.c_cc[libc::VMIN] = 1;
    settings.c_cc[libc::VTIME] = 0;
    // SAFETY: the pointer is to a `termios`.
    checked(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TCSETS as _, &settings) })?;
    Ok(fd)
}

/// Opens the character device of a folder in sysfs.
fn open_device(folder: &Path) -> io::Result<File> {
    let numbers = fs::read_to_string(folder.join("dev"))?;
    let (major, minor) = parse_numbers(&numbers)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "odd device numbers"))?;
    let node = PathBuf::from(AGENT_DIR).join("port");
    // Left over only if something went wrong between the lines below.
    let _ = fs::remove_file(&node);
    make_device(&node, libc::makedev(major, minor), 0o600)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&node);
    fs::remove_file(&node)?;
    file
}

/// `4:65`, with a newline.
fn parse_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.trim_end().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_as_sysfs_writes_them() {
        assert_eq!(parse_numbers("4:65\n"), Some((4, 65)));
        assert_eq!(parse_numbers("4\n"), None);
    }
}
