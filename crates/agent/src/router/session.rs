//! Announcing the agent, and starting a session with a host.

use super::lanes::{Executor, GRACE, LaneState, Leaving};
use super::serve::Router;
use crate::executor::{Inheritance, Surroundings};
use crate::ops::renewal;
use crate::sys::{boot, clock};
use provium_protocol::frame::SYNC;
use provium_protocol::op::Renewal;
use provium_protocol::{CallId, FrameKind, Hello, HostHello, Lane, PROTOCOL_VERSION, codec};
use std::time::Instant;

/// Hash of the sources that this agent was built from.
const BUILD: &str = match option_env!("PROVIUM_BUILD") {
    Some(build) => build,
    None => "dev",
};

impl Router {
    fn hello(&mut self, session: u64, complaints: Vec<String>) {
        let hello = Hello {
            protocol: PROTOCOL_VERSION,
            build: BUILD.to_owned(),
            session,
            kernel: boot::kernel_release(),
            is_init: self.duties.is_init,
            uptime_ns: clock::since_boot(),
            complaints,
        };
        self.out.push(&SYNC);
        self.say(
            FrameKind::Hello,
            Lane::AGENT,
            CallId(0),
            &codec::encode(&hello),
        );
    }

    /// Tells whoever listens that there is an agent.
    pub(super) fn announce(&mut self) {
        let complaints = self.duties.complaints.clone();
        self.hello(0, complaints);
        self.mark_announced();
    }

    /// A host greets: what an older session left goes, and its wishes are carried out before it is
    /// answered.
    pub(super) fn begin_session(&mut self, message: &[u8]) {
        let Ok(host) = codec::decode::<HostHello>(message) else {
            return;
        };
        self.out.clear();
        self.forget_arrivals();
        self.forget_quiet();
        if self.session.is_some() {
            self.dismiss_all();
            self.start_own_lanes();
        }
        self.session = Some(host.session);
        let mut complaints = self.duties.complaints.clone();
        let wishes = Renewal {
            realtime_ns: host.realtime_ns,
            hostname: host.hostname,
            entropy: host.entropy,
            fresh_hwrng: false,
        };
        for (what, errno) in renewal::carry_out(&wishes, self.duties.is_init) {
            complaints.push(format!("{what}: {errno}"));
        }
        self.hello(host.session, complaints);
    }

    /// Ends all executors and their commands, and forgets their calls.
    pub(super) fn dismiss_all(&mut self) {
        for (_, state) in std::mem::take(&mut self.lanes) {
            if let LaneState::Alive(mut executor) = state {
                executor.dismiss(Leaving::Retired(None));
                self.doomed.insert(executor.pid, Instant::now() + GRACE);
            }
        }
        self.tasks.clear();
        self.inner.clear();
        self.inner_replies.clear();
        self.duties.asks.forget();
    }

    /// Starts the VM's own two lanes, those that are missing.
    pub(super) fn start_own_lanes(&mut self) {
        for lane in [Lane::COMMANDS, Lane::RAW] {
            if !self.lanes.contains_key(&lane) {
                self.start_lane(lane);
            }
        }
    }

    pub(super) fn start_lane(&mut self, lane: Lane) {
        let root = self.root;
        let inherit = || Inheritance {
            root,
            around: Surroundings::default(),
        };
        let state = match Executor::fork(lane, inherit) {
            Ok(executor) => LaneState::Alive(executor),
            Err(errno) => LaneState::Dead(format!("could not be started: {errno}")),
        };
        self.lanes.insert(lane, state);
    }
}
