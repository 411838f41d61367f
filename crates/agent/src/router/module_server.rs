//! Kernel modules on demand: passes requests of `modprobe` to the host, and its replies back.
//!
//! ```text
//!   kernel or user ─ runs ─▶ modprobe ── name ──▶ router ── GuestRequest ──▶ host
//!                               ◀── its bytes ─────────┘ ◀── HostReply ──┘
//! ```

use super::effect::Effect;
use crate::module_socket;
use crate::sys::packet;
use crate::sys::{Errno, Sys, fd};
use provium_protocol::{CallId, Frame, FrameKind, GuestRequest, Lane, codec};
use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

const MAX_NAME: usize = 4096;

/// Listens if modules are loaded on demand; the default does not.
#[derive(Debug, Default)]
pub(crate) struct ModuleServer {
    listener: Option<OwnedFd>,
    clients: BTreeMap<u32, Client>,
    next: u32,
}

#[derive(Debug)]
struct Client {
    socket: OwnedFd,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Sends the name of a module.
    Naming(Vec<u8>),
    /// The request has been sent to the host.
    Waiting,
    /// The host's reply is being passed on.
    Replying {
        bytes: Vec<u8>,
        written: usize,
        whole: bool,
    },
}

impl ModuleServer {
    pub(crate) fn listen() -> Sys<Self> {
        Ok(Self {
            listener: Some(module_socket::listen()?),
            ..Self::default()
        })
    }

    /// Serves a process of the agent's own that requests a module on the other end of this socket, which
    /// never waits.
    pub(super) fn adopt(&mut self, socket: OwnedFd) {
        self.next = (self.next + 1) & 0x7fff_ffff;
        let client = Client {
            socket,
            state: State::Naming(Vec::new()),
        };
        self.clients.insert(self.next, client);
    }

    pub(super) fn each(&self, mut add: impl FnMut(RawFd, i16)) {
        if let Some(listener) = &self.listener {
            add(listener.as_raw_fd(), libc::POLLIN);
        }
        for client in self.clients.values() {
            let events = match &client.state {
                State::Naming(_) => libc::POLLIN,
                State::Waiting => continue,
                State::Replying { bytes, written, .. } if *written < bytes.len() => libc::POLLOUT,
                State::Replying { .. } => continue,
            };
            add(client.socket.as_raw_fd(), events);
        }
    }

    /// A part of the host's reply.
    pub(super) fn on_reply(&mut self, frame: &Frame) {
        let Some(client) = self.clients.get_mut(&frame.call.0) else {
            return;
        };
        if matches!(client.state, State::Waiting) {
            client.state = State::Replying {
                bytes: Vec::new(),
                written: 0,
                whole: false,
            };
        }
        if let State::Replying { bytes, whole, .. } = &mut client.state {
            bytes.extend_from_slice(&frame.payload);
            *whole = !frame.more;
        }
    }

    /// Whether a reply of the host is expected, or has arrived only in part.
    pub(super) fn awaits_host(&self) -> bool {
        let unanswered = |client: &Client| match &client.state {
            State::Naming(_) => false,
            State::Waiting => true,
            State::Replying { whole, .. } => !whole,
        };
        self.clients.values().any(unanswered)
    }

    /// A new session begins: the host does not reply to requests of the old one.
    pub(super) fn reset(&mut self) {
        self.clients
            .retain(|_, client| matches!(client.state, State::Naming(_)));
    }

    /// Serves all clients as far as they are ready. Without a session (`has_host`), a request is refused.
    pub(super) fn service(&mut self, has_host: bool, effects: &mut Vec<Effect>) {
        while let Some(listener) = &self.listener
            && let Ok(socket) = packet::accept(listener.as_raw_fd())
        {
            self.adopt(socket);
        }
        let mut requests = Vec::new();
        self.clients
            .retain(|id, client| client.service(|name| requests.push((*id, name))));
        for (id, name) in requests {
            if !has_host {
                self.clients.remove(&id);
                continue;
            }
            effects.push(Effect::Send {
                kind: FrameKind::GuestRequest,
                lane: Lane::AGENT,
                call: CallId(id),
                message: codec::encode(&GuestRequest::Module { name }),
            });
        }
    }
}

impl Client {
    /// False when it has been served, or has failed.
    fn service(&mut self, request: impl FnOnce(String)) -> bool {
        let fd = self.socket.as_raw_fd();
        match &mut self.state {
            State::Naming(name) => {
                let mut piece = [0; 512];
                loop {
                    match fd::read(fd, &mut piece) {
                        // It does not need the module after all.
                        Ok(0) if name.is_empty() => return false,
                        Ok(0) => {
                            request(String::from_utf8_lossy(name).into_owned());
                            self.state = State::Waiting;
                            return true;
                        }
                        Ok(got) => name.extend_from_slice(&piece[..got]),
                        Err(Errno::AGAIN | Errno::INTR) => return name.len() <= MAX_NAME,
                        Err(_) => return false,
                    }
                }
            }
            State::Waiting => true,
            State::Replying {
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
