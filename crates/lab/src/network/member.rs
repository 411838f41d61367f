//! Members: the VMs and ports that are attached to a bridge.

use crate::error::LabError;
use crate::network::subnet::HostAddresses;
use crate::resource::ResourceId;
use futures_util::future::BoxFuture;
use provium_switch::{MacAddress, PortId};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Weak};

/// A VM, as a bridge sees it.
pub(crate) trait AttachedVm: Send + Sync {
    /// Its number, which a clone of the VM has, too.
    fn id(&self) -> ResourceId;
    /// Sets addresses, routes and names in its guest, if that runs.
    fn update_network(self: Arc<Self>) -> BoxFuture<'static, Result<(), LabError>>;
    /// Removes its NIC on the bridge of that number.
    fn leave_bridge(
        self: Arc<Self>,
        bridge: ResourceId,
    ) -> BoxFuture<'static, Result<(), LabError>>;
}

/// A member of a bridge: a VM, or a port of the test script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    /// The name of the VM or of the port; no other member of the bridge has it.
    pub(crate) name: String,
    pub(crate) mac: MacAddress,
    /// The number of the host in the bridge's subnet.
    pub(crate) host: u32,
    pub(crate) port: PortId,
    pub(crate) is_vm: bool,
}

/// A member, and the VM that it is.
#[derive(Clone)]
pub(crate) struct MemberEntry {
    pub(crate) member: Member,
    /// `None`: a port of the test script.
    pub(crate) vm: Option<(ResourceId, Weak<dyn AttachedVm>)>,
}

impl MemberEntry {
    pub(crate) fn is_vm(&self, vm: ResourceId) -> bool {
        self.vm.as_ref().is_some_and(|(id, _)| *id == vm)
    }

    pub(crate) fn vm(&self) -> Option<Arc<dyn AttachedVm>> {
        self.vm.as_ref()?.1.upgrade()
    }
}

/// The addresses of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NicAddresses {
    /// The hardware address.
    pub mac: MacAddress,
    /// The IP addresses.
    pub host: HostAddresses,
}
