//! Connections to servers in the guest.
//!
//! ```text
//!   executor ══ input pipe ══▶ this process ══▶ server
//!   executor ◀═ output pipe ══ this process ◀══ server
//! ```
//!
//! The process copies in both directions until both have ended. A pipe that it closes while it works is
//! an orderly end; what it stores in its slot before it exits is the outcome of the connection. The
//! executor closes the output pipe when the call is cancelled: then what has been sent before is still
//! delivered, for a while.

use super::operation::{Operation, with_room};
use crate::failure::{self, OpResult};
use crate::sys::slot::PipeEnd;
use crate::sys::{Errno, Sys, fd, socket};
use provium_protocol::op::Address;
use provium_protocol::{Reply, WireError};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How much is on its way in one direction, bytes.
const BUFFER: usize = 64 * 1024;
/// Size of the pipes, bytes: the window of a stream fits.
const PIPE: usize = 1024 * 1024;
/// How long a server may take to read what was sent before a cancel.
const LINGER: Duration = Duration::from_secs(2);

/// Connects to a server.
pub(super) fn open(operation: &Operation, address: &Address) -> Sys<OwnedFd> {
    match address {
        Address::Unix(path) => {
            let path = operation.resolve(path);
            with_room(|| socket::connect_unix(&path))
        }
        Address::Port(port) => {
            let socket = match with_room(|| socket::connect_ipv4(*port)) {
                Ok(socket) => socket,
                // That of the first attempt says more: there may be no IPv6.
                Err(errno) => socket::connect_ipv6(*port).map_err(|_| errno)?,
            };
            let _ = socket::set_nodelay(socket.as_raw_fd());
            Ok(socket)
        }
    }
}

/// Connects, and copies until the connection has ended.
pub(super) fn run(operation: &Operation, address: &Address) -> OpResult {
    let socket = open(operation, address).map_err(|errno| failure::os("connect", errno))?;
    let pipe = |which| {
        let ends = operation.make_pipe(which);
        ends.map_err(|errno| failure::os("make a pipe", errno))
    };
    let (input, input_end) = pipe(PipeEnd::Input)?;
    let (output, output_end) = pipe(PipeEnd::Output)?;
    for end in [&input, &output] {
        // An ordinary user may have reached the limit on such memory; then the pipe stays as it is.
        let _ = fd::set_pipe_size(end.as_raw_fd(), PIPE);
    }
    operation.hand_over();
    drop((input_end, output_end));
    for end in [&input, &output, &socket] {
        fd::set_nonblocking(end.as_raw_fd()).map_err(|errno| failure::os("fcntl", errno))?;
    }
    let connection = Connection {
        socket,
        input: Some(input),
        output: Some(output),
        to_server: Flow::new(),
        from_server: Flow::new(),
        refused: None,
        linger: None,
    };
    connection.copy().map(|()| Reply::Done)
}

/// Bytes on their way in one direction.
struct Flow {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The source has no more.
    ended: bool,
}

impl Flow {
    fn new() -> Self {
        Self {
            buffer: vec![0; BUFFER],
            start: 0,
            end: 0,
            ended: false,
        }
    }

    fn is_empty(&self) -> bool {
        self.start == self.end
    }

    fn has_room(&self) -> bool {
        self.is_empty() && !self.ended
    }

    fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    fn read(&mut self, from: RawFd) -> Sys<()> {
        match fd::read(from, &mut self.buffer) {
            Ok(0) => self.ended = true,
            Ok(got) => (self.start, self.end) = (0, got),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    fn write(&mut self, to: RawFd) -> Sys<()> {
        match fd::write(to, &self.buffer[self.start..self.end]) {
            Ok(put) => self.start += put,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }
}

struct Connection {
    socket: OwnedFd,
    input: Option<OwnedFd>,
    output: Option<OwnedFd>,
    to_server: Flow,
    from_server: Flow,
    /// Why the server takes nothing any more, although it may still send.
    refused: Option<Errno>,
    /// The call was cancelled; when to give up the rest.
    linger: Option<Instant>,
}

impl Connection {
    fn copy(mut self) -> Result<(), WireError> {
        loop {
            let sends = self.input.is_some() || !self.to_server.is_empty();
            if !sends && (self.output.is_none() || self.from_server.ended) {
                return match self.refused {
                    Some(errno) => Err(failure::os("write", errno)),
                    None => Ok(()),
                };
            }
            let left = match self
                .linger
                .map(|until| until.checked_duration_since(Instant::now()))
            {
                Some(None) => return Err(failure::cancelled()),
                Some(left) => left,
                None => None,
            };
            let ready = self.poll(left);
            if ready.output & libc::POLLERR != 0 {
                self.output = None;
                self.linger = Some(Instant::now() + LINGER);
            }
            self.receive(&ready)?;
            self.send(&ready)?;
        }
    }

    fn poll(&self, timeout: Option<Duration>) -> Ready {
        let mut socket = 0;
        if self.from_server.has_room() {
            socket |= libc::POLLIN;
        }
        if !self.to_server.is_empty() {
            socket |= libc::POLLOUT;
        }
        // Its end and its errors are reported whatever is asked for, again and again.
        let watched = socket != 0 || self.from_server.ended;
        let number = |fd: Option<&OwnedFd>| fd.map_or(-1, AsRawFd::as_raw_fd);
        let input = self.input.as_ref().filter(|_| self.to_server.has_room());
        let output = if self.from_server.is_empty() {
            0
        } else {
            libc::POLLOUT
        };
        let mut fds = [
            fd::interest(number(Some(&self.socket).filter(|_| watched)), socket),
            fd::interest(number(input), libc::POLLIN),
            fd::interest(number(self.output.as_ref()), output),
        ];
        // A failure counts as ready: the calls that follow report it.
        let _ = fd::poll(&mut fds, timeout);
        let [socket, input, output] = fds.map(|slot| slot.revents);
        Ready {
            socket,
            input,
            output,
        }
    }

    fn receive(&mut self, ready: &Ready) -> Result<(), WireError> {
        let socket = self.socket.as_raw_fd();
        const ENDED: i16 = libc::POLLERR | libc::POLLHUP;
        if self.from_server.ended && ready.socket & ENDED != 0 {
            // The server has closed both directions.
            self.input = None;
            self.to_server.clear();
            self.refused = self.refused.or(socket::pending_error(socket));
            return Ok(());
        }
        if ready.socket & (libc::POLLIN | ENDED) != 0 && self.from_server.has_room() {
            let read = self.from_server.read(socket);
            read.map_err(|errno| failure::os("read", errno))?;
        }
        match &self.output {
            None => self.from_server.clear(),
            Some(output) if !self.from_server.is_empty() => {
                if self.from_server.write(output.as_raw_fd()).is_err() {
                    self.output = None;
                    self.linger = Some(Instant::now() + LINGER);
                }
            }
            Some(_) => {}
        }
        if self.from_server.ended && self.from_server.is_empty() {
            // An orderly end.
            self.output = None;
        }
        Ok(())
    }

    fn send(&mut self, ready: &Ready) -> Result<(), WireError> {
        let Some(input) = &self.input else {
            return Ok(());
        };
        if ready.input != 0 && self.to_server.has_room() {
            let read = self.to_server.read(input.as_raw_fd());
            read.map_err(|errno| failure::os("read the input", errno))?;
        }
        let socket = self.socket.as_raw_fd();
        if !self.to_server.is_empty()
            && let Err(errno) = self.to_server.write(socket)
        {
            // What the server has sent before comes first.
            self.refused = Some(errno);
            self.input = None;
            self.to_server.clear();
        } else if self.to_server.ended && self.to_server.is_empty() {
            self.input = None;
            let _ = socket::end_sending(socket);
        }
        Ok(())
    }
}

/// What [`Connection::poll`] has found.
struct Ready {
    socket: i16,
    input: i16,
    output: i16,
}
