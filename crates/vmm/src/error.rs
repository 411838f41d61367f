//! What goes wrong between a specification and a running machine.

use std::io;
use std::time::Duration;

use camino::Utf8PathBuf;
use provium_process::{Exit, ProcessError};
use provium_qmp::{QmpError, Version};

/// Why a machine could not be had, or did not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum VmmError {
    /// QEMU, or a thread to start it from, is missing.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The program does not say which QEMU it is.
    #[error("`{path}` does not tell its version, it says `{said}`")]
    NotQemu {
        /// The program.
        path: Utf8PathBuf,
        /// The first line of its answer.
        said: String,
    },
    /// A QEMU that lacks what is needed.
    #[error("`{path}` is QEMU {version}, and {oldest} or later is needed")]
    TooOld {
        /// The program.
        path: Utf8PathBuf,
        /// Its version.
        version: Version,
        /// The oldest that will do.
        oldest: Version,
    },
    /// KVM was demanded, and it does not work here.
    #[error("KVM was asked for, but {why}")]
    KvmUnusable {
        /// What happened when it was tried.
        why: String,
    },
    /// Nothing here runs a guest.
    #[error("neither accelerator runs a guest: {why}; TCG fails: {how}")]
    NoAccelerator {
        /// Why it is not KVM.
        why: String,
        /// What happened when TCG was tried.
        how: String,
    },
    /// The specification asks for something no machine has.
    #[error("machine `{machine}`: {why}")]
    Specification {
        /// The machine's name.
        machine: String,
        /// What is wrong.
        why: String,
    },
    /// A file the machine starts from cannot be read.
    #[error("machine `{machine}` cannot start from `{path}`")]
    Unreadable {
        /// The machine's name.
        machine: String,
        /// The kernel or initrd.
        path: Utf8PathBuf,
        /// The host kernel's word.
        source: io::Error,
    },
    /// The host refused a socket, a file or memory.
    #[error("the host refuses {what} for machine `{machine}`")]
    Host {
        /// The machine's name.
        machine: String,
        /// What was asked of it.
        what: &'static str,
        /// Its word.
        source: io::Error,
    },
    /// QEMU ended before the machine ran.
    #[error("QEMU {exit} while machine `{machine}` was starting{}", told(.stderr))]
    DiedAtStart {
        /// The machine's name.
        machine: String,
        /// How it ended.
        exit: Exit,
        /// The end of what it wrote to standard error.
        stderr: String,
    },
    /// What was saved cannot be put into a machine.
    #[error("machine `{machine}` cannot be restored")]
    Restore {
        /// The machine's name.
        machine: String,
        /// Why.
        source: io::Error,
    },
    /// A machine cannot be written down.
    #[error("machine `{machine}` cannot be saved into `{folder}`")]
    Save {
        /// The machine's name.
        machine: String,
        /// Where to.
        folder: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// QEMU's control socket says nothing.
    #[error("QEMU did not answer `{command}` for machine `{machine}` within {deadline:?}")]
    Unresponsive {
        /// The machine's name.
        machine: String,
        /// What it was asked.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
    /// QEMU refused a command, or ended during one.
    #[error("machine `{machine}`")]
    Control {
        /// The machine's name.
        machine: String,
        /// QEMU's words.
        source: QmpError,
    },
    /// QEMU's monitor for people says something that is not understood.
    #[error("machine `{machine}`: QEMU's monitor says `{said}`")]
    Monitor {
        /// The machine's name.
        machine: String,
        /// Its words.
        said: String,
    },
    /// QEMU's gdbstub does not do what waking a guest needs.
    #[error("machine `{machine}`: QEMU's gdbstub, which wakes its guest, fails")]
    Stub {
        /// The machine's name.
        machine: String,
        /// Why.
        source: io::Error,
    },
    /// A guest ran with what its waking had taken away.
    #[error(
        "machine `{machine}`: its guest was woken, but ran on before the chipset was set up again, and \
         may do anything now: a debugger that is connected keeps the host from stopping it in time \
         (disconnect it while the guest sleeps)"
    )]
    WokeTooFar {
        /// The machine's name.
        machine: String,
    },
    /// The process's figures cannot be read.
    #[error("machine `{machine}`: the figures of its process cannot be read")]
    Usage {
        /// The machine's name.
        machine: String,
        /// The host kernel's word.
        source: io::Error,
    },
}

impl VmmError {
    /// Whether it says that the saved machine itself cannot be used, and not only that the host could
    /// not start it: a process limit, a lack of memory or a killed QEMU damages nothing.
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

/// What QEMU says where the host lacks something: the texts of ENOMEM, EAGAIN, EMFILE, ENFILE and
/// ENOSPC.
const SHORTAGES: [&str; 5] = [
    "Cannot allocate memory",
    "Resource temporarily unavailable",
    "Too many open files",
    "Too many open files in system",
    "No space left on device",
];

/// Whether reading a file failed because of what it holds, or because it is not there.
pub fn is_of_content(error: &io::Error) -> bool {
    use io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound
        | ErrorKind::InvalidData
        | ErrorKind::UnexpectedEof
        | ErrorKind::IsADirectory
        | ErrorKind::NotADirectory => true,
        // An error of ours carries no number of the kernel's; `EIO` is the disk's.
        _ => os_error(error).is_none_or(|number| number == EIO),
    }
}

/// The kernel's number for it. `fs_err` keeps it one or two layers below.
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

fn told(stderr: &str) -> String {
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
    fn what_the_host_lacks_is_no_damage() {
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
