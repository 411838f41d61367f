//! Why a QEMU that was started has no machine to offer.

use std::io;
use std::time::Duration;

use provium_process::Child;
use provium_qmp::QmpError;
use tokio::time::timeout;

use super::stderr::StderrTail;
use crate::error::VmmError;

/// How long a process may take to end after its control socket was closed.
const EXIT_GRACE: Duration = Duration::from_secs(2);

/// The step that failed.
pub(super) enum StartError {
    Control(QmpError),
    /// No answer to this within that time.
    TimedOut(&'static str, Duration),
    /// The saved state cannot be inserted into the machine.
    Saved(io::Error),
}

impl From<QmpError> for StartError {
    fn from(error: QmpError) -> Self {
        Self::Control(error)
    }
}

impl StartError {
    /// The error for the caller: what QEMU itself printed, if it has ended.
    pub(super) async fn explain(
        self,
        machine: String,
        child: &Child,
        stderr: StderrTail,
    ) -> VmmError {
        let source = match self {
            Self::Control(source) => source,
            Self::TimedOut(command, deadline) => {
                return VmmError::Unresponsive {
                    machine,
                    command: command.to_owned(),
                    deadline,
                };
            }
            Self::Saved(source) => return VmmError::Restore { machine, source },
        };
        match timeout(EXIT_GRACE, child.wait()).await {
            Ok(Ok(exit)) => VmmError::DiedAtStart {
                machine,
                exit,
                stderr: stderr.finish().await,
            },
            Ok(Err(error)) => error.into(),
            Err(_) => VmmError::Control { machine, source },
        }
    }
}
