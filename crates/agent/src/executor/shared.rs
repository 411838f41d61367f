//! What the threads of the executor share: owners, calls, children, the way back to the router.

use super::background::Answers;
use super::call::{Asker, Call, lock};
use super::command::Started;
use super::owner::Owner;
use super::root::Root;
use super::start::Numbers;
use super::table::Table;
use crate::failure::OpResult;
use crate::roots;
use crate::sys::packet::{self, Waiting};
use crate::sys::process::{self, Ending};
use crate::sys::{Errno, Sys, fd, signal};
use provium_protocol::frame::MAX_PAYLOAD;
use provium_protocol::{CallId, Event, Frame, FrameKind, Lane, StreamId, codec};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};

/// What a child of the executor is.
#[derive(Debug, Clone)]
pub(super) enum Child {
    /// The raw process of an owner.
    Raw(Arc<Owner>),
    /// An operation process or a command: owner and slot.
    Operation(Arc<Owner>, usize),
    /// A process whose exit code is not used: a further child of a raw call, process 1 of a namespace.
    Other,
}

/// Children by number, and ends that came before it was known whose they are.
#[derive(Debug, Default)]
pub(super) struct Children {
    known: Table<i32, Child>,
    early: Table<i32, Ending>,
    /// Forks that have not been reported yet.
    forking: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    owners: Mutex<Table<Lane, Arc<Owner>>>,
    calls: Mutex<BTreeMap<(Lane, CallId), Arc<Call>>>,
    children: Mutex<Children>,
    started: Mutex<Vec<Started>>,
    root: Mutex<Root>,
    numbers: Mutex<Numbers>,
    wake: OwnedFd,
    /// Limits on descriptors that raw processes have.
    pub(super) descriptors: libc::rlimit,
}

impl Shared {
    pub(super) fn new(root: Root, numbers: Numbers, descriptors: libc::rlimit) -> Sys<Self> {
        Ok(Self {
            owners: Mutex::default(),
            calls: Mutex::default(),
            children: Mutex::default(),
            started: Mutex::default(),
            root: Mutex::new(root),
            numbers: Mutex::new(numbers),
            wake: fd::eventfd()?,
            descriptors,
        })
    }

    // Owners.

    pub(super) fn owner(&self, lane: Lane) -> Option<Arc<Owner>> {
        lock(&self.owners).get(&lane).cloned()
    }

    pub(super) fn owners(&self) -> Vec<Arc<Owner>> {
        lock(&self.owners).values().cloned().collect()
    }

    pub(super) fn add_owner(&self, owner: &Arc<Owner>) {
        lock(&self.owners).insert(owner.lane, Arc::clone(owner));
    }

    pub(super) fn remove_owner(&self, lane: Lane) {
        lock(&self.owners).remove(&lane);
    }

    pub(super) fn next_lane(&self) -> Lane {
        lock(&self.numbers).next_lane()
    }

    pub(super) fn next_generation(&self) -> u64 {
        lock(&self.numbers).next_generation()
    }

    /// The root that process 1 has moved to, if it has since this process looked; else as it is.
    pub(super) fn follow_root(&self) {
        if lock(&self.root).has_moved() {
            drop(Root::enter());
        }
    }

    pub(super) fn root(&self) -> Root {
        *lock(&self.root)
    }

    // Calls.

    /// Takes a call of the host in; false when its id is in use.
    pub(super) fn open(&self, call: &Arc<Call>) -> bool {
        match lock(&self.calls).entry((call.lane, call.id)) {
            Entry::Vacant(room) => room.insert(Arc::clone(call)),
            Entry::Occupied(_) => return false,
        };
        true
    }

    pub(super) fn call(&self, lane: Lane, id: CallId) -> Option<Arc<Call>> {
        lock(&self.calls).get(&(lane, id)).cloned()
    }

    pub(super) fn calls_of(&self, lane: Lane) -> Vec<Arc<Call>> {
        let calls = lock(&self.calls);
        let of_lane = calls.range((lane, CallId(0))..=(lane, CallId(u32::MAX)));
        of_lane.map(|(_, call)| Arc::clone(call)).collect()
    }

    /// Answers a call, unless that has been done.
    pub(super) fn finish(&self, call: &Arc<Call>, result: OpResult) {
        if !call.set_answered() {
            return;
        }
        let joins = self.ended(call, &result);
        match &call.asker {
            Asker::Host => {
                lock(&self.calls).remove(&(call.lane, call.id));
                self.message(
                    FrameKind::Reply,
                    call.lane,
                    call.id,
                    &codec::encode(&result),
                );
            }
            Asker::Batch(batch) => batch.answered(call.id, result),
        }
        self.answer(joins);
    }

    /// Answers a call with a result that is encoded already. Not for commands.
    pub(super) fn finish_encoded(&self, call: &Arc<Call>, message: &[u8]) {
        if let (true, Asker::Host) = (call.command.is_none(), &call.asker) {
            if call.set_answered() {
                lock(&self.calls).remove(&(call.lane, call.id));
                self.message(FrameKind::Reply, call.lane, call.id, message);
            }
            return;
        }
        let result = codec::decode(message)
            .unwrap_or_else(|_| Err(crate::failure::invalid("the result cannot be read")));
        self.finish(call, result);
    }

