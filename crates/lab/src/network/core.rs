//! The state of a bridge, and access to it.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::captured::CapturedFrames;
use crate::network::member::MemberEntry;
use crate::network::script_port::ScriptPort;
use crate::network::subnet::{Ipv4Network, Subnet};
use crate::network::uplink::Uplink;
use crate::resource::{Registration, ResourceId};
use crate::test_file::TestFileContext;
use provium_switch::PortId;
use provium_switch::router::InterfaceId;
use provium_switch::shell::{Switch, SwitchStopped};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

/// The MTU of a bridge for which none was chosen, bytes.
const DEFAULT_MTU: usize = 1500;

/// What a test may choose about a bridge.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BridgeOptions {
    /// Its IPv4 network; one that no other bridge of the file has if none is given.
    pub subnet: Option<Ipv4Network>,
    /// Decides what its impairments draw; derived from the run's seed and its name if none is given.
    pub seed: Option<u64>,
    /// Longest payload of a frame, bytes.
    pub mtu: Option<usize>,
    /// Whether it has a DHCP and DNS service.
    pub dhcp: bool,
}

/// The state of a bridge, which its handles share.
pub(crate) struct BridgeCore {
    pub(super) id: ResourceId,
    pub(super) name: String,
    pub(super) options: BridgeOptions,
    pub(super) subnet: Subnet,
    /// `None` once it is closed.
    pub(super) switch: Mutex<Option<Arc<Switch>>>,
    pub(super) members: Mutex<Vec<MemberEntry>>,
    pub(super) listeners: Mutex<Listeners>,
    pub(super) gateway: Mutex<Gateway>,
    /// Held by each call that adds or removes members.
    pub(super) changes: AsyncMutex<()>,
    pub(super) file: Arc<TestFileContext>,
    /// The scope that its subnet's number is taken in.
    pub(super) file_scope: ResourceId,
    pub(super) place: Registration,
}

/// Ports and captures of the test script, which continue when the bridge is restored.
#[derive(Default)]
pub(super) struct Listeners {
    ports: Vec<Weak<ScriptPort>>,
    captures: Vec<Weak<CapturedFrames>>,
}

/// Its router.
#[derive(Default)]
pub(crate) struct Gateway {
    pub(super) interface: Option<(InterfaceId, PortId)>,
    /// The bridges that its members reach.
    pub(super) routes: Vec<Weak<BridgeCore>>,
    /// The way to the host's network, if its members have it.
    pub(super) uplink: Option<Arc<Uplink>>,
}

impl BridgeCore {
    /// Its name in messages: ``bridge `lan` ``.
    pub(crate) fn subject(&self) -> String {
        format!("bridge `{}`", self.name)
    }

    /// Longest payload of a frame, bytes.
    pub(crate) fn mtu(&self) -> usize {
        self.options.mtu.unwrap_or(DEFAULT_MTU)
    }

    /// Whether it was closed.
    pub(crate) fn is_closed(&self) -> bool {
        lock(&self.switch).is_none()
    }

    /// The switch.
    ///
    /// # Errors
    /// When the bridge is closed.
    pub(crate) fn switch(&self, call: &str) -> Result<Arc<Switch>, LabError> {
        let switch = lock(&self.switch).clone();
        switch.ok_or_else(|| LabError::gone(self.subject(), call, "the bridge is closed"))
    }

    /// What the labs of its file share.
    pub(crate) fn file(&self) -> &Arc<TestFileContext> {
        &self.file
    }

    /// The right to add and remove ports.
    pub(crate) async fn changes(&self) -> AsyncMutexGuard<'_, ()> {
        self.changes.lock().await
    }

    pub(crate) fn invalid(&self, call: &str, why: impl Into<String>) -> LabError {
        LabError::invalid(self.subject(), call, why)
    }

    pub(crate) fn stopped(&self, call: &str, error: SwitchStopped) -> LabError {
        LabError::host(self.subject(), call, error)
    }

    /// Gives it this switch and these members, in place of what it has.
    pub(crate) fn replace(&self, switch: Switch, members: Vec<MemberEntry>) {
        *lock(&self.members) = members;
        let before = lock(&self.switch).replace(Arc::new(switch));
        self.drop_later(before);
    }

    pub(crate) fn note_port(&self, port: Weak<ScriptPort>) {
        let ports = &mut lock(&self.listeners).ports;
        ports.retain(|port| port.strong_count() > 0);
        ports.push(port);
    }

    pub(crate) fn note_capture(&self, capture: Weak<CapturedFrames>) {
        let captures = &mut lock(&self.listeners).captures;
        captures.retain(|capture| capture.strong_count() > 0);
        captures.push(capture);
    }

    /// The ports of the test script that are open.
    pub(crate) fn open_ports(&self) -> Vec<Arc<ScriptPort>> {
        let listeners = lock(&self.listeners);
        let ports = listeners.ports.iter();
        let ports = ports.filter_map(Weak::upgrade);
        ports.filter(|port| !port.is_closed()).collect()
    }

    /// The captures that exist.
    pub(crate) fn captures(&self) -> Vec<Arc<CapturedFrames>> {
        let listeners = lock(&self.listeners);
        let captures = listeners.captures.iter();
        captures.filter_map(Weak::upgrade).collect()
    }

    /// Ends a switch, whose thread is waited for elsewhere.
    pub(super) fn drop_later(&self, switch: Option<Arc<Switch>>) {
        if let Some(switch) = switch {
            let runtime = self.file.environment.runtime();
            drop(runtime.spawn_blocking(move || drop(switch)));
        }
    }
}
