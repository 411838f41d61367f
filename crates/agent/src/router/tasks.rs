//! Calls to lane 0: figures, quiesce, identity, switching off.

use super::serve::Router;
use crate::failure;
use crate::init::power;
use crate::ops::{identity, stats};
use crate::sys::boot::Stop;
use provium_protocol::{AgentOp, CallId, Lane, Reply, codec};

impl Router {
    pub(super) fn begin_task(&mut self, call: CallId, message: &[u8]) {
        let Ok(op) = codec::decode::<AgentOp>(message) else {
            let error = failure::invalid("the request cannot be read");
            return self.reply(Lane::AGENT, call, &Err(error));
        };
        match op {
            AgentOp::PowerOff => {
                self.reply(Lane::AGENT, call, &Ok(Reply::Done));
                self.out.flush(&self.transport);
                power::stop(Stop::PowerOff);
            }
            AgentOp::Stats => self.reply(Lane::AGENT, call, &stats::collect()),
            AgentOp::Quiesce => self.begin_quiet(call),
            AgentOp::SetIdentity(request) => {
                let result = identity::set(&request, self.duties.is_init);
                self.reply(Lane::AGENT, call, &result);
            }
        }
    }
}
