//! Requests to the kernel's routing layer, and its answers.

use super::wire::{self, Message, Request};
use crate::sys::packet::{self, BlockingMode};
use crate::sys::{Errno, Sys, netlink};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// The kernel sends no larger datagram of a dump.
const BUFFER: usize = 32 * 1024;
/// Requests that are sent before their acknowledgements are received: those have to fit into the
/// socket's buffer.
const BATCH: usize = 64;
/// How often a dump is begun again that a change has interrupted.
const ATTEMPTS: u32 = 10;
/// Set in a message of a dump that a change has interrupted.
const INTERRUPTED: u16 = 0x10;

/// A socket of rtnetlink, in the network namespace of this process.
pub(super) struct Session {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Session {
    pub(super) fn open() -> Sys<Self> {
        Ok(Self {
            socket: netlink::open()?,
            sequence: 0,
            buffer: vec![0; BUFFER],
        })
    }

    pub(super) fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Asks for all objects of a type; `parse` gets each message and drops those that it does not need.
    pub(super) fn dump<T>(
        &mut self,
        request: &Request,
        parse: impl Fn(Message<'_>) -> Option<T>,
    ) -> Sys<Vec<T>> {
        for _ in 1..ATTEMPTS {
            let (found, interrupted) = self.dump_once(request, &parse)?;
            if !interrupted {
                return Ok(found);
            }
        }
        // Events never stop: the next one ends the wait.
        self.dump_once(request, &parse).map(|(found, _)| found)
    }

    fn dump_once<T>(
        &mut self,
        request: &Request,
        parse: impl Fn(Message<'_>) -> Option<T>,
    ) -> Sys<(Vec<T>, bool)> {
        self.sequence += 1;
        let bytes = request.clone().finish(self.sequence);
        packet::send(self.fd(), [&bytes, &[]], BlockingMode::Blocks)?;
        let (mut found, mut interrupted) = (Vec::new(), false);
        loop {
            let len = self.receive()?;
            for message in wire::messages(&self.buffer[..len]) {
                if message.sequence != self.sequence {
                    continue;
                }
                interrupted |= message.flags & INTERRUPTED != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_DONE => return Ok((found, interrupted)),
                    libc::NLMSG_ERROR => return Err(error_of(message)),
                    _ => found.extend(parse(message)),
                }
            }
        }
    }

    /// Makes requests that are acknowledged, in order; a result for each. One that fails does not keep
    /// the later ones from being made.
    pub(super) fn make(&mut self, requests: Vec<Request>) -> Sys<Vec<Sys<()>>> {
        let mut results = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            let first = self.sequence + 1;
            let mut bytes = Vec::new();
            for request in requests.by_ref().take(BATCH) {
                self.sequence += 1;
                bytes.extend(request.finish(self.sequence));
            }
            packet::send(self.fd(), [&bytes, &[]], BlockingMode::Blocks)?;
            let mut awaited = first;
            while awaited <= self.sequence {
                let len = self.receive()?;
                for message in wire::messages(&self.buffer[..len]) {
                    if i32::from(message.kind) == libc::NLMSG_ERROR && message.sequence == awaited {
                        results.push(match error_of(message) {
                            Errno(0) => Ok(()),
                            errno => Err(errno),
                        });
                        awaited += 1;
                    }
                }
            }
        }
        Ok(results)
    }

    /// Makes one request.
    pub(super) fn make_one(&mut self, request: Request) -> Sys<()> {
        let results = self.make(vec![request])?;
        results.into_iter().collect()
    }

    fn receive(&mut self) -> Sys<usize> {
        let socket = self.socket.as_raw_fd();
        crate::sys::errno::uninterrupted(|| {
            packet::receive(socket, &mut self.buffer, BlockingMode::Blocks)
        })
    }
}

/// The error number of an acknowledgement; 0 for a success.
fn error_of(message: Message<'_>) -> Errno {
    let code = wire::word(message.payload, 0).map_or(-libc::EIO, u32::cast_signed);
    Errno(code.wrapping_neg())
}
