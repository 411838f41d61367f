//! A listener on the host's loopback interface, for clients on the host.
//!
//! ```text
//!   client ── TCP ──▶ listener ── agent's channel ──▶ server in the guest
//! ```
//!
//! Each client gets a connection of its own in the guest. The listener belongs to its scope. It outlives
//! the guest: while that does not run, and wherever the guest's side fails, the client's connection is
//! reset, so that the client sees an error and no end.

use super::address::{argument, words};
use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::ops::GuestOps;
use crate::guest::stream::{OpenStreams, Site};
use crate::guest::target::Target;
use crate::lock::lock;
use crate::resource::{Close, CloseFuture, CloseOrder, Registration, ResourceId, Scope};
use provium_guest::{CallError, Connection};
use provium_protocol::op::Address;
use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Bytes that are read from a client at a time.
const CHUNK: usize = 64 * 1024;
/// How long the listener waits if it cannot accept a client: the process may have too many open files.
const ACCEPT_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// Opens a listener until the scope ends; gives its address.
///
/// # Errors
/// Unless the VM is booted, and when the host cannot listen.
pub async fn forward(
    ops: &GuestOps,
    scope: &Scope,
    address: Address,
    site: Site,
) -> Result<SocketAddr, LabError> {
    let target = ops.target();
    let context = CallContext::new(target, format!("forward({})", argument(&address)))?;
    let local =
        |error: io::Error| LabError::host(context.subject.clone(), &context.call, Listen(error));
    // Clients are served while the thread of the test is in a call that blocks it, such as `os.execute`.
    let runtime = target.vm().runtime();
    let bound = runtime.spawn(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
    let listener = match bound.await {
        Ok(bound) => bound.map_err(local)?,
        Err(error) => return Err(local(io::Error::other(error))),
    };
    let at = listener.local_addr().map_err(local)?;
    let link = Arc::new(Link {
        subject: format!(
            "client of {at}, which is {} of {}",
            words(&address),
            context.subject
        ),
        target: target.clone(),
        address,
        call: context.call.clone(),
        site,
    });
    let task = runtime.spawn(accept(listener, Arc::clone(&link)));
    let forward = Forward {
        subject: format!("forward of {at} to {}", context.subject),
        task: Mutex::new(Some(task)),
    };
    // The scope alone knows it: nothing closes it earlier.
    let key = (CloseOrder::Stream, ResourceId::next());
    Registration::default().take(scope, key, Arc::new(forward));
    Ok(at)
}

/// Why the host cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on 127.0.0.1")]
struct Listen(#[source] io::Error);

/// What connects a client with the guest.
struct Link {
    target: Target,
    address: Address,
    call: String,
    /// What an open connection is called where the VM's open streams are listed.
    subject: String,
    site: Site,
}

/// The listener; ends with its task.
struct Forward {
    subject: String,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Close for Forward {
    fn subject(&self) -> String {
        self.subject.clone()
    }

    fn close(&self) -> CloseFuture<'_> {
        let task = lock(&self.task).take();
        Box::pin(async {
            if let Some(task) = task {
                task.abort();
                // It says that it was aborted.
                let _ = task.await;
            }
            Ok(())
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

/// Accepts clients; those that are served are reset when this is dropped.
async fn accept(listener: TcpListener, link: Arc<Link>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let link = Arc::clone(&link);
                    clients.spawn(async move { link.serve(client).await });
                }
                Err(_) => tokio::time::sleep(ACCEPT_AGAIN_AFTER).await,
            },
            Some(_) = clients.join_next() => {}
        }
    }
}

impl Link {
    /// Joins a client with a new connection in the guest.
    async fn serve(&self, mut client: TcpStream) {
        // However this ends, the client sees a reset, unless both sides have ended in order.
        if set_socket_linger(&client, Some(Duration::ZERO)).is_err() {
            return;
        }
        let _ = client.set_nodelay(true);
        let Ok(context) = CallContext::new(&self.target, self.call.clone()) else {
            return;
        };
        let Ok(guest) = context.lane.connect(self.address.clone()).await else {
            return;
        };
        let _open = ForwardedClient::new(self);
        if copy(&mut client, &guest).await.is_ok() {
            let _ = set_socket_linger(&client, None);
        }
    }
}

/// Which side has ended a client's connection early.
enum BrokenSide {
    Client,
    Guest,
}

impl From<io::Error> for BrokenSide {
    fn from(_: io::Error) -> Self {
        Self::Client
    }
}

impl From<CallError> for BrokenSide {
    fn from(_: CallError) -> Self {
        Self::Guest
    }
}

/// Copies in both directions until both have ended.
async fn copy(client: &mut TcpStream, guest: &Connection) -> Result<(), BrokenSide> {
    let (mut from_client, mut to_client) = client.split();
    let upload = async {
        let writer = guest.writer();
        let mut buffer = vec![0; CHUNK];
        loop {
            match from_client.read(&mut buffer).await? {
                0 => break,
                got => writer.write_all(&buffer[..got]).await?,
            }
        }
        writer.finish();
        Ok::<_, BrokenSide>(())
    };
    let download = async {
        let mut reader = guest.reader();
        while let Some(bytes) = reader.next().await? {
            to_client.write_all(&bytes).await?;
        }
        to_client.shutdown().await?;
        Ok(())
    };
    tokio::try_join!(upload, download)?;
    // The server has everything by then.
    guest.ended().await;
    guest.failure().map_or(Ok(()), |_| Err(BrokenSide::Guest))
}

/// A client that is served, as an open stream of the VM.
struct ForwardedClient {
    id: ResourceId,
    streams: Arc<OpenStreams>,
}

impl ForwardedClient {
    fn new(link: &Link) -> Self {
        let streams = Arc::clone(link.target.vm().open_streams());
        let id = ResourceId::next();
        streams.add(id, &link.subject, &link.site);
        Self { id, streams }
    }
}

impl Drop for ForwardedClient {
    fn drop(&mut self) {
        self.streams.remove(self.id);
    }
}
