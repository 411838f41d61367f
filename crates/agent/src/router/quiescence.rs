//! The state in which a copy of the guest can be taken.
//!
//! ```text
//! running ─ Quiesce ─▶ draining ─ nothing in flight, Done ─▶ quiesced ─ any frame ─▶ resuming ─▶ running
//! ```
//!
//! While draining, the executor is read from until the messages that it has begun are complete, and
//! programs that need modules get their replies. While quiesced, the router writes nothing; its output
//! waits. It does not know whether the guest is copied: it continues as if nothing had happened.
//!
//! Until a copy has its identity, its processes draw the same random numbers as those of the next copy. So
//! from the reply on, which the host answers by pausing the machine, until the first request has been
//! carried out, the router occupies the CPUs and no other task runs.

use super::effect::Effect;
use crate::failure;
use provium_protocol::{CallId, FrameKind, Lane, Reply};
use std::collections::BTreeSet;

#[derive(Debug, Default)]
pub(super) struct Quiescence {
    phase: Phase,
    /// Calls with a message to the host of which only a part has been sent.
    open_messages: BTreeSet<(Lane, CallId)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Phase {
    #[default]
    Running,
    /// On behalf of this call.
    Draining(CallId),
    Quiesced,
    /// The host has sent something again; `requested`: a request, or the sign that the guest is not a copy.
    Resuming {
        requested: bool,
    },
}

impl Quiescence {
    pub(super) fn begin(&mut self, call: CallId) {
        self.phase = Phase::Draining(call);
    }

    /// Notes a part of a message that the executor sends; `more`: it is not the last one.
    pub(super) fn on_message_part(&mut self, call: (Lane, CallId), more: bool) {
        if more {
            self.open_messages.insert(call);
        } else {
            self.open_messages.remove(&call);
        }
    }

    pub(super) fn on_executor_ended(&mut self) {
        self.open_messages.clear();
    }

    /// Whether the executor may send to the host.
    pub(super) fn may_send(&self) -> bool {
        match self.phase {
            Phase::Running | Phase::Resuming { .. } => true,
            Phase::Draining(_) => !self.open_messages.is_empty(),
            Phase::Quiesced => false,
        }
    }

