//! Errors of starting, saving and controlling machines.

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;
use provium_process::{Exit, ProcessError};
use provium_qmp::{QmpError, Version};

use crate::device::{DeviceSlot, DiskSlot};

/// Why a machine could not be started, or a command to it failed.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// QEMU, or a thread to start it from, is missing.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program does not print a version of QEMU.
    #[error("`{path}` is not QEMU: `--version` prints `{said}`")]
    NotQemu {
        /// The program.
        path: Utf8PathBuf,
        /// The first line that it prints.
        said: String,
    },
    /// A QEMU that is too old.
    #[error("`{path}` is QEMU {version}, and {oldest} or later is needed")]
    TooOld {
        /// The program.
        path: Utf8PathBuf,
        /// Its version.
        version: Version,
        /// The oldest that will do.
        oldest: Version,
    },
    /// KVM was requested, and does not work here.
    #[error("KVM was requested, but {why}")]
    KvmUnusable {
        /// What happened when it was tried.
        why: String,
    },
    /// No accelerator runs a guest.
    #[error("neither accelerator runs a guest: {why}; TCG fails: {how}")]
    NoAccelerator {
        /// Why it is not KVM.
        why: String,
        /// What happened when TCG was tried.
        how: String,
    },
    /// The specification cannot be met by any machine.
    #[error("machine `{machine}`: {why}")]
    Specification {
        /// The machine's name.
        machine: String,
        /// What is wrong.
        why: String,
    },
    /// A file that the machine starts from cannot be read.
    #[error("cannot start machine `{machine}` from `{path}`")]
    Unreadable {
        /// The machine's name.
        machine: String,
        /// The kernel or initrd.
        path: Utf8PathBuf,
        /// The error of the host's kernel.
        source: io::Error,
    },
    /// The host has no socket, file or memory left.
    #[error("cannot get {what} for machine `{machine}`")]
    Host {
        /// The machine's name.
        machine: String,
        /// What it was asked for.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
    /// QEMU ended before the machine ran.
    #[error("QEMU {exit} while machine `{machine}` was starting{}", printed(.stderr))]
    DiedAtStart {
        /// The machine's name.
        machine: String,
        /// How it ended.
        exit: Exit,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// Saved state cannot be loaded into a machine.
    #[error("cannot restore machine `{machine}`")]
    Restore {
        /// The machine's name.
        machine: String,
        /// Why.
        source: io::Error,
    },
    /// A machine cannot be saved.
    #[error("cannot save machine `{machine}` in `{folder}`")]
    Save {
        /// The machine's name.
        machine: String,
        /// Where to.
        folder: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU does not answer on its control socket.
    #[error("QEMU did not answer `{command}` for machine `{machine}` within {deadline:?}")]
    Unresponsive {
        /// The machine's name.
        machine: String,
        /// The command.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
    /// QEMU refused a command, or ended during one.
    #[error("machine `{machine}`")]
    Control {
        /// The machine's name.
        machine: String,
        /// QEMU's error.
        source: QmpError,
    },
    /// QEMU's human monitor prints something unexpected.
    #[error("machine `{machine}`: unexpected output of QEMU's monitor: `{said}`")]
    Monitor {
        /// The machine's name.
        machine: String,
        /// Its output.
        said: String,
    },
    /// QEMU's gdbstub, which a wakeup needs, fails.
    #[error("machine `{machine}`: waking the guest by QEMU's gdbstub failed")]
    Stub {
        /// The machine's name.
        machine: String,
        /// Why.
        source: io::Error,
    },
    /// A guest ran before its registers were restored.
    #[error(
        "machine `{machine}`: the guest ran before the chipset was set up again after the wakeup, and its \
         state is undefined: a connected debugger keeps the host from stopping it in time (disconnect it \
         while the guest sleeps)"
    )]
    ResumedTooLate {
        /// The machine's name.
        machine: String,
    },
    /// A device cannot be plugged, unplugged or changed.
    #[error("machine `{machine}`: {slot} {why}")]
    Slot {
        /// The machine's name.
        machine: String,
        /// The device's place.
        slot: DeviceSlot,
        /// What is wrong.
        why: String,
    },
    /// The guest keeps a device that is to be unplugged.
    #[error(
        "machine `{machine}`: the guest has not released the {kind} in slot {index} within {deadline:?}: it is \
         paused or hangs, or its kernel lacks ACPI hot-plug (`CONFIG_HOTPLUG_PCI_ACPI`)",
        kind = slot.kind(), index = slot.index()
    )]
    NotReleased {
        /// The machine's name.
        machine: String,
        /// The device's place.
        slot: DeviceSlot,
        /// How long it had.
        deadline: Duration,
    },
    /// The export of an NBD server cannot be used as a disk.
    #[error("machine `{machine}`: cannot use the NBD server at `{socket}` for disk slot {slot}", slot = slot.index())]
    Export {
        /// The machine's name.
        machine: String,
        /// The disk's place.
        slot: DiskSlot,
        /// The server's socket.
        socket: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The usage of its process cannot be read.
    #[error("machine `{machine}`: cannot read the usage of its process")]
    Usage {
        /// The machine's name.
        machine: String,
        /// The error of the host's kernel.
        source: io::Error,
    },
}

