//! A port of the test script: the script itself as a peer of the guests.

use crate::error::LabError;
use crate::network::bridge::Bridge;
use crate::network::member::NicAddresses;
use crate::network::script_port::ScriptPort;
use crate::resource::{Close, CloseFuture, CloseOrder, ResourceId, Scope};
use provium_switch::MacAddress;
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How long the guests have to forget the name of a port that is closed.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(5);

/// A port of the test script.
#[derive(Clone)]
pub struct Port {
    state: Arc<ScriptPort>,
    bridge: Bridge,
}

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
            .0
            .add_port(&call, name, (mac, ip), async |switch, settings| {
                switch.open(settings).await
            })
            .await;
        let (member, frames) = opened?;
        let port = Port::owned_by(
            scope,
            self,
            ScriptPort::new(ResourceId::next(), member, frames),
        );
        self.update_members(&[]).await?;
        Ok(port)
    }
}

impl Port {
    /// A port that `scope` owns.
    fn owned_by(scope: &Scope, bridge: &Bridge, state: ScriptPort) -> Self {
        let port = Self {
            state: Arc::new(state),
            bridge: bridge.clone(),
        };
        let key = (CloseOrder::Stream, port.id());
        port.state.place.take(scope, key, Arc::new(port.clone()));
        bridge.0.note_port(Arc::downgrade(&port.state));
        port
    }

    /// A port of an original on a copy of its bridge, which is restored next.
    pub(crate) fn copy(original: &ScriptPort, scope: &Scope, bridge: &Bridge) -> Self {
        let (_, no_frames) = mpsc::channel(1);
        let member = original.member.clone();
        Self::owned_by(
            scope,
            bridge,
            ScriptPort::new(original.id, member, no_frames),
        )
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.state.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.state.member.name
    }

    /// Its name in messages: ``port `tester` of bridge `lan` ``.
    pub fn subject(&self) -> String {
        format!("port `{}` of {}", self.name(), self.bridge.subject())
    }

    /// The bridge that it belongs to.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.state.is_closed() || self.bridge.is_closed()
    }

    /// Its addresses.
    pub fn addresses(&self) -> NicAddresses {
        self.bridge.0.addresses_of(&self.state.member)
    }

    /// Sends a frame: from the destination address on, without the checksum.
    ///
    /// # Errors
    /// When the port is closed.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), LabError> {
        let call = "send()";
        self.check_open(call)?;
        let switch = self.bridge.0.switch(call)?;
        let sent = switch.send(self.state.member.port, frame.into()).await;
        let sent = sent.map_err(|error| self.bridge.0.stopped(call, error))?;
        sent.map_err(|_| self.gone(call))
    }

    /// The next frame that arrives at it; `None` when none has within the time.
    ///
    /// # Errors
    /// When the port is closed.
    pub async fn recv(&self, timeout: Duration) -> Result<Option<ReceivedFrame>, LabError> {
        let call = "recv()";
        self.check_open(call)?;
        let received = tokio::time::timeout(timeout, self.state.next_frame());
        match received.await {
            Err(_) => Ok(None),
            Ok(None) => Err(self.gone(call)),
            Ok(Some((time, frame))) => Ok(Some(ReceivedFrame {
                time_ns: i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
                bytes: frame.to_vec(),
            })),
        }
    }

    /// Removes it from its bridge. Closed already is fine.
    pub async fn close(&self) -> Result<(), LabError> {
        if !self.state.close() {
            return Ok(());
        }
        self.state.place.leave();
        let (bridge, port) = (&self.bridge, self.state.member.port);
        bridge.0.remove_member("close()", port).await?;
        // A guest that does not answer forgets the name with the next change that reaches it.
        let _ = tokio::time::timeout(UPDATE_TIMEOUT, bridge.update_members(&[])).await;
        Ok(())
    }

    fn check_open(&self, call: &str) -> Result<(), LabError> {
        match self.state.is_closed() {
            true => Err(self.gone(call)),
            false => Ok(()),
        }
    }

    fn gone(&self, call: &str) -> LabError {
        LabError::gone(self.subject(), call, "the port is closed")
    }
}

impl Close for Port {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(Self::close(self))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Port").field(&self.subject()).finish()
    }
}
