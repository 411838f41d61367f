//! One client and its threads.

use super::delays::{DelayedCommand, Delays};
use super::pace::{PaceControl, Treatment};
use super::perform::{answer, command, perform};
use crate::export::Export;
use parking_lot::Mutex;
use provium_nbd::{ClientMessage, Connection, ExportInfo, Output, Request, RequestKind};
use std::io::{self, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{Builder, JoinHandle};

/// Replies are sent when they have this number of bytes, or no request of the client is left.
const BATCH: usize = 256 << 10;

/// What all connections of a service share.
pub(super) struct ServedExport {
    pub(super) export: Arc<dyn Export>,
    pub(super) name: String,
    pub(super) pace: PaceControl,
    /// Connections that are open.
    pub(super) open: AtomicUsize,
    /// Why the last connection has ended, if its client has not disconnected.
    pub(super) lost: Mutex<Option<String>>,
}

/// The connection, as its threads and the service see it.
pub(super) struct Link {
    socket: UnixStream,
    /// Held while replies are sent, so that those of both threads do not mix.
    sending: Mutex<()>,
    delays: Delays,
}

impl Link {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self {
            socket,
            sending: Mutex::new(()),
            delays: Delays::default(),
        }
    }

    /// Ends it: its threads return, and waiting commands are dropped.
    pub(super) fn stop(&self) {
        self.delays.stop();
        // It fails if the client has done so before.
        let _ = self.socket.shutdown(Shutdown::Both);
    }

    /// Makes its delays check the pace.
    pub(super) fn wake(&self) {
        self.delays.wake();
    }

    fn send(&self, output: &mut Output) -> io::Result<()> {
        if output.bytes().is_empty() {
            return Ok(());
        }
        let result = {
            let _turn = self.sending.lock();
            (&self.socket).write_all(output.bytes())
        };
        output.clear();
        result
    }
}

/// Serves the client until it disconnects or is stopped, and ends the connection.
pub(super) fn serve(served: &Arc<ServedExport>, link: &Arc<Link>) {
    // Counts the connection as ended before the client can see that it is, also if the export panics.
    let guard = ConnectionGuard(served, link);
    let mut thread = ConnectionThread {
        served,
        link,
        delayed: None,
    };
    match thread.run() {
        Ok(()) => {
            *served.lost.lock() = None;
            served.pace.leave();
            link.delays.close();
        }
        Err(error) => {
            tracing::debug!(disk = served.name, %error, "a connection has ended");
            *served.lost.lock() = Some(match error.kind() {
                io::ErrorKind::UnexpectedEof => "it was closed".to_owned(),
                _ => error.to_string(),
            });
            link.delays.stop();
        }
    }
    if let Some(delayed) = thread.delayed {
        // It has panicked if the export has; the connection ends in any case.
        let _ = delayed.join();
    }
    drop(guard);
}

struct ConnectionGuard<'a>(&'a ServedExport, &'a Link);

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            *self.0.lost.lock() = Some("its server has panicked".to_owned());
        }
        self.0.open.fetch_sub(1, Ordering::SeqCst);
        self.1.stop();
    }
}

struct ConnectionThread<'a> {
    served: &'a Arc<ServedExport>,
    link: &'a Arc<Link>,
    /// Carries out delayed commands; started for the first of them.
    delayed: Option<JoinHandle<()>>,
}

impl ConnectionThread<'_> {
    /// Returns when the client disconnects.
    fn run(&mut self) -> io::Result<()> {
        let export = ExportInfo {
            name: self.served.name.clone(),
            size: self.served.export.size(),
            is_read_only: self.served.export.is_read_only(),
        };
        let mut output = Output::default();
        let mut client = Connection::new(export, &mut output);
        loop {
            match client.next(&mut output) {
                Ok(Some(ClientMessage::Request(request))) => {
                    self.request(&request, &mut client, &mut output)?;
                    if output.bytes().len() >= BATCH {
                        self.link.send(&mut output)?;
                    }
                }
                Ok(Some(ClientMessage::Disconnect)) => return self.link.send(&mut output),
                Ok(None) => {
                    self.link.send(&mut output)?;
                    receive(&self.link.socket, &mut client)?;
                }
                Err(violation) => {
                    self.link.send(&mut output)?;
                    return Err(io::Error::new(io::ErrorKind::InvalidData, violation));
                }
            }
        }
    }

    /// Carries out a request, or puts it into the queue of delays.
    fn request(
        &mut self,
        request: &Request,
        client: &mut Connection,
        output: &mut Output,
    ) -> io::Result<()> {
        let export = &*self.served.export;
        let command = command(request);
        if request.kind == RequestKind::Flush {
            // It may take long, and replies to other requests need not wait for it.
            self.link.send(output)?;
        }
        if let Treatment::Answered(result) = self.served.pace.treat(command, export) {
            answer(request, result, output);
            return Ok(());
        }
        let admission = export.admit(command);
        if admission.delay.is_zero() || !self.served.pace.is_normal() {
            perform(export, &admission, request, client.data(), output);
            return Ok(());
        }
        if self.delayed.is_none() {
            self.delayed = Some(start_delayed(self.served, self.link)?);
        }
        let data = match request.kind {
            RequestKind::Write => client.take_data(),
            _ => Vec::new(),
        };
        if self.link.delays.is_full() {
            self.link.send(output)?;
        }
        let waits = self.link.delays.push(DelayedCommand {
            admission,
            request: *request,
            data,
        });
        // The service has ended in the meantime.
        waits
            .then_some(())
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }
}

/// Reads what the client has sent, at least a byte.
fn receive(mut socket: &UnixStream, client: &mut Connection) -> io::Result<()> {
    let mut space = client.space().map(IoSliceMut::new);
    let count = loop {
        match socket.read_vectored(&mut space) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => break result?,
        }
    };
    if count == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    client.received(count);
    Ok(())
}

/// Starts the thread that carries out delayed commands.
fn start_delayed(served: &Arc<ServedExport>, link: &Arc<Link>) -> io::Result<JoinHandle<()>> {
    let (served, link) = (Arc::clone(served), Arc::clone(link));
    Builder::new().name("disk delays".into()).spawn(move || {
        let mut output = Output::default();
        while let Some(delayed) = link.delays.next(&served.pace) {
            let DelayedCommand {
                admission,
                request,
                data,
            } = delayed;
            perform(&*served.export, &admission, &request, &data, &mut output);
            // The thread that reads from the client notices that it is gone.
            let _ = link.send(&mut output);
        }
    })
}
