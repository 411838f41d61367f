//! The poll loop: passes on what has come, and applies the effects.

use super::configuration_tasks::ConfigurationTasks;
use super::effect::Effect;
use super::executors::{ExecutorMessage, Executors};
use super::host_link::{HostLink, HostMessage};
use super::module_server::ModuleServer;
use super::quiescence::Quiescence;
use super::tasks::Tasks;
use crate::executor::Root;
use crate::failure::{self, OpResult};
use crate::init::power::{self, PowerButton};
use crate::ops::identity::{self, NameOwner};
use crate::ops::stats;
use crate::sys::boot::Stop;
use crate::sys::exclusive::Exclusive;
use crate::sys::signal::SignalStream;
use crate::sys::{fd, process};
use crate::transport::{Kind, Transport};
use provium_protocol::{CallId, Frame, FrameKind, Lane, codec};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// Packets that are received from the executor before it is the host's turn again.
const PACKETS_PER_TURN: usize = 16;

/// What the router is to do besides routing.
pub(crate) struct RouterConfig {
    /// Whether this is process 1 and stays so.
    pub(crate) is_init: bool,
    pub(crate) name_owner: NameOwner,
    /// Blocked signals, to be read here.
    pub(crate) signals: SignalStream,
    pub(crate) power: PowerButton,
    pub(crate) modules: ModuleServer,
    /// What could not be done so far; the host is sent it.
    pub(crate) warnings: Vec<String>,
}

pub(crate) struct Router {
    link: HostLink,
    executors: Executors,
    tasks: Tasks,
    configuration: ConfigurationTasks,
    quiescence: Quiescence,
    modules: ModuleServer,
    signals: SignalStream,
    power: PowerButton,
    name_owner: NameOwner,
    exclusive: Exclusive,
    effects: Vec<Effect>,
}

/// What a poll entry belongs to.
#[derive(Clone, Copy)]
enum Source {
    Host,
    Signals,
    Power,
    Modules,
    Executor,
    Configuration,
}

impl Router {
    pub(crate) fn new(transport: Transport, config: RouterConfig, root: Root) -> Self {
        Self {
            link: HostLink::new(transport, config.is_init, config.warnings),
            executors: Executors::new(root),
            tasks: Tasks::default(),
            configuration: ConfigurationTasks::new(root, config.is_init),
            quiescence: Quiescence::default(),
            modules: config.modules,
            signals: config.signals,
            power: config.power,
            name_owner: config.name_owner,
            exclusive: Exclusive::default(),
            effects: Vec::new(),
        }
    }

    /// Serves as long as the process lives, or the host of a test does.
    pub(crate) fn run(mut self) -> ! {
        self.link.announce();
        self.link.flush();
        self.executors.start();
        let mut fds = Vec::new();
        let mut sources = Vec::new();
        loop {
            self.interests(&mut fds, &mut sources);
            let _ = fd::poll(&mut fds, self.timeout());
            for (slot, source) in fds.iter().zip(&sources) {
                if slot.revents == 0 {
                    continue;
                }
                match source {
                    Source::Host => self.service_host(slot.revents),
                    Source::Signals => self.service_signals(),
                    Source::Power => self.power.handle_events(),
                    // All are served below.
                    Source::Modules => {}
                    Source::Executor => self.service_executor(slot.revents),
                    Source::Configuration => {
                        self.configuration
                            .service(&mut self.modules, &mut self.effects);
                    }
                }
            }
            if self.quiescence.is_running() {
                self.modules
                    .service(self.link.has_session(), &mut self.effects);
            }
            let now = Instant::now();
            self.link.check_deadlines(now);
            self.power.look(now);
            self.executors.check_deadlines(now);
            self.apply();
            // The request to quiesce again may come with the frame that ends this, and no other event after it.
            while self.quiesce() {}
        }
    }

