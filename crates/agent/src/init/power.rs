//! Power-off: on a request, and when the power button is pressed.

use crate::roots;
use crate::sys::boot::{self, Stop};
use crate::sys::process::{self, ForkSide};
use crate::sys::{Sys, fd, file};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How often to look for a button whose driver is still probing.
const LOOKS: u32 = 10;

/// Stops the machine, from a child: writing caches back may take long, and the router must not wait.
pub(crate) fn stop(how: Stop) {
    match process::fork(0) {
        Ok(ForkSide::Child) => {
            boot::stop(how);
            process::exit(1)
        }
        Ok(ForkSide::Parent(_)) => {}
        Err(_) => {
            boot::stop(how);
        }
    }
}

/// The machine's power button.
#[derive(Debug, Default)]
pub(crate) struct PowerButton {
    devices: Vec<OwnedFd>,
    looks: u32,
    next_look: Option<Instant>,
}

impl PowerButton {
    /// Finds it, now or within a few seconds.
    pub(crate) fn find() -> Self {
        let mut button = Self {
            looks: LOOKS,
            ..Self::default()
        };
        button.look(Instant::now());
        button
    }

    pub(crate) fn each(&self, mut add: impl FnMut(RawFd)) {
        for device in &self.devices {
            add(device.as_raw_fd());
        }
    }

    /// When to [look](Self::look) again.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.next_look
    }

    pub(crate) fn look(&mut self, now: Instant) {
        if self.looks == 0 || self.next_look.is_some_and(|next| now < next) {
            return;
        }
        self.devices = devices().unwrap_or_default();
        self.looks = if self.devices.is_empty() {
            self.looks - 1
        } else {
            0
        };
        self.next_look = (self.looks > 0).then(|| now + LOOK_INTERVAL);
    }

    /// Reads the events of the devices, and powers off if the button was pressed.
    pub(crate) fn handle_events(&mut self) {
        const EVENT: usize = 24;
        let mut events = [0; 16 * EVENT];
        let mut stops = false;
        self.devices
            .retain(|device| match fd::read(device.as_raw_fd(), &mut events) {
                Ok(len) => {
                    stops |= events[..len].chunks_exact(EVENT).any(is_power_press);
                    true
                }
                Err(crate::sys::Errno::AGAIN | crate::sys::Errno::INTR) => true,
                Err(_) => false,
            });
        if stops {
            stop(Stop::PowerOff);
        }
    }
}

/// `struct input_event`: a time of 16 bytes, type, code, value.
fn is_power_press(event: &[u8]) -> bool {
    const EV_KEY: [u8; 2] = 1_u16.to_ne_bytes();
    const KEY_POWER: [u8; 2] = 116_u16.to_ne_bytes();
    const DOWN: [u8; 4] = 1_i32.to_ne_bytes();
    event[16..18] == EV_KEY && event[18..20] == KEY_POWER && event[20..24] == DOWN
}

fn devices() -> Sys<Vec<OwnedFd>> {
    let folder = file::open_at(roots::DEV, c"input", libc::O_RDONLY | libc::O_DIRECTORY, 0)?;
    let number = folder.as_raw_fd();
    let entries = file::list(file::open_at(
        number,
        c".",
        libc::O_RDONLY | libc::O_DIRECTORY,
        0,
    )?)?;
    let names = entries
        .into_iter()
        .filter(|entry| entry.name.starts_with(b"event"));
    let devices = names.filter_map(|entry| {
        let name = file::path(&entry.name).ok()?;
        let device = file::open_at(number, &name, libc::O_RDONLY | libc::O_NONBLOCK, 0).ok()?;
        boot::has_power_key(device.as_raw_fd()).then_some(device)
    });
    Ok(devices.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pressing_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_power_press(&event(1, 116, 1)));
        assert!(!is_power_press(&event(1, 116, 0)));
        assert!(!is_power_press(&event(1, 30, 1)));
        assert!(!is_power_press(&event(0, 0, 0)));
    }
}
