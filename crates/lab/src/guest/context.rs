//! Where a call goes, and how its errors are described.

use crate::error::LabError;
use crate::guest::surface::Surface;
use crate::vm::{HandleEpoch, MachineNumber};
use camino::Utf8Path;
use provium_guest::{CallError, ChannelError, LaneHandle};
use provium_protocol::message::{ErrorKind, WireError};
use provium_protocol::op::{Op, Request};

/// Where a call goes, with the names that its errors use.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) surface: Surface,
    /// The subject of messages: the VM or worker, or an object of it.
    pub(crate) subject: String,
    pub(crate) lane: LaneHandle,
    /// When the subject was made.
    pub(crate) mark: HandleEpoch,
    /// When the call began.
    pub(crate) begun: HandleEpoch,
    /// The machine that the lane is of.
    pub(crate) machine: MachineNumber,
    pub(crate) call: String,
}

impl CallContext {
    /// Makes a request of the lane, and explains what went wrong.
    pub(crate) async fn request<R: Request + Into<Op>>(
        &self,
        request: R,
    ) -> Result<R::Reply, LabError> {
        let reply = self.lane.call(request).await;
        self.explain(reply).await
    }

    pub(crate) async fn explain<T>(&self, result: Result<T, CallError>) -> Result<T, LabError> {
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
                let error = LabError::host(self.subject.clone(), &self.call, error);
                if !ended {
                    return Err(error);
                }
                // The channel may close before the cause is known: the VM's end explains more.
                Err(self.surface.vm().explain(&self.call, error).await)
            }
        }
    }

    /// As [`CallContext::explain`], of a command or worker: its working directory or user may be what is
    /// missing.
    pub(crate) async fn explain_start<T>(
        &self,
        result: Result<T, CallError>,
    ) -> Result<T, LabError> {
        let tried = match &result {
            Err(CallError::Remote(error)) if !error.message.starts_with("exec ") => {
                Some(error.message.clone())
            }
            _ => None,
        };
        let mut checked = self.explain(result).await;
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

    /// The same lane, for another call on another subject.
    pub(crate) fn with_subject(&self, subject: String, call: impl Into<String>) -> Self {
        Self {
            subject,
            call: call.into(),
            ..self.clone()
        }
    }

    /// The same context in a clone of the VM.
    pub(crate) fn rebind(&self, surface: Surface) -> Self {
        let machine = surface.vm().machine_number();
        Self {
            surface,
            machine: machine.unwrap_or(self.machine),
            ..self.clone()
        }
    }

    /// The same context on the machine that runs now; an error unless the VM is booted and `what` is there,
    /// which a reset or a restore may have taken away.
    pub(crate) fn validate(&self, what: &str) -> Result<Self, LabError> {
        let session = self.surface.vm().session(&self.call)?;
        self.check_epoch(what)?;
        Ok(Self {
            lane: session.lane(self.lane.lane()),
            machine: session.running.number,
            ..self.clone()
        })
    }

    /// Whether `what` is there still, which a reset or a restore may have taken away.
    pub(crate) fn check_epoch(&self, what: &str) -> Result<(), LabError> {
        match self.surface.vm().void(self.mark) {
            None => Ok(()),
            Some(how) => {
                let why = format!("{what} is gone: the VM was {how}");
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
        }
    }

    /// The same context for what the guest has just made. Its mark is of now and not of when the request was
    /// made: a snapshot that was taken meanwhile may not contain it.
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

    /// Whether the VM runs on another machine than it did when the context was made.
    fn is_restored(&self) -> bool {
        let now = self.surface.vm().machine_number();
        now.is_some_and(|now| now != self.machine)
    }
}
