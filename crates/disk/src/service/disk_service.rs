//! The service as its owner sees it, and the thread that accepts clients.

use super::connection::{Link, ServedExport, serve};
use super::pace::{Pace, PaceControl};
use crate::export::Export;
use camino::{Utf8Path, Utf8PathBuf};
use parking_lot::{Condvar, Mutex};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

/// Clients beyond these are refused. QEMU opens one connection, or a few.
const MOST_CONNECTIONS: usize = 64;

/// How long the service waits when the host has no descriptors left, before it accepts again.
const PAUSE: Duration = Duration::from_millis(50);

/// A disk on a Unix socket. Dropping it ends its threads, closes its connections and removes its socket; commands that
/// wait for their delay are dropped.
pub struct DiskService {
    shared: Arc<Shared>,
    listener: Arc<UnixListener>,
    accepting: Option<JoinHandle<()>>,
    socket: Utf8PathBuf,
}

struct Shared {
    served: Arc<ServedExport>,
    connections: Mutex<Vec<OpenConnection>>,
    is_stopping: Mutex<bool>,
    stopping: Condvar,
}

struct OpenConnection {
    link: Weak<Link>,
    thread: JoinHandle<()>,
}

impl DiskService {
    /// Serves the export under the name, and under the empty name. The socket must not exist.
    ///
    /// # Errors
    /// The socket cannot be made, or a thread cannot be started.
    pub fn start(export: Arc<dyn Export>, name: &str, socket: &Utf8Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            served: Arc::new(ServedExport {
                export,
                name: name.to_owned(),
                pace: PaceControl::default(),
                open: AtomicUsize::new(0),
                lost: Mutex::default(),
            }),
            connections: Mutex::default(),
            is_stopping: Mutex::new(false),
            stopping: Condvar::new(),
        });
        let listener = Arc::new(UnixListener::bind(socket)?);
        // From here on its drop removes the socket.
        let mut service = Self {
            shared,
            listener,
            accepting: None,
            socket: socket.to_owned(),
        };
        let shared = Arc::clone(&service.shared);
        let listener = Arc::clone(&service.listener);
        let accepting = Builder::new()
            .name("disk service".into())
            .spawn(move || shared.accept(&listener))?;
        service.accepting = Some(accepting);
        Ok(service)
    }

    /// From now on, a flush for which `has_ended` returns true is not the guest's: it is answered, and makes nothing
    /// durable. Called for each flush, on the thread of the connection.
    pub fn watch_guest(&self, has_ended: impl Fn() -> bool + Send + Sync + 'static) {
        self.shared.served.pace.watch_guest(Box::new(has_ended));
    }

    /// Sets how commands are treated from now on, on all connections.
    pub fn set_pace(&self, pace: Pace) {
        let served = &self.shared.served;
        served.pace.set(pace, &*served.export);
        for connection in self.shared.connections.lock().iter() {
            if let Some(link) = connection.link.upgrade() {
                link.wake();
            }
        }
    }

    /// Why no client is connected, if the last one has not disconnected: its connection was broken, or it has ended.
    pub fn lost_connection(&self) -> Option<String> {
        match self.connections() {
            0 => self.shared.served.lost.lock().clone(),
            _ => None,
        }
    }

    /// How many clients are connected.
    pub fn connections(&self) -> usize {
        self.shared.served.open.load(Ordering::SeqCst)
    }
}

impl fmt::Debug for DiskService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskService")
            .field("socket", &self.socket)
            .field("connections", &self.connections())
            .finish_non_exhaustive()
    }
}

impl Drop for DiskService {
    fn drop(&mut self) {
        // It may have been removed with its folder.
        let _ = fs::remove_file(&self.socket);
        *self.shared.is_stopping.lock() = true;
        self.shared.stopping.notify_all();
        // On Linux this wakes a thread in accept(2).
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        let connections = std::mem::take(&mut *self.shared.connections.lock());
        for connection in &connections {
            if let Some(link) = connection.link.upgrade() {
                link.stop();
            }
        }
        for connection in connections {
            // It has panicked if the export has, which was reported then.
            let _ = connection.thread.join();
        }
    }
}

impl Shared {
    /// Accepts clients until the service stops.
    fn accept(&self, listener: &UnixListener) {
        loop {
            let accepted = listener.accept();
            if *self.is_stopping.lock() {
                return;
            }
            let result = accepted.and_then(|(client, _)| self.connect(client));
            if let Err(error) = result
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::warn!(disk = self.served.name, %error, "a connection cannot be accepted");
                let mut is_stopping = self.is_stopping.lock();
                if !*is_stopping {
                    self.stopping.wait_for(&mut is_stopping, PAUSE);
                }
            }
        }
    }

    fn connect(&self, client: UnixStream) -> io::Result<()> {
        let mut connections = self.connections.lock();
        // The thread has ended, so that this does not wait.
        for ended in connections.extract_if(.., |connection| connection.thread.is_finished()) {
            let _ = ended.thread.join();
        }
        if connections.len() >= MOST_CONNECTIONS {
            tracing::debug!(disk = self.served.name, "too many connections");
            return Ok(());
        }
        let link = Arc::new(Link::new(client));
        let weak = Arc::downgrade(&link);
        let served = Arc::clone(&self.served);
        *served.lost.lock() = None;
        served.open.fetch_add(1, Ordering::SeqCst);
        let started = Builder::new()
            .name("disk client".into())
            .spawn(move || serve(&served, &link));
        match started {
            Ok(thread) => connections.push(OpenConnection { link: weak, thread }),
            Err(error) => {
                self.served.open.fetch_sub(1, Ordering::SeqCst);
                return Err(error);
            }
        }
        Ok(())
    }
}