    /// Quiesces if that is asked for and nothing is in flight, and sends what there is to send. While the CPUs
    /// are kept, receives from the host. Returns whether it has quiesced.
    fn quiesce(&mut self) -> bool {
        let awaits_host = self.modules.awaits_host();
        let quiesces = self.quiescence.advance(awaits_host, &mut self.effects);
        self.apply();
        self.link.flush();
        self.resume_from_quiescence();
        quiesces
    }

    /// While no other task of the guest is to run: receives from the host, and does nothing else, since this
    /// is the first code that a restored guest executes, and time counts.
    fn resume_from_quiescence(&mut self) {
        while self.exclusive.holds() {
            if self.link.poll() {
                self.dispatch_incoming();
            }
            self.link.flush();
            self.quiescence.finish(false, &mut self.effects);
            self.apply();
        }
        self.quiescence.finish(true, &mut self.effects);
        self.apply();
    }

    fn interests(&mut self, fds: &mut Vec<libc::pollfd>, sources: &mut Vec<Source>) {
        fds.clear();
        sources.clear();
        let mut add = |fd, events, source| {
            fds.push(fd::interest(fd, events));
            sources.push(source);
        };
        if let Some((fd, events)) = self.link.interest() {
            add(fd, events, Source::Host);
        }
        add(self.signals.as_raw_fd(), libc::POLLIN, Source::Signals);
        self.power.each(|fd| add(fd, libc::POLLIN, Source::Power));
        if self.quiescence.is_running() {
            self.modules
                .each(|fd, events| add(fd, events, Source::Modules));
        }
        let receives = self.link.has_room() && self.quiescence.may_send();
        if let Some((fd, events)) = self.executors.interest(receives) {
            add(fd, events, Source::Executor);
        }
        if let Some(fd) = self.configuration.interest() {
            add(fd, libc::POLLIN, Source::Configuration);
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let next = [
            self.link.deadline(),
            self.executors.deadline(),
            self.power.next_look(),
        ];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    fn service_host(&mut self, events: i16) {
        if !self.link.receive(events) {
            self.executors.dismiss();
            process::exit(0);
        }
        self.dispatch_incoming();
    }

    fn dispatch_incoming(&mut self) {
        while let Some(incoming) = self.link.next() {
            let kind = match &incoming {
                HostMessage::Sync | HostMessage::Session(_) => None,
                HostMessage::Frame(frame) => Some(frame.kind),
                HostMessage::Ignored(kind) => Some(*kind),
            };
            self.quiescence.on_frame(kind, &mut self.effects);
            match incoming {
                HostMessage::Session(session) => self.begin_session(session),
                HostMessage::Frame(frame) => self.route(&frame),
                HostMessage::Sync | HostMessage::Ignored(_) => {}
            }
            self.apply();
        }
    }

    fn begin_session(&mut self, session: u64) {
        self.tasks.reset();
        self.configuration.reset();
        self.quiescence.reset();
        if self.link.has_session() {
            self.executors.dismiss();
            self.modules.reset();
            self.executors.start();
        } else {
            self.executors.reset();
        }
        self.link.begin_session(session);
    }

    fn route(&mut self, frame: &Frame) {
        let effects = &mut self.effects;
        let is_own = frame.lane == Lane::AGENT;
        if frame.kind == FrameKind::Request && frame.call >= CallId::FIRST_INTERNAL {
            if !frame.more {
                let error = failure::invalid("call ids end at 2^31");
                effects.push(Effect::Reply(frame.lane, frame.call, Err(error)));
            }
            return;
        }
        match frame.kind {
            FrameKind::Ping => effects.push(Effect::Send {
                kind: FrameKind::Pong,
                lane: frame.lane,
                call: frame.call,
                message: Vec::new(),
            }),
            FrameKind::HostReply => self.modules.on_reply(frame),
            FrameKind::Request if is_own => self.tasks.on_request(frame, effects),
            FrameKind::Request => self.executors.on_request(frame, effects),
            FrameKind::Cancel if is_own => {
                self.tasks.on_cancel(frame.call);
                self.quiescence.cancel(frame.call, effects);
                self.configuration.on_cancel(frame.call, effects);
            }
            FrameKind::Cancel => self.executors.on_cancel(frame),
            FrameKind::Data | FrameKind::End | FrameKind::Credit => self.executors.on_stream(frame),
            _ => {}
        }
    }

    fn service_executor(&mut self, events: i16) {
        if events & libc::POLLOUT != 0 {
            self.executors.flush();
        }
        let mut any = false;
        for _ in 0..PACKETS_PER_TURN {
            if !self.link.has_room() || !self.quiescence.may_send() || !self.receive_packet() {
                break;
            }
            any = true;
        }
        // Its socket is closed, so it is ending: nothing more can come.
        if !any && events & (libc::POLLHUP | libc::POLLERR) != 0 {
            let pid = self.executors.pid();
            self.reap();
            if self.executors.pid() == pid {
                self.executors
                    .kill("closed its socket to the agent", &mut self.effects);
            }
        }
        self.apply();
    }

    /// Passes one packet of the executor on; false when there is none.
    fn receive_packet(&mut self) -> bool {
        match self.executors.receive(&mut self.effects) {
            ExecutorMessage::Nothing => return false,
            ExecutorMessage::End => {}
            ExecutorMessage::Frame { call, more, bytes } => {
                self.quiescence.on_message_part(call, more);
                if let Some(bytes) = bytes {
                    self.link.forward(bytes);
                }
            }
        }
        self.apply();
        true
    }

    fn service_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                // Sent to process 1 by `halt`, `poweroff` and `reboot` of busybox.
                libc::SIGUSR1 => power::stop(Stop::Halt),
                libc::SIGUSR2 => power::stop(Stop::PowerOff),
                libc::SIGTERM | libc::SIGINT => power::stop(Stop::Reboot),
                _ => {}
            }
        }
        // Pending signals of one kind are merged, so one SIGCHLD may be for several children.
        self.reap();
    }

    /// Collects all children that have ended: executors, and, as process 1, orphans.
    fn reap(&mut self) {
        self.executors.continue_stopped();
        while let Ok(Some((pid, ending))) = process::collect() {
            if self.executors.pid() == Some(pid) {
                // What it has sent before it ended is still passed on.
                while self.receive_packet() {}
            }
            if self.executors.pid() == Some(pid) {
                self.executors
                    .on_end(&ending.to_string(), &mut self.effects);
                self.apply();
            } else {
                self.executors.on_exit_of_other(pid);
                self.configuration.on_exit(pid);
            }
        }
    }

    fn apply(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::Send {
                    kind,
                    lane,
                    call,
                    message,
                } => self.link.send(kind, lane, call, &message),
                Effect::Reply(lane, call, result) => self.reply(lane, call, &result),
                Effect::Stats(call) => self.reply(Lane::AGENT, call, &stats::collect()),
                Effect::SetIdentity(call, request) => {
                    let sets_name = self.name_owner.is_set(self.quiescence.is_resuming());
                    let result = identity::set(&request, sets_name);
                    self.reply(Lane::AGENT, call, &result);
                }
                Effect::Configure(call, request) => {
                    self.configuration
                        .on_request(call, request, &mut self.effects);
                }
                Effect::Quiesce(call) => {
                    // What has been begun has to be completed, so other tasks have to run.
                    self.exclusive.end();
                    self.quiescence.begin(call);
                }
                Effect::ExecutorEnded => self.quiescence.on_executor_ended(),
                Effect::HoldOutput => self.link.hold_output(),
                Effect::ReleaseOutput => self.link.release_output(),
                Effect::OccupyCpus => self.occupy_cpus(),
                Effect::YieldCpus => self.exclusive.end(),
            }
        }
    }

    fn reply(&mut self, lane: Lane, call: CallId, result: &OpResult) {
        self.link
            .send(FrameKind::Reply, lane, call, &codec::encode(result));
    }

    fn occupy_cpus(&mut self) {
        // A serial line is read by workers of the kernel, which are ordinary tasks; a socket does not
        // belong to a guest.
        match self.link.kind() {
            Kind::Port => self.exclusive.begin(),
            Kind::Line | Kind::Socket => {}
        }
    }
}
