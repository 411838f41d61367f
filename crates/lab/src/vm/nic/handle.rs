//! The NIC of a VM on a bridge, as a test holds it.

use crate::error::LabError;
use crate::guest::stream::Site;
use crate::lock::lock;
use crate::network::{Bridge, Capture, NicAddresses};
use crate::resource::Scope;
use crate::vm::handle::Vm;
use crate::vm::nic::list::VmNic;
use crate::vm::state::VmState;
use provium_protocol::op::NicCounters;
use std::fmt;

/// The NIC of a VM on a bridge.
#[derive(Clone)]
pub struct Nic {
    vm: Vm,
    bridge: Bridge,
}

impl Bridge {
    /// The NIC of a VM on this bridge.
    ///
    /// # Errors
    /// When the VM is not attached to it.
    pub fn nic(&self, vm: &Vm) -> Result<Nic, LabError> {
        if self.0.member_of(vm.id()).is_none() {
            let why = format!("vm `{}` is not attached to it", vm.name());
            return Err(self.0.invalid("nic()", why));
        }
        Ok(Nic {
            vm: vm.clone(),
            bridge: self.clone(),
        })
    }
}

impl Vm {
    /// Its NIC on the bridge of that name, or that which the guest calls so (`eth0`).
    ///
    /// # Errors
    /// When it has none.
    pub fn nic(&self, name: &str) -> Result<Nic, LabError> {
        let nics = lock(&self.0.nics).clone();
        let on_bridge = nics.iter().find(|nic| nic.bridge.name() == name);
        let found = on_bridge.or_else(|| nics.iter().find(|nic| nic.interface() == name));
        if let Some(nic) = found {
            return Ok(Nic {
                vm: self.clone(),
                bridge: nic.bridge.clone(),
            });
        }
        let known = nics
            .iter()
            .map(|nic| format!("{} on {}", nic.interface(), nic.bridge.subject()));
        let why = match known.collect::<Vec<_>>() {
            known if known.is_empty() => "it is not attached to a bridge".to_owned(),
            known => format!("it has no such NIC; it has {}", known.join(", ")),
        };
        let call = format!("nic({name:?})");
        Err(LabError::invalid(self.subject(), call, why))
    }
}

impl Nic {
    /// The same NIC of a copy of the VM, on a copy of the bridge.
    pub(crate) fn on(&self, vm: Vm, bridge: Bridge) -> Self {
        Self { vm, bridge }
    }

    /// The VM.
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// The bridge.
    pub fn bridge(&self) -> &Bridge {
        &self.bridge
    }

    /// Its name in messages: ``nic `eth0` of vm `web` ``.
    pub fn subject(&self) -> String {
        let name = self.found().map(|nic| nic.interface());
        let name = name.as_deref().unwrap_or("(detached)");
        format!("nic `{name}` of {}", self.vm.subject())
    }

    /// The name of its interface in the guest.
    ///
    /// # Errors
    /// This and the following: when the VM is not attached to the bridge any more.
    pub fn interface(&self) -> Result<String, LabError> {
        Ok(self.attached("name()")?.interface())
    }

    /// Its addresses.
    pub fn addresses(&self, call: &str) -> Result<NicAddresses, LabError> {
        Ok(self.attached(call)?.addresses)
    }

    /// Whether its link is connected.
    pub fn is_connected(&self) -> Result<bool, LabError> {
        Ok(self.attached("is_connected()")?.is_connected)
    }

    /// What the guest has counted since its boot; zeros where it does not run.
    pub async fn counters(&self) -> Result<NicCounters, LabError> {
        let call = "counters()";
        let nic = self.attached(call)?;
        let is_off = !matches!(self.vm.state(), VmState::Booted | VmState::Paused);
        let Some(slot) = nic.slot.filter(|_| !is_off) else {
            return Ok(NicCounters::default());
        };
        let running = self.vm.0.running_in(call, VmState::Booted, "booted")?;
        let counted = running.channel.nic_counters(slot.device_mac()).await;
        match counted {
            Ok(counters) => Ok(counters),
            Err(error) => {
                let error = LabError::host(self.subject(), call, error);
                Err(self.vm.0.explain(call, error).await)
            }
        }
    }

    /// Disconnects its link: the guest loses the carrier, and frames in flight from and to it are dropped.
    pub async fn disconnect(&self) -> Result<(), LabError> {
        self.set_link("disconnect()", false).await
    }

    /// Connects its link.
    pub async fn reconnect(&self) -> Result<(), LabError> {
        self.set_link("reconnect()", true).await
    }

    async fn set_link(&self, call: &str, is_connected: bool) -> Result<(), LabError> {
        let failed = |error| LabError::host(self.subject(), call, error);
        let _lifecycle = self.vm.0.lifecycle().await;
        let nic = self.attached(call)?;
        let switch = self.bridge.0.switch(call)?;
        let port = nic.port;
        let set = switch.with(move |fabric, out| fabric.set_link(port, is_connected, out));
        // The port exists as long as the VM is attached.
        let _ = set
            .await
            .map_err(|error| self.bridge.0.stopped(call, error))?;
        let stage = self.vm.0.stage.borrow().clone();
        if let (Some(running), Some(slot)) = (stage.running(), nic.slot) {
            let set = running.machine.set_nic_link(slot, is_connected).await;
            set.map_err(failed)?;
        }
        for nic in lock(&self.vm.0.nics).iter_mut() {
            if nic.is_on(self.bridge.id()) {
                nic.is_connected = is_connected;
            }
        }
        Ok(())
    }

    /// Captures its frames in both directions, until the scope ends.
    pub async fn capture(&self, scope: &Scope, site: Site) -> Result<Capture, LabError> {
        let nic = self.attached("capture()")?;
        let subject = format!("capture of {}", self.subject());
        Capture::start(&self.bridge, scope, Some(nic.port), subject, site).await
    }

    fn found(&self) -> Option<VmNic> {
        let nics = lock(&self.vm.0.nics);
        nics.iter().find(|nic| nic.is_on(self.bridge.id())).cloned()
    }

    fn attached(&self, call: &str) -> Result<VmNic, LabError> {
        self.found().ok_or_else(|| {
            let why = format!("vm `{}` is not attached to it any more", self.vm.name());
            LabError::gone(self.bridge.subject(), format!("nic:{call}"), why)
        })
    }
}

impl fmt::Debug for Nic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Nic").field(&self.subject()).finish()
    }
}
