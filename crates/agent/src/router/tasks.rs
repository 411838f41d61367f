//! Requests to lane 0, which the router carries out itself: figures, quiesce, identity, power.

use super::configuration_request::ConfigurationRequest;
use super::effect::Effect;
use crate::failure;
use crate::network::NetworkRequest;
use provium_protocol::frame::Assembler;
use provium_protocol::{AgentOp, CallId, Frame, Lane, WireError, codec};
use std::collections::BTreeMap;

/// Requests that have arrived in part.
#[derive(Debug, Default)]
pub(super) struct Tasks {
    partial: BTreeMap<CallId, Assembler>,
}

impl Tasks {
    pub(super) fn on_request(&mut self, frame: &Frame, effects: &mut Vec<Effect>) {
        let call = frame.call;
        let message = match self.partial.entry(call).or_default().push(frame) {
            Ok(None) => return,
            Ok(Some(message)) => decode(&message),
            Err(_) => Err(failure::invalid("too long a request")),
        };
        self.partial.remove(&call);
        match message {
            Ok(op) => begin(op, call, effects),
            Err(error) => effects.push(Effect::Reply(Lane::AGENT, call, Err(error))),
        }
    }

    pub(super) fn on_cancel(&mut self, call: CallId) {
        self.partial.remove(&call);
    }

    /// A new session begins.
    pub(super) fn reset(&mut self) {
        self.partial.clear();
    }
}

fn decode(message: &[u8]) -> Result<AgentOp, WireError> {
    codec::decode(message).map_err(|_| failure::invalid("the request cannot be read"))
}

fn begin(op: AgentOp, call: CallId, effects: &mut Vec<Effect>) {
    match op {
        AgentOp::Stats => effects.push(Effect::Stats(call)),
        AgentOp::Quiesce => effects.push(Effect::Quiesce(call)),
        AgentOp::SetIdentity(request) => effects.push(Effect::SetIdentity(call, request)),
        AgentOp::SetNetwork(request) => {
            let request = NetworkRequest::Set(request);
            effects.push(Effect::Configure(call, request.into()));
        }
        AgentOp::ReadNicCounters(request) => {
            let request = NetworkRequest::Count(request);
            effects.push(Effect::Configure(call, request.into()));
        }
        AgentOp::SetDisks(request) => {
            let request = ConfigurationRequest::Disks(request);
            effects.push(Effect::Configure(call, request));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::OpResult;
    use provium_protocol::op::{ReadNicCounters, SetDisks, SetIdentity, SetNetwork};
    use provium_protocol::{ErrorKind, FrameKind, Op};

    const CALL: CallId = CallId(5);

    fn part(bytes: &[u8], more: bool) -> Frame {
        let mut frame = Frame::new(FrameKind::Request, Lane::AGENT, CALL, bytes.to_vec());
        frame.more = more;
        frame
    }

    fn effects_of(tasks: &mut Tasks, frame: &Frame) -> Vec<Effect> {
        let mut effects = Vec::new();
        tasks.on_request(frame, &mut effects);
        effects
    }

    fn refused(effects: &[Effect]) -> bool {
        let is_invalid = |result: &OpResult| {
            let error = result.as_ref().err();
            error.is_some_and(|error| error.kind == ErrorKind::Invalid)
        };
        matches!(effects, [Effect::Reply(Lane::AGENT, CALL, result)] if is_invalid(result))
    }

    #[test]
    fn each_request_has_its_effect() {
        let identity = SetIdentity {
            hostname: Some("web".to_owned()),
            ..SetIdentity::default()
        };
        let counters = ReadNicCounters {
            device_mac: [0x52; 6],
        };
        for (op, expected) in [
            (AgentOp::Stats, vec![Effect::Stats(CALL)]),
            (AgentOp::Quiesce, vec![Effect::Quiesce(CALL)]),
            (
                AgentOp::SetIdentity(identity.clone()),
                vec![Effect::SetIdentity(CALL, identity)],
            ),
            (
                AgentOp::SetNetwork(SetNetwork::default()),
                vec![Effect::Configure(
                    CALL,
                    NetworkRequest::Set(SetNetwork::default()).into(),
                )],
            ),
            (
                AgentOp::ReadNicCounters(counters),
                vec![Effect::Configure(
                    CALL,
                    NetworkRequest::Count(counters).into(),
                )],
            ),
            (
                AgentOp::SetDisks(SetDisks::default()),
                vec![Effect::Configure(
                    CALL,
                    ConfigurationRequest::Disks(SetDisks::default()),
                )],
            ),
        ] {
            let frame = part(&codec::encode(&op), false);
            assert_eq!(effects_of(&mut Tasks::default(), &frame), expected);
        }
    }

    #[test]
    fn a_request_in_parts_has_its_effect_when_it_is_complete() {
        let message = codec::encode(&AgentOp::Stats);
        let (first, second) = message.split_at(2);
        let mut tasks = Tasks::default();
        assert_eq!(effects_of(&mut tasks, &part(first, true)), []);
        let effects = effects_of(&mut tasks, &part(second, false));
        assert_eq!(effects, [Effect::Stats(CALL)]);
    }

    #[test]
    fn parts_of_a_cancelled_request_are_forgotten() {
        let message = codec::encode(&AgentOp::Stats);
        let mut tasks = Tasks::default();
        assert_eq!(effects_of(&mut tasks, &part(&message, true)), []);
        tasks.on_cancel(CALL);
        let effects = effects_of(&mut tasks, &part(&message, false));
        assert_eq!(effects, [Effect::Stats(CALL)]);
    }

    #[test]
    fn what_is_not_for_the_agent_is_refused() {
        for message in [codec::encode(&Op::ClockGet), b"\xc1".to_vec()] {
            assert!(refused(&effects_of(
                &mut Tasks::default(),
                &part(&message, false)
            )));
        }
    }
}
