//! Where a call goes, and the names that its errors use.

use crate::error::LabError;
use crate::guest::target::Target;
use crate::resource::{Generation, GuestChange, HandleEpoch};
use camino::Utf8Path;
use provium_guest::{CallError, LaneHandle};
use provium_protocol::Lane;

/// The context of a call, or of the calls on a handle.
#[derive(Clone)]
pub(crate) struct CallContext {
    pub(crate) target: Target,
    /// The subject of messages: the VM or worker, or a handle in it.
    pub(crate) subject: String,
    /// The call, as the author wrote it.
    pub(crate) call: String,
    pub(crate) lane: LaneHandle,
    /// When the subject was made.
    pub(crate) epoch: HandleEpoch,
    /// When the call began.
    begun: HandleEpoch,
    /// The machine of the lane.
    generation: Generation,
}

impl CallContext {
    /// The context of a call that the target's process carries out.
    ///
    /// # Errors
    /// Unless the VM is booted and the worker is there.
    pub(crate) fn new(target: &Target, call: impl Into<String>) -> Result<Self, LabError> {
        Self::on_lane(target, call.into(), target.lane())
    }

    /// The context of a call that the agent itself carries out, for the target.
    ///
    /// # Errors
    /// As of [`CallContext::new`].
    pub(crate) fn of_agent(target: &Target, call: impl Into<String>) -> Result<Self, LabError> {
        Self::on_lane(target, call.into(), Lane::AGENT)
    }

    fn on_lane(target: &Target, call: String, lane: Lane) -> Result<Self, LabError> {
        let subject = target.subject();
        if let Some(why) = target.why_gone() {
            return Err(LabError::gone(subject, call, why));
        }
        let link = target.vm().booted(&call)?;
        let begun = target.epoch();
        let context = Self {
            target: target.clone(),
            subject,
            call,
            lane: link.channel.lane(lane),
            epoch: target.worker().map_or(begun, |worker| worker.epoch),
            begun,
            generation: link.generation,
        };
        context.check_epoch("the worker")?;
        Ok(context)
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
    pub(crate) fn rebind(&self, target: Target) -> Self {
        let generation = target.vm().link().map(|now| now.generation);
        Self {
            target,
            generation: generation.unwrap_or(self.generation),
            ..self.clone()
        }
    }

    /// The same context on the machine that runs now.
    ///
    /// # Errors
    /// Unless the VM is booted, and `what` was not invalidated by a reset or a restore.
    pub(crate) fn validate(&self, what: &str) -> Result<Self, LabError> {
        let link = self.target.vm().booted(&self.call);
        let link = link.map_err(|error| error.of_subject(&self.subject))?;
        self.check_epoch(what)?;
        Ok(Self {
            lane: link.channel.lane(self.lane.lane()),
            generation: link.generation,
            ..self.clone()
        })
    }

    /// An error if a reset or a restore has invalidated `what`.
    fn check_epoch(&self, what: &str) -> Result<(), LabError> {
        match self.target.why_invalid(self.epoch) {
            None => Ok(()),
            Some(change) => {
                let state = match change {
                    GuestChange::Restore => "restored to a state without it".to_owned(),
                    other => other.to_string(),
                };
                let why = format!("{what} is gone: the VM was {state}");
                Err(LabError::gone(self.subject.clone(), &self.call, why))
            }
        }
    }

    /// The same context for an object that the guest has just made. Its epoch is the present one, not that of the
    /// request: a snapshot that was taken meanwhile may not contain it.
    pub(crate) fn made_now(&self) -> Result<Self, LabError> {
        let epoch = self.target.epoch();
        if !epoch.is_same_epoch(self.begun) {
            let why = "the VM was reset, or restored to a snapshot, meanwhile";
            return Err(LabError::gone(self.subject.clone(), &self.call, why));
        }
        Ok(Self {
            epoch,
            ..self.clone()
        })
    }

    /// Whether the VM runs on another machine than it did when the context was made.
    pub(crate) fn is_on_other_machine(&self) -> bool {
        let now = self.target.vm().link();
        now.is_some_and(|now| now.generation != self.generation)
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
}
