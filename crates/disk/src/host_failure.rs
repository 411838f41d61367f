//! Commands of a guest that fail because the host cannot read or write the files of the disk, and not by a fault that
//! a test has added. The guest gets an error all the same; these are for people.

use crate::command::CommandKind;
use crate::state::errno;
use parking_lot::Mutex;
use rustix::io::Errno;
use std::fmt;
use std::io;

/// Why a command of a guest fails.
#[derive(Debug)]
pub(crate) enum CommandError {
    /// A fault or the state of the disk decides so.
    Refused(Errno),
    /// The host cannot read or write the files.
    Host(io::Error),
}

/// A command that failed because of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFailure {
    /// The command of the guest.
    pub kind: CommandKind,
    /// The host's error.
    pub reason: String,
}

/// The commands of a guest that failed because of the host, since the disk was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFailures {
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: HostFailure,
}

type Observer = Box<dyn Fn(&HostFailure) + Send>;

/// The failures so far, and the observer of the first one.
#[derive(Default)]
pub(crate) struct HostFailureLog {
    noted: Mutex<Option<HostFailures>>,
    observer: Mutex<Option<Observer>>,
}

impl HostFailureLog {
    /// The failures. `None`: no command has failed.
    pub(crate) fn failures(&self) -> Option<HostFailures> {
        self.noted.lock().clone()
    }

    /// Calls `observer` for the first failure.
    pub(crate) fn observe(&self, observer: impl Fn(&HostFailure) + Send + 'static) {
        *self.observer.lock() = Some(Box::new(observer));
    }

    /// Notes a failure; returns what the guest gets.
    pub(crate) fn note(&self, kind: CommandKind, error: &io::Error) -> Errno {
        let is_first = {
            let mut noted = self.noted.lock();
            let failures = noted.get_or_insert_with(|| HostFailures {
                count: 0,
                first: HostFailure {
                    kind,
                    reason: error.to_string(),
                },
            });
            failures.count += 1;
            (failures.count == 1).then(|| failures.first.clone())
        };
        if let Some(failure) = is_first
            && let Some(observer) = &*self.observer.lock()
        {
            observer(&failure);
        }
        errno(error)
    }
}

impl fmt::Debug for HostFailureLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.noted.lock().fmt(f)
    }
}

impl fmt::Display for HostFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            CommandKind::Read => "a read",
            CommandKind::Write => "a write",
            CommandKind::WriteZeroes => "a write of zeroes",
            CommandKind::Discard => "a discard",
            CommandKind::Flush => "a flush",
        };
        write!(f, "{kind}: {}", self.reason)
    }
}

impl From<Errno> for CommandError {
    fn from(error: Errno) -> Self {
        Self::Refused(error)
    }
}

impl From<io::Error> for CommandError {
    fn from(error: io::Error) -> Self {
        Self::Host(error)
    }
}

impl From<CommandError> for io::Error {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused(errno) => errno.into(),
            CommandError::Host(error) => error,
        }
    }
}
