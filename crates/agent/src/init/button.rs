//! The ACPI power button, which the kernel shows as a keyboard with one key.

#![expect(unsafe_code, reason = "input ioctls have no function in std")]

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

// `linux/input-event-codes.h`.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;
/// `KEY_CNT`, in bytes.
const KEY_BITS: usize = 0x300 / 8;
/// `EVIOCGBIT(EV_KEY, KEY_BITS)`: read, that many bytes, type `E`, number `0x20 + EV_KEY`.
const GET_KEYS: libc::c_ulong = 2 << 30 | (KEY_BITS as libc::c_ulong) << 16 | 0x45 << 8 | 0x21;

/// All input devices that have a power key.
pub(super) struct Buttons {
    devices: Vec<File>,
}

impl Buttons {
    /// Looks through `/dev/input`.
    pub(super) fn find() -> Self {
        let entries = fs::read_dir("/dev/input").into_iter().flatten().flatten();
        let devices = entries
            .filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"event"))
            .filter_map(|entry| {
                OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NONBLOCK)
                    .open(entry.path())
                    .ok()
            })
            .filter(has_power_key)
            .collect();
        Self { devices }
    }

    pub(super) fn fds(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.devices.iter().map(AsRawFd::as_raw_fd)
    }

    /// Reads what a device has to say; true when its power key went down. A device that has gone
    /// is dropped.
    pub(super) fn pressed(&mut self, fd: RawFd) -> bool {
        let Some(at) = self.devices.iter().position(|device| device.as_raw_fd() == fd) else {
            return false;
        };
        const EVENT: usize = size_of::<libc::input_event>();
        let mut events = [0; 16 * EVENT];
        match self.devices[at].read(&mut events) {
            Ok(read) => events[..read].chunks_exact(EVENT).any(is_power_down),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => false,
            Err(_) => {
                self.devices.remove(at);
                false
            }
        }
    }
}

/// An event is its time, then type, code and value, at the end of the structure.
fn is_power_down(event: &[u8]) -> bool {
    let Some(&[t0, t1, c0, c1, v0, v1, v2, v3]) = event.last_chunk::<8>() else { return false };
    u16::from_ne_bytes([t0, t1]) == EV_KEY
        && u16::from_ne_bytes([c0, c1]) == KEY_POWER
        && i32::from_ne_bytes([v0, v1, v2, v3]) == 1
}

fn has_power_key(device: &File) -> bool {
    let mut keys = [0u8; KEY_BITS];
    // SAFETY: the kernel writes at most the number of bytes that is part of the request.
    let returned = unsafe { libc::ioctl(device.as_raw_fd(), GET_KEYS as _, keys.as_mut_ptr()) };
    let power = usize::from(KEY_POWER);
    returned >= 0 && keys[power / 8] & 1 << (power % 8) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_power_key_going_down_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; size_of::<libc::input_event>() - 8];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_power_down(&event(EV_KEY, KEY_POWER, 1)));
        assert!(!is_power_down(&event(EV_KEY, KEY_POWER, 0)), "going up");
        assert!(!is_power_down(&event(EV_KEY, 30, 1)), "another key");
        assert!(!is_power_down(&event(0, 0, 0)), "the end of a report");
    }
}
