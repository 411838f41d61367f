//! A connection to a server in the guest, as a test holds it.
//!
//! What the server sends is a [`ByteStream`], which counts as an open stream of the VM until the
//! connection is closed. Either direction ends by itself. A connection is closed by its scope, and a reset
//! or a restore of the VM invalidates it.

use super::address::{argument, words};
use crate::error::LabError;
use crate::guest::context::CallContext;
use crate::guest::ops::GuestOps;
use crate::guest::stream::{ByteSource, ByteStream, ReadFuture, Site, StreamKind, StreamParts};
use crate::resource::{Close, CloseFuture, CloseOrder, GuestKey, Registration, ResourceId, Scope};
use provium_guest::{CallError, ConnectionReader};
use provium_protocol::op::Address;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::timeout;

/// How long the guest may take to accept what was sent before a close.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// A connection to a server in the guest.
#[derive(Clone)]
pub struct Connection(Arc<Inner>);

struct Inner {
    id: ResourceId,
    subject: String,
    context: CallContext,
    guest: provium_guest::Connection,
    stream: ByteStream,
    closed: AtomicBool,
    place: Registration,
}

impl Connection {
    /// Connects to a server.
    ///
    /// # Errors
    /// What the guest answers, and that the server did not accept the connection within `limit`.
    pub async fn open(
        ops: &GuestOps,
        scope: &Scope,
        address: Address,
        limit: Duration,
        site: Site,
    ) -> Result<Self, LabError> {
        let target = ops.target();
        let subject = format!("connection to {} of {}", words(&address), target.subject());
        let context = CallContext::new(target, format!("connect({})", argument(&address)))?;
        let guest = match timeout(limit, context.lane.connect(address)).await {
            Ok(connected) => context.explain(connected).await?,
            Err(_) => return Err(context.given_up(limit).await),
        };
        let context = context.made_now()?.with_subject(subject.clone(), "next()");
        let source = Box::new(ConnectionSource {
            reader: guest.reader(),
            context: context.clone(),
        });
        let parts = StreamParts {
            kind: StreamKind::Connection,
            subject: subject.clone(),
            site,
            source,
            open: Arc::clone(target.vm().open_streams()),
        };
        let stream = ByteStream::open(scope, parts);
        if let Some(worker) = target.worker() {
            worker.adopt_tail(&stream);
        }
        let id = ResourceId::next();
        let connection = Self(Arc::new(Inner {
            id,
            subject,
            context,
            guest,
            stream,
            closed: AtomicBool::new(false),
            place: Registration::default(),
        }));
        let resource = Arc::new(connection.clone());
        connection
            .0
            .place
            .take(scope, (CloseOrder::Stream, id), resource);
        Ok(connection)
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name in messages: ``connection to port 80 of vm `web` ``.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// What the server sends.
    pub fn stream(&self) -> &ByteStream {
        &self.0.stream
    }

    /// Sends bytes, as fast as the server takes them; gives their number.
    ///
    /// # Errors
    /// That the connection was closed, on either side, or why it failed.
    pub async fn send(&self, data: &[u8]) -> Result<u64, LabError> {
        let context = self.context("send()");
        if self.0.closed.load(Ordering::Acquire) {
            let why = StreamKind::Connection.closed();
            return Err(LabError::gone(self.subject(), &context.call, why));
        }
        let context = context.validate("the connection")?;
        let guest = &self.0.guest;
        match guest.writer().write_all(data).await {
            Err(CallError::InputClosed) => match guest.failure() {
                Some(error) => context.explain(Err(error)).await?,
                None if guest.is_over() => {
                    return Err(context.invalid("the server has closed the connection"));
                }
                None => return Err(context.invalid("this side was ended by close_write()")),
            },
            written => context.explain(written).await?,
        }
        Ok(data.len() as u64)
    }

    /// Ends this side: the server reads an end of file after what was sent. Ended already is fine.
    pub fn close_write(&self) {
        self.0.guest.writer().finish();
    }

    /// Closes both sides. The server still gets what was sent, if it reads it soon. Closed already is
    /// fine.
    pub async fn close(&self) {
        if !self.0.closed.swap(true, Ordering::AcqRel) {
            self.close_write();
            // What is not delivered by then is dropped.
            let _ = timeout(FLUSH_LIMIT, self.0.guest.flushed()).await;
            self.0.guest.close();
            self.0.place.leave();
        }
        self.0.stream.end().await;
    }

    fn context(&self, call: &str) -> CallContext {
        self.0.context.with_subject(self.0.subject.clone(), call)
    }
}

impl Close for Connection {
    fn subject(&self) -> String {
        self.0.subject.clone()
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(async {
            Self::close(self).await;
            Ok(())
        })
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(self.0.context.target.vm().key())
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").field(&self.0.subject).finish()
    }
}

/// What a server sends.
struct ConnectionSource {
    reader: ConnectionReader,
    context: CallContext,
}

impl ByteSource for ConnectionSource {
    fn read(&mut self) -> ReadFuture<'_> {
        Box::pin(async {
            let bytes = self.reader.next().await;
            self.context.explain(bytes).await
        })
    }
}
