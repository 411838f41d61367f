//! A lane of a guest to talk to, and what it takes to tell what went wrong there.

use crate::error::LabError;
use crate::guest::surface::Surface;
use crate::vm::{HandleEpoch, MachineNumber};
use camino::Utf8Path;
use provium_guest::{CallError, ChannelError, LaneHandle};
use provium_protocol::message::{ErrorKind, WireError};
use provium_protocol::op::{Op, Request};

/// A lane, and the call that is made on it.
#[derive(Clone)]
pub(crate) struct Line {
    pub(crate) surface: Surface,
    /// What messages are about: the surface, or something of it.
    pub(crate) subject: String,
    pub(crate) lane: LaneHandle,
    /// When what it is for was made.
    pub(crate) mark: HandleEpoch,
    /// When the call began.
    pub(crate) begun: HandleEpoch,
    /// Which machine it leads to.
    pub(crate) machine: MachineNumber,
    pub(crate) call: String,
}

impl Line {
    /// Makes a request of the lane, and explains what went wrong.
    pub(crate) async fn request<R: Request + Into<Op>>(
        &self,
        request: R,
    ) -> Result<R::Reply, LabError> {
        let reply = self.lane.call(request).await;
        self.checked(reply).await
    }

    pub(crate) async fn checked<T>(&self, result: Result<T, CallError>) -> Result<T, LabError> {
        match result {
            Ok(value) => Ok(value),
            Err(CallError::Remote(error)) => Err(self.remote(error)),
            Err(error) if matches!(error.channel(), Some(ChannelError::Rebooted)) => {
                let why = "the guest was rebooted or reset meanwhile";
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
            Err(_) if self.is_restored() => {
                let why = "the VM was put back to a snapshot meanwhile";
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
            Err(error) => {
                let ended = error.channel().is_some();
                let told = LabError::host(self.subject.clone(), &self.call, error);
                if !ended {
                    return Err(told);
                }
                // The channel may close before it is known why: the VM's end tells more.
                Err(self.surface.vm().explain(&self.call, told).await)
            }
        }
    }

    /// As [`Line::checked`], for what is started with a folder and a user: either may be what is missing.
    pub(crate) async fn checked_start<T>(
        &self,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        let tried = match &result {
            Err(CallError::Remote(error)) if !error.message.starts_with("exec ") => {
                Some(error.message.clone())
            }
            _ => None,
        };
        let mut checked = self.checked(result).await;
        if let (Err(LabError::Guest { detail, .. }), Some(tried)) = (&mut checked, tried) {
            *detail = tried;
        }
        checked
    }

    pub(crate) fn remote(&self, error: WireError) -> LabError {
        let subject = self.subject.clone();
        let call = self.call.clone();
        match error.kind {
            ErrorKind::Os => LabError::Guest {
                subject,
                call,
                errno: error.errno,
                detail: String::new(),
            },
            ErrorKind::LaneDied => LabError::ExecutorDied {
                subject,
                call,
                how: error.message,
            },
            ErrorKind::StaleDescriptor => LabError::gone(
                subject,
                call,
                "the process in the guest that had it has ended",
            ),
            ErrorKind::NoSuchLane => LabError::gone(subject, call, "the worker is gone"),
            ErrorKind::Invalid | ErrorKind::Cancelled | ErrorKind::TooLarge => {
                LabError::invalid(subject, call, error.message)
            }
        }
    }

    pub(crate) fn invalid(&self, why: impl Into<String>) -> LabError {
        LabError::invalid(self.subject.clone(), &self.call, why)
    }

    /// The agent answered a request with a reply of another kind.
    pub(crate) fn unexpected(&self, request: &'static str) -> LabError {
        let error = CallError::Unexpected(request);
        LabError::host(self.subject.clone(), &self.call, error)
    }

    pub(crate) fn host_file(&self, path: &Utf8Path, error: &std::io::Error) -> LabError {
        self.invalid(format!("`{path}` on the host: {error}"))
    }

    pub(crate) fn surface(&self) -> &Surface {
        &self.surface
    }

    /// The same lane, for another call on something else.
    pub(crate) fn about(&self, subject: String, call: impl Into<String>) -> Self {
        Self {
            subject,
            call: call.into(),
            ..self.clone()
        }
    }

    /// The same line in a copy of the VM.
    pub(crate) fn on(&self, surface: Surface) -> Self {
        let machine = surface.vm().machine_number();
        Self {
            surface,
            machine: machine.unwrap_or(self.machine),
            ..self.clone()
        }
    }

    /// The same line to the machine that runs now; an error unless the VM is booted and `what` is
    /// there, which a reset or a restore may have taken away.
    pub(crate) fn ready(&self, what: &str) -> Result<Self, LabError> {
        let vm = self.surface.vm();
        let session = vm.session(&self.call)?;
        if let Some(how) = vm.void(self.mark) {
            let why = format!("{what} is gone: the VM was {how}");
            return Err(LabError::gone(self.subject.clone(), &self.call, why));
        }
        Ok(Self {
            lane: session.lane(self.lane.lane()),
            machine: session.running.number,
            ..self.clone()
        })
    }

    /// The same line for what the guest has just said it made. Its mark is of now and not of when it was
    /// asked: in a snapshot that was taken meanwhile it may not be, and does not count.
    pub(crate) fn made_now(&self) -> Result<Self, LabError> {
        let mark = self.surface.vm().mark();
        if !mark.is_same_epoch(self.begun) {
            let why = "the VM was reset, or put back to a snapshot, meanwhile";
            return Err(LabError::gone(self.subject.clone(), &self.call, why));
        }
        Ok(Self {
            mark,
            ..self.clone()
        })
    }

    /// Whether the VM runs on another machine than it did when this line was made.
    fn is_restored(&self) -> bool {
        let now = self.surface.vm().machine_number();
        now.is_some_and(|now| now != self.machine)
    }
}
