//! Announcing the agent, and starting a session with a host.

use super::link::{Executor, GRACE};
use super::serve::Router;
use crate::executor::Numbers;
use crate::sys::{boot, clock};
use provium_protocol::frame::SYNC;
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

    /// Starts a session: what is left of an older one is dismissed first.
    pub(super) fn begin_session(&mut self, message: &[u8]) {
        let Ok(host) = codec::decode::<HostHello>(message) else {
            return;
        };
        self.out.clear();
        self.forget_arrivals();
        self.forget_quiet();
        if self.session.is_some() {
            self.dismiss_all();
            self.start_executor();
        }
        self.session = Some(host.session);
        let complaints = self.duties.complaints.clone();
        self.hello(host.session, complaints);
    }

    /// Ends the executor with everything that it has started, and forgets its calls.
    pub(super) fn dismiss_all(&mut self) {
        if let Some(mut executor) = self.executor.take() {
            executor.dismiss();
            self.doomed.insert(executor.pid, Instant::now() + GRACE);
        }
        self.duties.asks.forget();
    }

    /// Starts an executor, unless there is one.
    pub(super) fn start_executor(&mut self) {
        if self.executor.is_some() {
            return;
        }
        let numbers = Numbers::of_executor(self.executors);
        self.executors += 1;
        match Executor::fork(self.root, numbers) {
            Ok(executor) => self.executor = Some(executor),
            Err(errno) => self.unserved = format!("could not be started: {errno}"),
        }
    }
}
