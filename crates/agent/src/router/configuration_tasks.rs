//! Requests about the network and disks, which are carried out one after the other, most of them in
//! processes of their own.
//!
//! Such a request may wait: for a device that is being plugged in, for kernel modules from the host, for a
//! file system. The router never waits, so it makes a process that does, and passes on its reply. One about
//! disks that waits for nothing is carried out at once, without a process.
//!
//! Such a process runs in the namespaces of the agent, and in the root of process 1. It shares the router's
//! memory, since a fork would take several times as long as a request that changes nothing.

use super::configuration_request::ConfigurationRequest;
use super::effect::Effect;
use super::module_server::ModuleServer;
use crate::disks;
use crate::executor::Root;
use crate::failure::{self, OpResult};
use crate::module_requests::{ModuleRequests, Stop};
use crate::network::{self, InterfaceNaming, NetworkRequest, OwnedSettings};
use crate::sys::sibling::{ChildOf, Sibling};
use crate::sys::{Errno, Sys, fd, packet, process, signal};
use provium_protocol::op::DiskNode;
use provium_protocol::{CallId, Lane, Reply, codec};
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Sent instead of a reply, which it is not: the request has to begin again, with sockets for modules.
const NEEDS_MODULES: &[u8] = &[0xc1];

/// The requests, and what they have set so far.
pub(super) struct ConfigurationTasks {
    root: Root,
    naming: InterfaceNaming,
    owned: OwnedSettings,
    /// What the last request about disks has found; nothing if it has failed.
    known_disks: Vec<DiskNode>,
    running: Option<RunningTask>,
    waiting: VecDeque<(CallId, ConfigurationRequest)>,
    siblings: Vec<Sibling>,
}

/// What the process gets. Its descriptors are copies of the router's.
struct Task {
    request: ConfigurationRequest,
    owned: OwnedSettings,
    known_disks: Vec<DiskNode>,
    root: Root,
    naming: InterfaceNaming,
    /// The router's ends, which would keep the process from seeing the end of replies to it.
    ours: Vec<RawFd>,
    sockets: Vec<(String, RawFd)>,
    reply_to: RawFd,
}

impl Task {
    /// Runs in the process of its own.
    fn carry_out(&self) -> ! {
        process::die_with_parent();
        process::name_thread(self.request.process_name());
        for number in &self.ours {
            let _ = fd::close(*number);
        }
        let mut root = self.root;
        root.follow();
        let mut modules = ModuleRequests::of(&self.sockets);
        let result = match &self.request {
            ConfigurationRequest::Network(NetworkRequest::Set(request)) => {
                network::configure(request, &self.owned, &mut modules, self.naming)
            }
            ConfigurationRequest::Network(NetworkRequest::Count(request)) => {
                network::count(*request).map_err(Stop::Error)
            }
            ConfigurationRequest::Disks(request) => {
                disks::set(request, &self.known_disks, &mut modules)
            }
        };
        let result = match result {
            Ok(reply) => Ok(reply),
            Err(Stop::Error(error)) => Err(error),
            Err(Stop::NeedsModules) => {
                let _ = fd::write_all(self.reply_to, NEEDS_MODULES);
                process::exit(0)
            }
        };
        let _ = fd::write_all(self.reply_to, &codec::encode(&result));
        process::exit(0)
    }
}

struct RunningTask {
    call: CallId,
    request: ConfigurationRequest,
    /// Until it was collected.
    pid: Option<i32>,
    /// Where its reply comes from, and what has come.
    pipe: OwnedFd,
    reply: Vec<u8>,
    has_modules: bool,
    cancelled: bool,
}

impl RunningTask {
    fn kill(&self) {
        if let Some(pid) = self.pid {
            let _ = signal::send(pid, libc::SIGKILL, false);
        }
    }
}

impl ConfigurationTasks {
    /// `is_init`: this is process 1 and stays so.
    pub(super) fn new(root: Root, is_init: bool) -> Self {
        let naming = if is_init {
            InterfaceNaming::Alone
        } else {
            InterfaceNaming::Contested
        };
        Self {
            root,
            naming,
            owned: OwnedSettings::default(),
            known_disks: Vec::new(),
            running: None,
            waiting: VecDeque::new(),
            siblings: Vec::new(),
        }
    }

    pub(super) fn on_request(
        &mut self,
        call: CallId,
        request: ConfigurationRequest,
        effects: &mut Vec<Effect>,
    ) {
        if let Some(reply) = self.carry_out_at_once(&request) {
            effects.push(Effect::Reply(Lane::AGENT, call, Ok(reply)));
            return;
        }
        self.waiting.push_back((call, request));
        self.start_next(effects);
    }

    /// Carries out a request that waits for nothing. In a guest that has just been restored, a process of its own takes
    /// more code, all of which QEMU has to translate, than the request.
    fn carry_out_at_once(&mut self, request: &ConfigurationRequest) -> Option<Reply> {
        let ConfigurationRequest::Disks(request) = request else {
            return None;
        };
        // Process 1 is in the root that this process has.
        if self.naming != InterfaceNaming::Alone || self.running.is_some() {
            return None;
        }
        let reply = disks::set_at_once(request, &self.known_disks)?;
        if let Reply::Disks(nodes) = &reply {
            self.known_disks.clone_from(nodes);
        }
        Some(reply)
    }

    fn start_next(&mut self, effects: &mut Vec<Effect>) {
        while self.running.is_none()
            && let Some((call, request)) = self.waiting.pop_front()
        {
            self.run(call, request, None, effects);
        }
    }