    fn ended(&self, call: &Call, result: &OpResult) -> Answers {
        match call.delays_join() {
            Some(background) => call.owner.background.ended(background, result),
            None => Vec::new(),
        }
    }

    pub(super) fn answer(&self, answers: Answers) {
        for (call, result) in answers {
            self.finish(&call, result);
        }
    }

    // Children.

    /// A fork has been asked for, whose child is not known yet.
    pub(super) fn begin_fork(&self) {
        lock(&self.children).forking += 1;
    }

    pub(super) fn end_fork(&self) {
        let mut children = lock(&self.children);
        children.forking = children.forking.saturating_sub(1);
        if children.forking == 0 {
            // No fork is left that could belong to them.
            children.early.clear();
        }
    }

    /// Takes note of a child; its end, if it has ended already.
    pub(super) fn adopt(&self, pid: i32, child: Child) -> Option<Ending> {
        let mut children = lock(&self.children);
        let ending = children.early.remove(&pid);
        if ending.is_none() {
            children.known.insert(pid, child);
        }
        ending
    }

    /// A child that was known as something else, or not yet, is the raw process of a worker.
    pub(super) fn readopt(&self, pid: i32, child: Child, owner: &Arc<Owner>) {
        let mut children = lock(&self.children);
        match children.early.remove(&pid) {
            Some(ending) => owner.note_end(pid, ending),
            None => {
                children.known.insert(pid, child);
            }
        }
    }

    /// A child has ended and was collected: what it was.
    pub(super) fn disown(&self, pid: i32, ending: Ending) -> Option<Child> {
        let mut children = lock(&self.children);
        let known = children.known.remove(&pid);
        if known.is_none() && children.forking > 0 {
            children.early.insert(pid, ending);
        }
        known
    }

    /// Commands and operation processes of an owner that run.
    pub(super) fn operations_of(&self, owner: &Arc<Owner>) -> Vec<i32> {
        let children = lock(&self.children);
        let known = children.known.iter();
        known
            .filter(|(_, child)| matches!(child, Child::Operation(of, _) if Arc::ptr_eq(of, owner)))
            .map(|(pid, _)| *pid)
            .collect()
    }

    // Commands, from the owners' threads to the main thread.

    pub(super) fn hand_over(&self, started: Started) {
        lock(&self.started).push(started);
        self.wake();
    }

    pub(super) fn take_started(&self) -> Vec<Started> {
        std::mem::take(&mut lock(&self.started))
    }

    pub(super) fn wake(&self) {
        let _ = fd::write(self.wake.as_raw_fd(), &1_u64.to_ne_bytes());
    }

    pub(super) fn wake_fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    // Packets to the router. Any thread sends them, and waits while the socket is full.

    fn send(&self, frame: &Frame, payload: &[u8]) {
        let header = frame.header(payload.len());
        loop {
            match packet::send(roots::SOCKET, [&header, payload], Waiting::Blocks) {
                Err(Errno::INTR) => {}
                Ok(()) => return,
                // The router has ended, and with it the session.
                Err(_) => self.quit(),
            }
        }
    }

    /// Sends a message, cut into frames.
    pub(super) fn message(&self, kind: FrameKind, lane: Lane, call: CallId, message: &[u8]) {
        let mut frame = Frame::new(kind, lane, call, Vec::new());
        let mut rest = message;
        loop {
            let (now, later) = rest.split_at(rest.len().min(MAX_PAYLOAD));
            frame.more = !later.is_empty();
            self.send(&frame, now);
            if later.is_empty() {
                return;
            }
            rest = later;
        }
    }

    pub(super) fn event(&self, call: &Call, event: &Event) {
        if call.is_of_host() && !call.is_answered() {
            self.message(FrameKind::Event, call.lane, call.id, &codec::encode(event));
        }
    }

    /// Sends bytes, at most a frame's worth, and takes them off the credit.
    pub(super) fn data(&self, call: &Call, channel: StreamId, bytes: &[u8]) {
        call.spend(channel, bytes.len());
        if call.is_of_host() && !call.is_answered() {
            self.send(&Frame::data(call.lane, call.id, channel, Vec::new()), bytes);
        }
    }

    pub(super) fn end(&self, call: &Call, channel: StreamId) {
        if call.is_of_host() && !call.is_answered() {
            self.send(&Frame::end(call.lane, call.id, channel), &[]);
        }
    }

    /// Lets the host send as much more input as was used up.
    pub(super) fn grant_input(&self, call: &Call, bytes: usize) {
        if bytes == 0 || call.input_ended() || call.is_answered() || !call.is_of_host() {
            return;
        }
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let frame = Frame::credit(call.lane, call.id, StreamId::Input, bytes);
        self.send(&frame, &frame.payload);
    }

    /// Ends the process, and everything that it has started.
    pub(super) fn quit(&self) -> ! {
        for owner in self.owners() {
            owner.end_everything(self);
        }
        let known = lock(&self.children).known.clone();
        for pid in known.keys() {
            let _ = signal::send(*pid, libc::SIGKILL, false);
        }
        process::exit(0)
    }
}
