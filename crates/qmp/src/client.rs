//! A connection: one task reads, one writes, callers wait for their reply.
//!
//! ```text
//! execute() ──line──▶ writer task ──▶ QEMU ──▶ reader task ──reply by id──▶ execute()
//!                                                   └──────event──▶ every subscriber
//! ```
//! Callers hand whole lines to the writer, so a caller that is cancelled can never leave half a
//! command behind.
//!
//! What QEMU has sent can also be read by another thread than the reader's: see [`Events::catch_up`].

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustix::net::{RecvFlags, recv};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use crate::codec::{CommandError, Decoder, Event, Greeting, ServerMessage, encode_command};
use crate::error::{CloseReason, QmpError};
use crate::send::{Line, send};

/// Events kept for a subscriber that is slow to take them. QEMU limits the rate of those that a
/// guest can provoke.
const EVENT_BACKLOG: usize = 1024;

/// A connection to one QEMU. A clone is another handle on the same connection, which is closed when the last
/// handle is dropped.
#[derive(Clone, Debug)]
pub struct Client {
    connection: Arc<Connection>,
}

#[derive(Debug)]
struct Connection {
    shared: Arc<Shared>,
    lines: mpsc::UnboundedSender<Line>,
    next_id: AtomicU64,
    greeting: Greeting,
    tasks: [AbortHandle; 2],
}

/// Gets the reply to one command.
type ReplyReceiver = oneshot::Receiver<Result<Value, CommandError>>;

/// Where replies go, by the command's id.
type ReplySenders = HashMap<u64, oneshot::Sender<Result<Value, CommandError>>>;

#[derive(Debug)]
struct Shared {
    stream: UnixStream,
    /// Held from reading bytes to passing on their messages, so that messages stay in order.
    input: Mutex<Input>,
    waiting: Mutex<ReplySenders>,
    events: broadcast::Sender<Event>,
    closed: watch::Sender<Option<CloseReason>>,
}

/// What is read from QEMU.
#[derive(Debug)]
struct Input {
    decoder: Decoder,
    buffer: Vec<u8>,
    /// Until it has greeted.
    greet: Option<oneshot::Sender<Greeting>>,
}

/// Events from the moment of subscription on.
#[derive(Debug)]
pub struct Events {
    receiver: broadcast::Receiver<Event>,
    closed: watch::Receiver<Option<CloseReason>>,
    /// Does not keep the connection open.
    source: Weak<Shared>,
}

impl Events {
    /// The next event; `None` when the connection is closed and all its events are taken. If the backlog
    /// overflows, the oldest events are lost, and a warning is logged. Cancellation loses none.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let received = tokio::select! {
                biased;
                received = self.receiver.recv() => received,
                // All events precede the end, but this future may wake first.
                _ = self.closed.wait_for(Option::is_some) => match self.receiver.try_recv() {
                    Ok(event) => Ok(event),
                    Err(TryRecvError::Lagged(count)) => Err(RecvError::Lagged(count)),
                    Err(TryRecvError::Empty | TryRecvError::Closed) => Err(RecvError::Closed),
                },
            };
            match received {
                Ok(event) => return Some(event),
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(count)) => warn_of_loss(count),
            }
        }
    }

    /// Reads what QEMU has written to its socket by now, without waiting. An event that QEMU has sent before the caller
    /// could know of its cause is then returned by [`Self::try_next`]. On any thread, also outside of a runtime.
    pub fn catch_up(&self) {
        if let Some(source) = self.source.upgrade() {
            source.catch_up();
        }
    }

    /// The next event, if it has been read from the socket. Losses are as in [`Self::next`].
    pub fn try_next(&mut self) -> Option<Event> {
        loop {
            match self.receiver.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Lagged(count)) => warn_of_loss(count),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return None,
            }
        }
    }
}

fn warn_of_loss(count: u64) {
    tracing::warn!(count, "events of QEMU were lost");
}

