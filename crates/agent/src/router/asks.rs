//! Programs of the guest that ask for kernel modules: `modprobe` on one side of a socket, the host
//! on the other, the router between them.
//!
//! ```text
//!   kernel or user ─ runs ─▶ modprobe ── name ──▶ router ── GuestRequest ──▶ host
//!                               ◀── Answer's bytes ──┘ ◀── HostReply ──┘
//! ```

use crate::sys::packet;
use crate::sys::{Errno, Sys, fd};
use provium_protocol::{CallId, Frame, FrameKind, GuestRequest, HostReply, Lane, codec};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use super::serve::Router;

/// Where `modprobe` finds the router.
pub(crate) const SOCKET_PATH: &str = "/.provium/modules.sock";
const LONGEST_NAME: usize = 4096;

/// Listens, where modules are had on demand.
#[derive(Debug, Default)]
pub(crate) struct Asks {
    listener: Option<OwnedFd>,
    clients: BTreeMap<u32, Client>,
    next: u32,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Naming(Vec<u8>),
    /// The host is asked.
    Waiting,
    /// What is still to be written, and whether that is all.
    Answering {
        bytes: Vec<u8>,
        written: usize,
        whole: bool,
    },
}

impl Asks {
    pub(crate) fn listen() -> Sys<Self> {
        Ok(Self {
            listener: Some(packet::listen(SOCKET_PATH)?),
            ..Self::default()
        })
    }

    pub(super) fn each(&self, mut add: impl FnMut(RawFd, i16)) {
        if let Some(listener) = &self.listener {
            add(listener.as_raw_fd(), libc::POLLIN);
        }
        for client in self.clients.values() {
            let events = match &client.stage {
                Stage::Naming(_) => libc::POLLIN,
                Stage::Waiting => continue,
                Stage::Answering { bytes, written, .. } if *written < bytes.len() => libc::POLLOUT,
                Stage::Answering { .. } => continue,
            };
            add(client.socket.as_raw_fd(), events);
        }
    }

    /// Part of the host's answer.
    pub(super) fn answer(&mut self, frame: &Frame) {
        let Some(client) = self.clients.get_mut(&frame.call.0) else {
            return;
        };
        if matches!(client.stage, Stage::Waiting) {
            client.stage = Stage::Answering {
                bytes: Vec::new(),
                written: 0,
                whole: false,
            };
        }
        if let Stage::Answering { bytes, whole, .. } = &mut client.stage {
            bytes.extend_from_slice(&frame.payload);
            *whole = !frame.more;
        }
    }

    /// Whether the host has not answered all it was asked.
    pub(super) fn is_waiting(&self) -> bool {
        let unanswered = |client: &Client| match &client.stage {
            Stage::Naming(_) => false,
            Stage::Waiting => true,
            Stage::Answering { whole, .. } => !whole,
        };
        self.clients.values().any(unanswered)
    }

    /// The host that was asked is gone.
    pub(super) fn forget(&mut self) {
        self.clients
            .retain(|_, client| matches!(client.stage, Stage::Naming(_)));
    }

    /// Moves everybody on; gives the names that were asked for.
    fn tend(&mut self) -> Vec<(u32, String)> {
        if let Some(listener) = &self.listener {
            while let Ok(socket) = packet::accept(listener.as_raw_fd()) {
                self.next = (self.next + 1) & 0x7fff_ffff;
                let client = Client {
                    socket,
                    stage: Stage::Naming(Vec::new()),
                };
                self.clients.insert(self.next, client);
            }
        }
        let mut asked = Vec::new();
        self.clients
            .retain(|id, client| client.tend(|name| asked.push((*id, name))));
        asked
    }
}

impl Client {
    /// False when it is done with.
    fn tend(&mut self, ask: impl FnOnce(String)) -> bool {
        let fd = self.socket.as_raw_fd();
        match &mut self.stage {
            Stage::Naming(name) => {
                let mut piece = [0; 512];
                loop {
                    match fd::read(fd, &mut piece) {
                        Ok(0) => {
                            ask(String::from_utf8_lossy(name).into_owned());
                            self.stage = Stage::Waiting;
                            return true;
                        }
                        Ok(got) => name.extend_from_slice(&piece[..got]),
                        Err(Errno::AGAIN | Errno::INTR) => return name.len() <= LONGEST_NAME,
                        Err(_) => return false,
                    }
                }
            }
            Stage::Waiting => true,
            Stage::Answering {
                bytes,
                written,
                whole,
            } => {
                while *written < bytes.len() {
                    match fd::write(fd, &bytes[*written..]) {
                        Ok(put) => *written += put,
                        Err(Errno::AGAIN | Errno::INTR) => return true,
                        Err(_) => return false,
                    }
                }
                bytes.clear();
                *written = 0;
                !*whole
            }
        }
    }
}

impl Router {
    pub(super) fn tend_asks(&mut self) {
        if !self.quiet.is_talking() {
            return;
        }
        for (id, name) in self.duties.asks.tend() {
            if self.session.is_none() {
                self.duties.asks.clients.remove(&id);
                continue;
            }
            let ask = codec::encode(&GuestRequest::Module { name });
            self.say(FrameKind::GuestRequest, Lane::AGENT, CallId(id), &ask);
        }
    }
}

/// Asks the router for a module, from a process of its own. `None`: nobody answers.
pub(crate) fn ask_for_module(name: &str) -> Option<HostReply> {
    let socket = packet::connect(SOCKET_PATH).ok()?;
    fd::write_all(socket.as_raw_fd(), name.as_bytes()).ok()?;
    packet::finish_writing(socket.as_raw_fd()).ok()?;
    let answer = fd::read_to_end(socket.as_raw_fd()).ok()?;
    codec::decode(&answer).ok()
}