    /// Whether programs that need modules are served.
    pub(super) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running | Phase::Resuming { .. })
    }

    /// Whether the host's first request since the guest was quiesced is being carried out, which may be in a copy.
    pub(super) fn is_resuming(&self) -> bool {
        matches!(self.phase, Phase::Resuming { .. })
    }

    /// Quiesces once nothing is in flight; `awaits_host`: the host still has a request to answer. Returns whether
    /// it does.
    pub(super) fn advance(&mut self, awaits_host: bool, effects: &mut Vec<Effect>) -> bool {
        let Phase::Draining(call) = self.phase else {
            return false;
        };
        if !self.open_messages.is_empty() || awaits_host {
            return false;
        }
        self.phase = Phase::Quiesced;
        effects.extend([
            Effect::OccupyCpus,
            Effect::Reply(Lane::AGENT, call, Ok(Reply::Done)),
            Effect::HoldOutput,
        ]);
        true
    }

    /// The host has sent a frame; `None`: the start of a session.
    pub(super) fn on_frame(&mut self, kind: Option<FrameKind>, effects: &mut Vec<Effect>) {
        // A copy is sent its identity as the first request. What precedes it, if anything, belongs to
        // calls that were open. A guest that is not a copy is sent a ping.
        let is_request = matches!(
            kind,
            None | Some(FrameKind::Request | FrameKind::Cancel | FrameKind::Ping)
        );
        match &mut self.phase {
            Phase::Running | Phase::Draining(_) => {}
            Phase::Quiesced => {
                self.phase = Phase::Resuming {
                    requested: is_request,
                };
                effects.push(Effect::ReleaseOutput);
            }
            Phase::Resuming { requested } => *requested |= is_request,
        }
    }

    /// Ends the resumption when the first request has been carried out, or when the CPUs can no longer be
    /// kept (`is_late`).
    pub(super) fn finish(&mut self, is_late: bool, effects: &mut Vec<Effect>) {
        if let Phase::Resuming { requested } = self.phase
            && (requested || is_late)
        {
            self.phase = Phase::Running;
            effects.push(Effect::YieldCpus);
        }
    }

    /// The host gives up the call to quiesce.
    pub(super) fn cancel(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        if self.phase == Phase::Draining(call) {
            self.phase = Phase::Running;
            effects.push(Effect::Reply(Lane::AGENT, call, Err(failure::cancelled())));
        }
    }

    /// A new session begins: calls of the old one need no reply.
    pub(super) fn reset(&mut self) {
        if matches!(self.phase, Phase::Draining(_)) {
            self.phase = Phase::Running;
        }
        self.open_messages.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: CallId = CallId(7);
    const SPEAKER: (Lane, CallId) = (Lane::VM, CallId(3));

    fn quiesced_by(quiescence: &mut Quiescence, awaits_host: bool) -> bool {
        let mut effects = Vec::new();
        let quiesces = quiescence.advance(awaits_host, &mut effects);
        let expected = [
            Effect::OccupyCpus,
            Effect::Reply(Lane::AGENT, CALL, Ok(Reply::Done)),
            Effect::HoldOutput,
        ];
        assert_eq!(effects, if quiesces { expected.as_slice() } else { &[] });
        quiesces
    }

    fn resumed_by(quiescence: &mut Quiescence, kind: Option<FrameKind>, is_late: bool) -> bool {
        let mut effects = Vec::new();
        quiescence.on_frame(kind, &mut effects);
        quiescence.finish(is_late, &mut effects);
        effects.contains(&Effect::YieldCpus)
    }

    fn quiesced() -> Quiescence {
        let mut quiescence = Quiescence::default();
        quiescence.begin(CALL);
        assert!(quiesced_by(&mut quiescence, false));
        quiescence
    }

    #[test]
    fn a_guest_resumes_until_its_first_request_is_carried_out() {
        let mut quiescence = Quiescence::default();
        assert!(!quiescence.is_resuming());
        quiescence.begin(CALL);
        assert!(quiesced_by(&mut quiescence, false));
        assert!(!quiescence.is_resuming());
        let mut effects = Vec::new();
        quiescence.on_frame(Some(FrameKind::Request), &mut effects);
        assert!(quiescence.is_resuming());
        quiescence.finish(false, &mut effects);
        assert!(!quiescence.is_resuming());
    }

    #[test]
    fn only_messages_that_were_begun_are_sent_while_draining() {
        let mut quiescence = Quiescence::default();
        assert!(quiescence.may_send());
        quiescence.on_message_part(SPEAKER, true);
        quiescence.begin(CALL);
        assert!(!quiesced_by(&mut quiescence, false));
        assert!(quiescence.may_send());
        assert!(!quiescence.is_running());
        quiescence.on_message_part(SPEAKER, false);
        assert!(!quiescence.may_send());
        assert!(quiesced_by(&mut quiescence, false));
        assert!(!quiescence.may_send());
    }

    #[test]
    fn an_unanswered_request_to_the_host_delays_it() {
        let mut quiescence = Quiescence::default();
        quiescence.begin(CALL);
        assert!(!quiesced_by(&mut quiescence, true));
        assert!(quiesced_by(&mut quiescence, false));
    }

    #[test]
    fn the_end_of_the_executor_completes_what_it_was_sending() {
        let mut quiescence = Quiescence::default();
        quiescence.on_message_part(SPEAKER, true);
        quiescence.begin(CALL);
        quiescence.on_executor_ended();
        assert!(quiesced_by(&mut quiescence, false));
    }

    #[test]
    fn output_is_released_by_any_frame_and_the_cpus_by_the_first_request() {
        for kind in [FrameKind::Credit, FrameKind::Data, FrameKind::End] {
            let mut quiescence = quiesced();
            let mut effects = Vec::new();
            quiescence.on_frame(Some(kind), &mut effects);
            assert_eq!(effects, [Effect::ReleaseOutput]);
            assert!(quiescence.may_send());
            assert!(!resumed_by(&mut quiescence, Some(kind), false));
            assert!(resumed_by(&mut quiescence, Some(FrameKind::Request), false));
        }
        for kind in [None, Some(FrameKind::Ping), Some(FrameKind::Request)] {
            assert!(resumed_by(&mut quiesced(), kind, false), "{kind:?}");
        }
    }

    #[test]
    fn the_request_that_ends_the_resumption_may_be_to_quiesce_again() {
        let mut quiescence = quiesced();
        let mut effects = Vec::new();
        quiescence.on_frame(Some(FrameKind::Ping), &mut effects);
        quiescence.on_frame(Some(FrameKind::Request), &mut effects);
        quiescence.begin(CALL);
        quiescence.finish(false, &mut effects);
        assert_eq!(effects, [Effect::ReleaseOutput], "begun without the CPUs");
        assert!(quiesced_by(&mut quiescence, false));
    }

    #[test]
    fn the_cpus_are_released_when_their_time_is_over() {
        let mut quiescence = quiesced();
        assert!(resumed_by(&mut quiescence, Some(FrameKind::Data), true));
        assert!(!resumed_by(&mut quiescence, Some(FrameKind::Data), true));
    }

    #[test]
    fn only_its_own_call_can_be_cancelled_and_only_while_draining() {
        let mut quiescence = Quiescence::default();
        quiescence.on_message_part(SPEAKER, true);
        quiescence.begin(CALL);
        let mut effects = Vec::new();
        quiescence.cancel(CallId(8), &mut effects);
        assert_eq!(effects, []);
        quiescence.cancel(CALL, &mut effects);
        let cancelled = Effect::Reply(Lane::AGENT, CALL, Err(failure::cancelled()));
        assert_eq!(effects, [cancelled]);
        assert!(quiescence.is_running());
        let mut effects = Vec::new();
        quiesced().cancel(CALL, &mut effects);
        assert_eq!(effects, []);
    }

    #[test]
    fn a_new_session_ends_the_draining_without_a_reply() {
        let mut quiescence = Quiescence::default();
        quiescence.on_message_part(SPEAKER, true);
        quiescence.begin(CALL);
        quiescence.reset();
        assert!(quiescence.is_running());
        assert!(!quiesced_by(&mut quiescence, false));
    }
}