impl Client {
    /// Takes the greeting and agrees on capabilities. The [`Events`] begin with the first one.
    ///
    /// # Errors
    /// [`QmpError`] if the other side is not a QMP server or closes the stream. A silent server is
    /// waited for without a deadline: the caller sets one.
    pub async fn connect(stream: UnixStream) -> Result<(Self, Events), QmpError> {
        let (events, first_events) = broadcast::channel(EVENT_BACKLOG);
        let (greet, greeted) = oneshot::channel();
        let shared = Arc::new(Shared {
            stream,
            input: Mutex::new(Input {
                decoder: Decoder::default(),
                buffer: vec![0; 16 << 10],
                greet: Some(greet),
            }),
            waiting: Mutex::default(),
            events,
            closed: watch::Sender::new(None),
        });
        let (lines, to_write) = mpsc::unbounded_channel();
        let reader = tokio::spawn(read_all(Arc::clone(&shared))).abort_handle();
        let writer = tokio::spawn(write_all(to_write, Arc::clone(&shared))).abort_handle();
        let mut tasks = AbortOnDrop(Some([reader, writer]));
        let greeting = greeted.await.map_err(|_| shared.closed_error())?;
        let Some(tasks) = tasks.0.take() else {
            return Err(shared.closed_error());
        };
        let next_id = AtomicU64::new(1);
        let connection = Arc::new(Connection {
            shared,
            lines,
            next_id,
            greeting,
            tasks,
        });
        let client = Self { connection };
        client.execute("qmp_capabilities", Value::Null).await?;
        let events = client.events_of(first_events);
        Ok((client, events))
    }

    /// QEMU's greeting.
    pub fn greeting(&self) -> &Greeting {
        &self.connection.greeting
    }