    fn run(
        &mut self,
        call: CallId,
        request: ConfigurationRequest,
        modules: Option<&mut ModuleServer>,
        effects: &mut Vec<Effect>,
    ) {
        match self.start(call, request, modules) {
            Ok(running) => self.running = Some(running),
            Err(errno) => {
                let error = failure::os("starting a process for the request", errno);
                effects.push(Effect::Reply(Lane::AGENT, call, Err(error)));
            }
        }
    }

    /// `modules`: serves the modules that it needs.
    fn start(
        &mut self,
        call: CallId,
        request: ConfigurationRequest,
        modules: Option<&mut ModuleServer>,
    ) -> Sys<RunningTask> {
        let (pipe, reply_to) = fd::pipe()?;
        let (mut ours, mut theirs) = (vec![pipe.as_raw_fd()], Vec::new());
        if let Some(modules) = modules {
            for name in request.modules() {
                let (our, their) = packet::stream_pair()?;
                ours.push(our.as_raw_fd());
                modules.adopt(our);
                theirs.push((name, their));
            }
        }
        let task = Task {
            request: request.clone(),
            owned: self.owned.clone(),
            known_disks: self.known_disks.clone(),
            root: self.root,
            naming: self.naming,
            ours,
            sockets: theirs
                .iter()
                .map(|(name, socket): &(String, OwnedFd)| (name.clone(), socket.as_raw_fd()))
                .collect(),
            reply_to: reply_to.as_raw_fd(),
        };
        let pid = self
            .sibling()?
            .start(ChildOf::Caller, move || task.carry_out())?;
        if let Some(nics) = request.nics() {
            self.owned.begin(nics);
        }
        Ok(RunningTask {
            call,
            request,
            pid: Some(pid),
            pipe,
            reply: Vec::new(),
            has_modules: !theirs.is_empty(),
            cancelled: false,
        })
    }

    /// Memory that no process uses. There is more than one only after a request was abandoned.
    fn sibling(&mut self) -> Sys<&mut Sibling> {
        Sibling::free_of(&mut self.siblings)
    }

    /// What to poll for input.
    pub(super) fn interest(&self) -> Option<RawFd> {
        let running = self.running.as_ref()?;
        Some(running.pipe.as_raw_fd())
    }

    /// Takes in a part of the reply, or its end. There is something to read.
    pub(super) fn service(&mut self, modules: &mut ModuleServer, effects: &mut Vec<Effect>) {
        let Some(running) = &mut self.running else {
            return;
        };
        let mut piece = [0; 4096];
        match fd::read(running.pipe.as_raw_fd(), &mut piece) {
            Ok(got @ 1..) => {
                running.reply.extend_from_slice(&piece[..got]);
                return;
            }
            Err(Errno::AGAIN | Errno::INTR) => return,
            Ok(0) | Err(_) => {}
        }
        let Some(running) = self.running.take() else {
            return;
        };
        if running.reply == NEEDS_MODULES && !running.has_modules && !running.cancelled {
            self.run(running.call, running.request, Some(modules), effects);
            self.start_next(effects);
            return;
        }
        let result = outcome(&running);
        if let (Ok(_), Some(nics)) = (&result, running.request.nics()) {
            self.owned.finish(nics);
        }
        if let ConfigurationRequest::Disks(_) = running.request {
            self.known_disks = match &result {
                Ok(Reply::Disks(nodes)) => nodes.clone(),
                _ => Vec::new(),
            };
        }
        effects.push(Effect::Reply(Lane::AGENT, running.call, result));
        self.start_next(effects);
    }

    /// A child of the router has been collected.
    pub(super) fn on_exit(&mut self, pid: i32) {
        if let Some(running) = &mut self.running
            && running.pid == Some(pid)
        {
            running.pid = None;
        }
    }

    pub(super) fn on_cancel(&mut self, call: CallId, effects: &mut Vec<Effect>) {
        if let Some(running) = &mut self.running
            && running.call == call
        {
            running.cancelled = true;
            running.kill();
        } else if let Some(at) = self.waiting.iter().position(|(one, _)| *one == call) {
            self.waiting.remove(at);
            effects.push(Effect::Reply(Lane::AGENT, call, Err(failure::cancelled())));
        }
    }

    /// A new session begins: calls of the old one need no reply.
    pub(super) fn reset(&mut self) {
        self.waiting.clear();
        if let Some(running) = self.running.take() {
            self.known_disks.clear();
            running.kill();
        }
    }
}

fn outcome(running: &RunningTask) -> OpResult {
    match codec::decode::<OpResult>(&running.reply) {
        Ok(result) => result,
        Err(_) if running.cancelled => Err(failure::cancelled()),
        Err(_) => Err(failure::lane_died("ended without a reply")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::ErrorKind;
    use provium_protocol::op::SetDisks;

    fn running(reply: &[u8], cancelled: bool) -> RunningTask {
        let (pipe, _) = fd::pipe().unwrap();
        RunningTask {
            call: CallId(1),
            request: ConfigurationRequest::Disks(SetDisks::default()),
            pid: None,
            pipe,
            reply: reply.to_vec(),
            has_modules: false,
            cancelled,
        }
    }

    #[test]
    fn a_reply_counts_even_if_the_call_was_cancelled() {
        let done = codec::encode(&OpResult::Ok(Reply::Done));
        for cancelled in [false, true] {
            assert_eq!(outcome(&running(&done, cancelled)), Ok(Reply::Done));
        }
        let kind = |cancelled| outcome(&running(&done[..3], cancelled)).unwrap_err().kind;
        assert_eq!(kind(true), ErrorKind::Cancelled);
        assert_eq!(kind(false), ErrorKind::LaneDied);
    }
}
