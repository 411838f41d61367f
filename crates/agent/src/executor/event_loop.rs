//! The main thread: takes frames in, feeds and empties pipes, collects children. It never waits for anything
//! else.

use super::children::Child;
use super::command::{Command, Role};
use super::host_calls::HostCalls;
use super::owners::Owners;
use super::shared::Shared;
use super::spawned::{ProcessKind, SpawnedChild};
use crate::roots;
use crate::sys::packet::{self, BlockingMode};
use crate::sys::process::ExitStatus;
use crate::sys::signal::{self, SignalStream};
use crate::sys::{Errno, fd, process};
use provium_protocol::frame::{HEADER_LEN, Item, MAX_PAYLOAD};
use provium_protocol::{Event, FrameDecoder, FrameKind};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The most packets that are received before pipes are looked at again.
const PACKETS_PER_TURN: usize = 32;

pub(super) struct EventLoop {
    shared: Arc<Shared>,
    children: SignalStream,
    commands: Vec<Command>,
    calls: HostCalls,
    decoder: FrameDecoder,
    buffer: Vec<u8>,
}

impl EventLoop {
    pub(super) fn new(shared: Arc<Shared>, owners: Owners, children: SignalStream) -> Self {
        Self {
            calls: HostCalls::new(Arc::clone(&shared), owners),
            shared,
            children,
            commands: Vec::new(),
            decoder: FrameDecoder::in_step(),
            buffer: vec![0; HEADER_LEN + MAX_PAYLOAD],
        }
    }

    pub(super) fn run(mut self) -> ! {
        let mut fds = Vec::new();
        let mut roles = Vec::new();
        loop {
            fds.clear();
            roles.clear();
            fds.push(fd::interest(roots::SOCKET, libc::POLLIN));
            fds.push(fd::interest(self.shared.handover.wake_fd(), libc::POLLIN));
            fds.push(fd::interest(self.children.as_raw_fd(), libc::POLLIN));
            let fixed = fds.len();
            let now = Instant::now();
            for (index, command) in self.commands.iter_mut().enumerate() {
                command.interests(now, |fd, events, role| {
                    fds.push(fd::interest(fd, events));
                    roles.push((index, role));
                });
            }
            match fd::poll(&mut fds, self.timeout()) {
                Ok(_) | Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.quit(),
            }
            if fds[1].revents != 0 {
                self.shared.handover.clear_wake();
            }
            for (slot, (index, role)) in fds[fixed..].iter().zip(&roles) {
                if slot.revents != 0 {
                    self.service(*index, *role);
                }
            }
            if fds[0].revents != 0 {
                self.receive();
            }
            self.take_spawned();
            if fds[2].revents != 0 {
                while self.children.next().is_some() {}
                self.collect();
            }
            let calls = &self.shared.calls;
            self.commands.retain_mut(|command| !command.settle(calls));
            self.calls.check_times();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let now = Instant::now();
        let commands = self.commands.iter().filter_map(Command::deadline);
        let next = commands.chain(self.calls.deadline(now)).min()?;
        Some(next.saturating_duration_since(now))
    }

    fn service(&mut self, index: usize, role: Role) {
        if let Some(command) = self.commands.get_mut(index) {
            command.ready(role, &self.shared.calls, &mut self.buffer[..MAX_PAYLOAD]);
        }
    }

    /// Takes what the owners' threads have handed over.
    fn take_spawned(&mut self) {
        for spawned in self.shared.handover.take() {
            match spawned {
                SpawnedChild::Process(process) => {
                    if let Some(owner) = self.calls.owners.get_any(process.lane) {
                        let owner = Arc::clone(owner);
                        if process.kind == ProcessKind::Connection {
                            self.shared.calls.event(&process.call, &Event::Connected);
                        }
                        self.commands.push(Command::new(process, owner));
                    }
                }
                SpawnedChild::Worker(worker) => self.calls.owners.accept(&self.shared, worker),
            }
        }
    }

    /// Collects children that have ended.
    fn collect(&mut self) {
        while let Ok(Some((pid, ending))) = process::collect() {
            // What an owner's thread has handed over meanwhile may be this one.
            self.take_spawned();
            match self.shared.children.disown(pid, ending) {
                Some(Child::RawProcess(lane)) => {
                    if let Some(owner) = self.calls.owners.get_any(lane) {
                        owner.note_end(pid, ending);
                    }
                }
                Some(Child::Operation(lane, slot)) => {
                    let owner = self.calls.owners.get_any(lane).cloned();
                    let is_known = self.command_ended(pid, ending);
                    if let Some(owner) = owner
                        && !is_known
                        && !owner.operation_ended(slot, pid, ending)
                    {
                        self.take_spawned();
                        if !self.command_ended(pid, ending) {
                            self.new_worker_ended(pid, ending);
                        }
                    }
                }
                Some(Child::Other) => {}
                // It may be a child that was not reported yet, and that can no longer ring.
                None => self.calls.owners.all().for_each(|owner| owner.wake()),
            }
        }
    }

    /// Passes the end of a process to its command; returns false if there is none.
    fn command_ended(&mut self, pid: i32, ending: ExitStatus) -> bool {
        let known = self.commands.iter_mut().find(|command| command.pid == pid);
        match known {
            Some(command) => {
                command.ended(ending, &self.shared.calls);
                true
            }
            None => false,
        }
    }

    /// Handles the end of a worker's raw process that was collected just before the worker was accepted.
    fn new_worker_ended(&mut self, pid: i32, ending: ExitStatus) {
        if let Some(Child::RawProcess(lane)) = self.shared.children.forget(pid)
            && let Some(owner) = self.calls.owners.get_any(lane)
        {
            owner.note_end(pid, ending);
        }
    }

    /// Receives the packets that are available, up to a limit.
    fn receive(&mut self) {
        for _ in 0..PACKETS_PER_TURN {
            match packet::receive(roots::SOCKET, &mut self.buffer, BlockingMode::Returns) {
                Ok(0) => self.quit(),
                Ok(len) => {
                    self.decoder.push(&self.buffer[..len]);
                    match self.decoder.next_item() {
                        Ok(Some(Item::Frame(frame))) if frame.kind == FrameKind::Goodbye => {
                            self.quit()
                        }
                        Ok(Some(Item::Frame(frame))) => self.calls.handle(frame, &self.commands),
                        Ok(_) => {}
                        Err(_) => self.quit(),
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return,
                Err(_) => self.quit(),
            }
        }
    }

    /// Ends the process, and everything that it has started.
    fn quit(&self) -> ! {
        for owner in self.calls.owners.all() {
            owner.kill_all(&self.shared);
        }
        for pid in self.shared.children.all() {
            let _ = signal::send(pid, libc::SIGKILL, false);
        }
        process::exit(0)
    }
}