    /// Runs a command. `arguments` is an object, or null for none. If the future is dropped after its first poll,
    /// the command still runs.
    ///
    /// # Errors
    /// [`QmpError::Refused`] with QEMU's error, [`QmpError::Closed`] if the connection is closed.
    pub async fn execute(&self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None).await
    }

    /// Runs a command, and passes a descriptor with it, as `getfd` wants.
    ///
    /// # Errors
    /// As [`Client::execute`].
    pub async fn execute_with_fd(
        &self,
        command: &str,
        arguments: Value,
        fd: OwnedFd,
    ) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, Some(fd)).await
    }

    async fn execute_with(
        &self,
        command: &str,
        arguments: Value,
        fd: Option<OwnedFd>,
    ) -> Result<Value, QmpError> {
        let reply = self.send(command, &arguments, fd)?;
        match reply.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(QmpError::Refused {
                command: command.to_owned(),
                error,
            }),
            Err(_) => Err(self.connection.shared.closed_error()),
        }
    }

    /// Hands a command to the writer; the receiver gets its reply.
    fn send(
        &self,
        command: &str,
        arguments: &Value,
        fd: Option<OwnedFd>,
    ) -> Result<ReplyReceiver, QmpError> {
        let Connection {
            shared,
            lines,
            next_id,
            ..
        } = &*self.connection;
        let id = next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        shared.lock_waiting().insert(id, sender);
        // After the insertion: `Shared::close` marks the connection closed, and then empties the table.
        let bytes = encode_command(id, command, arguments);
        if shared.closed.borrow().is_some() || lines.send(Line { bytes, fd }).is_err() {
            shared.lock_waiting().remove(&id);
            return Err(shared.closed_error());
        }
        Ok(receiver)
    }

    /// Queues a command behind those that were given so far. Its reply is dropped.
    pub fn queue(&self, command: &str, arguments: &Value) {
        // An error means that the connection is closed.
        let _ = self.send(command, arguments, None);
    }

    /// Events from now on.
    pub fn events(&self) -> Events {
        self.events_of(self.connection.shared.events.subscribe())
    }

    fn events_of(&self, receiver: broadcast::Receiver<Event>) -> Events {
        Events {
            receiver,
            closed: self.closed(),
            source: Arc::downgrade(&self.connection.shared),
        }
    }

    /// Why the connection is over, once it is.
    pub fn closed(&self) -> watch::Receiver<Option<CloseReason>> {
        self.connection.shared.closed.subscribe()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.close(CloseReason::GivenUp);
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Shared {
    fn lock_waiting(&self) -> MutexGuard<'_, ReplySenders> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first reason stays.
    fn close(&self, reason: CloseReason) {
        self.closed.send_if_modified(|closed| {
            let first = closed.is_none();
            closed.get_or_insert(reason);
            first
        });
        self.lock_waiting().clear();
    }

    fn closed_error(&self) -> QmpError {
        QmpError::Closed(self.closed.borrow().clone().unwrap_or(CloseReason::GivenUp))
    }

    /// Reads what has arrived.
    fn catch_up(&self) {
        // The runtime's own view of whether the socket is readable may be older.
        let read = |buffer: &mut [u8]| Ok(recv(&self.stream, buffer, RecvFlags::DONTWAIT)?.0);
        loop {
            match self.receive(read) {
                Ok(0) => return,
                Ok(_) => {}
                Err(reason) => return self.close(reason),
            }
        }
    }

    /// Reads once, and passes on what is complete. Returns the number of bytes; 0: there is nothing to read.
    fn receive(
        &self,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> Result<usize, CloseReason> {
        let mut input = self.input.lock().unwrap_or_else(PoisonError::into_inner);
        let Input {
            decoder,
            buffer,
            greet,
        } = &mut *input;
        let count = match read(buffer) {
            Ok(0) => return Err(CloseReason::Ended),
            Ok(count) => count,
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => return Ok(0),
                // A process that is killed with unread input resets its end, which is an end, too.
                io::ErrorKind::ConnectionReset => return Err(CloseReason::Ended),
                _ => return Err(CloseReason::Io(Arc::new(error))),
            },
        };
        decoder.feed(&buffer[..count]);
        loop {
            match decoder.next_message() {
                Ok(Some(message)) => self.take(message, greet),
                Ok(None) => return Ok(count),
                Err(error) => return Err(CloseReason::Garbage(Arc::new(error))),
            }
        }
    }

    fn take(&self, message: ServerMessage, greet: &mut Option<oneshot::Sender<Greeting>>) {
        match message {
            ServerMessage::Greeting(greeting) => {
                if let Some(greet) = greet.take() {
                    // Without a receiver, the tasks are about to be stopped.
                    let _ = greet.send(greeting);
                }
            }
            ServerMessage::Reply { id, result } => {
                let waiting = id.and_then(|id| self.lock_waiting().remove(&id));
                match waiting {
                    // The caller may have stopped waiting.
                    Some(answer) => drop(answer.send(result)),
                    None => tracing::warn!(?id, ?result, "QEMU answered an unknown command"),
                }
            }
            // There may be no subscriber.
            ServerMessage::Event(event) => drop(self.events.send(event)),
        }
    }
}

async fn read_all(shared: Arc<Shared>) {
    let reason = loop {
        if let Err(error) = shared.stream.readable().await {
            break CloseReason::Io(Arc::new(error));
        }
        if let Err(reason) = shared.receive(|buffer| shared.stream.try_read(buffer)) {
            break reason;
        }
    };
    // A connection that ends before the greeting fails the caller that waits for it.
    let greet = {
        let mut input = shared.input.lock().unwrap_or_else(PoisonError::into_inner);
        input.greet.take()
    };
    shared.close(reason);
    drop(greet);
}

async fn write_all(mut lines: mpsc::UnboundedReceiver<Line>, shared: Arc<Shared>) {
    while let Some(line) = lines.recv().await {
        if let Err(error) = send(&shared.stream, line).await {
            // A closed pipe is QEMU's end; the reader, which may still have events to read, says so.
            if error.kind() != io::ErrorKind::BrokenPipe {
                shared.close(CloseReason::Io(Arc::new(error)));
            }
            return;
        }
    }
}

/// Stops the tasks of a connection that is not established.
struct AbortOnDrop(Option<[AbortHandle; 2]>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.iter().flatten().for_each(AbortHandle::abort);
    }
}
