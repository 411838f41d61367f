//! A port of the test script: the script itself as a peer of the guests.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::bridge::Bridge;
use crate::network::member::{Member, NicAddresses};
use crate::resource::{Close, CloseOrder, Closing, Registration, ResourceId, Scope};
use provium_switch::MacAddress;
use std::fmt;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the guests have to forget the name of a port that is closed.
const UPDATE_PATIENCE: Duration = Duration::from_secs(5);

/// A port of the test script.
#[derive(Clone)]
pub struct Port(Arc<Inner>);

struct Inner {
    id: ResourceId,
    bridge: Bridge,
    member: Member,
    frames: Mutex<FrameQueue>,
    is_closed: AtomicBool,
    place: Registration,
}

/// The frames that have arrived at a port.
pub(crate) type FrameQueue = mpsc::Receiver<(Duration, bytes::Bytes)>;

/// A port that is not kept open.
pub(crate) struct WeakPort(Weak<Inner>);

/// A frame that a port has received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// When it arrived, nanoseconds since 1970.
    pub time_ns: i64,
    /// From the destination address on, without the checksum.
    pub bytes: Vec<u8>,
}

impl Bridge {
    /// Adds a port of the test script, until the scope ends. Its addresses are those that are given, or free ones.
    ///
    /// # Errors
    /// When a member has its name or one of its addresses.
    pub async fn port(
        &self,
        scope: &Scope,
        name: &str,
        mac: Option<MacAddress>,
        ip: Option<Ipv4Addr>,
    ) -> Result<Port, LabError> {
        let call = format!("port({name:?})");
        let opened = self
            .add_port(&call, name, (mac, ip), async |switch, settings| {
                switch.open(settings).await
            })
            .await;
        let (member, frames) = opened?;
        let port = Port::owned_by(scope, ResourceId::next(), self, member, frames);
        self.update_members(&[]).await?;
        Ok(port)
    }
}

impl Port {
    /// A port in the care of `scope`.
    fn owned_by(
        scope: &Scope,
        id: ResourceId,
        bridge: &Bridge,
        member: Member,
        frames: FrameQueue,
    ) -> Self {
        let port = Self(Arc::new(Inner {
            id,
            bridge: bridge.clone(),
            member,
            frames: Mutex::new(frames),
            is_closed: AtomicBool::new(false),
            place: Registration::default(),
        }));
        let key = (CloseOrder::Stream, id);
        port.0.place.take(scope, key, Arc::new(port.clone()));
        bridge.note_port(WeakPort(Arc::downgrade(&port.0)));
        port
    }

    /// The same port on a copy of its bridge, which is restored next.
    pub(crate) fn copy(&self, scope: &Scope, bridge: &Bridge) -> Self {
        let (_, no_frames) = mpsc::channel(1);
        let member = self.0.member.clone();
        Self::owned_by(scope, self.id(), bridge, member, no_frames)
    }

    /// Its member of the bridge.
    pub(crate) fn member(&self) -> &Member {
        &self.0.member
    }

    /// Continues with these frames, since its bridge was restored.
    pub(crate) fn continue_with(&self, frames: FrameQueue) {
        // A call that waits finds the old queue ended, and looks again.
        *lock(&self.0.frames) = frames;
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.member.name
    }

    /// Its name in messages: ``port `tester` of bridge `lan` ``.
    pub fn subject(&self) -> String {
        format!("port `{}` of {}", self.name(), self.0.bridge.subject())
    }

    /// The bridge that it belongs to.
    pub fn bridge(&self) -> &Bridge {
        &self.0.bridge
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed.load(Ordering::Acquire) || self.0.bridge.is_closed()
    }

    /// Its addresses.
    pub fn addresses(&self) -> NicAddresses {
        self.0.bridge.addresses_of(&self.0.member)
    }

    /// Sends a frame: from the destination address on, without the checksum.
    ///
    /// # Errors
    /// When the port is closed.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), LabError> {
        let call = "send()";
        self.check_open(call)?;
        let switch = self.0.bridge.switch(call)?;
        let sent = switch.send(self.0.member.port, frame.into()).await;
        let sent = sent.map_err(|error| self.0.bridge.stopped(call, error))?;
        sent.map_err(|_| self.gone(call))
    }

    /// The next frame that arrives at it; `None` when none has within the time.
    ///
    /// # Errors
    /// When the port is closed.
    pub async fn recv(&self, timeout: Duration) -> Result<Option<ReceivedFrame>, LabError> {
        let call = "recv()";
        self.check_open(call)?;
        let received = tokio::time::timeout(timeout, self.next_frame());
        match received.await {
            Err(_) => Ok(None),
            Ok(None) => Err(self.gone(call)),
            Ok(Some((time, frame))) => Ok(Some(ReceivedFrame {
                time_ns: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
                bytes: frame.to_vec(),
            })),
        }
    }

    /// `None`: the port is gone.
    async fn next_frame(&self) -> Option<(Duration, bytes::Bytes)> {
        loop {
            let frame = poll_fn(|context| lock(&self.0.frames).poll_recv(context)).await;
            // The queue may have been replaced while it was waited for.
            if frame.is_some() || lock(&self.0.frames).is_closed() {
                return frame;
            }
        }
    }

    /// Removes it from its bridge. Closed already is fine.
    pub async fn close(&self) -> Result<(), LabError> {
        if self.0.is_closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.0.place.leave();
        let (bridge, port) = (&self.0.bridge, self.0.member.port);
        bridge.remove_member("close()", port).await?;
        // A guest that cannot be told forgets the name with the next change that it is told of.
        let _ = tokio::time::timeout(UPDATE_PATIENCE, bridge.update_members(&[])).await;
        Ok(())
    }

    fn check_open(&self, call: &str) -> Result<(), LabError> {
        match self.0.is_closed.load(Ordering::Acquire) {
            true => Err(self.gone(call)),
            false => Ok(()),
        }
    }

    fn gone(&self, call: &str) -> LabError {
        LabError::gone(self.subject(), call, "the port is closed")
    }
}

impl WeakPort {
    /// The port, if it is open.
    pub(crate) fn upgrade(&self) -> Option<Port> {
        let port = self.0.upgrade().map(Port)?;
        let is_open = !port.0.is_closed.load(Ordering::Acquire);
        is_open.then_some(port)
    }
}

impl Close for Port {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> Closing<'_> {
        Box::pin(Self::close(self))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.subject()).finish()
    }
}