impl VmmError {
    /// Whether the saved machine itself is unusable, and not only the host unable to start it: a process limit, a
    /// lack of memory or a killed QEMU damages nothing.
    pub fn is_of_saved_state(&self) -> bool {
        match self {
            Self::Restore { source, .. } | Self::Unreadable { source, .. } => is_of_content(source),
            Self::DiedAtStart { exit, stderr, .. } => {
                matches!(exit, Exit::Exited(_)) && !SHORTAGES.iter().any(|it| stderr.contains(it))
            }
            _ => false,
        }
    }
}

/// What QEMU prints when the host lacks something: the texts of ENOMEM, EAGAIN, EMFILE, ENFILE and
/// ENOSPC.
const SHORTAGES: [&str; 5] = [
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "Too many open files",
    "Too many open files in system",
    "No space left on device",
];

/// Whether reading a file failed because of its content, or because it does not exist.
pub fn is_of_content(error: &io::Error) -> bool {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::InvalidData
        | ErrorKind::UnexpectedEof
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory => true,
        // An error of our own has no error number; `EIO` is the disk's.
        _ => os_error(error).is_none_or(|number| number == EIO),
    }
}

/// The error number, which `fs_err` keeps one or two layers below.
fn os_error(error: &io::Error) -> Option<i32> {
    let mut found = error.raw_os_error();
    let mut cause = error
        .get_ref()
        .map(|inner| inner as &(dyn std::error::Error + 'static));
    while let (None, Some(inner)) = (found, cause) {
        found = inner
            .downcast_ref::<io::Error>()
            .and_then(io::Error::raw_os_error);
        cause = inner.source();
    }
    found
}

const EIO: i32 = 5;

fn printed(stderr: &str) -> String {
    if stderr.is_empty() {
        String::new()
    } else {
        format!(": {stderr}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shortage_of_the_host_is_not_damage() {
        let restore = |source| VmmError::Restore {
            machine: "v".to_owned(),
            source,
        };
        let died = |exit, stderr: &str| VmmError::DiedAtStart {
            machine: "v".to_owned(),
            exit,
            stderr: stderr.to_owned(),
        };
        let number = io::Error::from_raw_os_error;
        for (error, damage) in [
            (restore(io::ErrorKind::UnexpectedEof.into()), true),
            (
                restore(io::Error::other("page 7 is not of this memory")),
                true,
            ),
            (restore(number(2)), true),
            (restore(number(5)), true),
            (restore(number(24)), false),
            (restore(number(11)), false),
            (restore(io::Error::other(number(24))), false),
            (died(Exit::Exited(1), "Unknown savevm section"), true),
            (
                died(
                    Exit::Exited(1),
                    "qemu: cannot set up guest memory 'ram': Cannot allocate memory",
                ),
                false,
            ),
            (died(Exit::Signalled(9), ""), false),
        ] {
            assert_eq!(error.is_of_saved_state(), damage, "{error}");
        }
    }
}
