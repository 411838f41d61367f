//! A bridge as a snapshot keeps it: with its members, its rules and its frames in flight.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::bridge::{Bridge, BridgeIdentity};
use crate::network::captured::CapturedFrames;
use crate::network::core::BridgeOptions;
use crate::network::member::{Member, MemberEntry};
use crate::network::script_port::{FrameQueue, ScriptPort};
use crate::network::subnet::Subnet;
use crate::network::uplink::Uplink;
use crate::resource::{ResourceId, Scope};
use crate::test_file::TestFileContext;
use futures_util::future::try_join_all;
use provium_switch::PortId;
use provium_switch::router::InterfaceId;
use provium_switch::shell::{self, FrozenSwitch, PortSource, Switch};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex};

/// A saved bridge.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedBridge {
    pub(crate) name: String,
    pub(crate) options: BridgeOptions,
    pub(crate) subnet: Subnet,
    pub(crate) members: Vec<Member>,
    /// The port of the router, if it has one.
    gateway: Option<PortId>,
    /// The names of the bridges that it is routed to.
    pub(super) routes: Vec<String>,
    pub(super) has_uplink: bool,
    switch: FrozenSwitch,
}

/// Bridges that are frozen: nothing passes them, and their time does not pass. Dropping it lets them continue.
pub(crate) struct FrozenBridges {
    bridges: Vec<Bridge>,
    pub(crate) saved: Vec<SavedBridge>,
}

/// A bridge that is about to become what it was when it was saved.
pub(crate) struct RestoringBridge {
    pub(crate) bridge: Bridge,
    pub(crate) saved: SavedBridge,
    /// `None` once the bridge has it.
    thawed: Mutex<Option<ThawedSwitch>>,
}

/// A switch that is frozen, and what the listeners of the bridge get from it.
struct ThawedSwitch {
    switch: Switch,
    ports: Vec<(Arc<ScriptPort>, FrameQueue)>,
    captures: Vec<(Arc<CapturedFrames>, shell::Capture)>,
    gateway: Option<(InterfaceId, PortId)>,
    uplink: Option<Arc<Uplink>>,
}

impl FrozenBridges {
    /// Freezes and saves the bridges. Their members should be paused, so that no frame is on the way to them.
    pub(crate) async fn freeze(bridges: Vec<Bridge>) -> Result<Self, LabError> {
        // From here on, an error and a dropped future let all of them continue.
        let mut frozen = Self {
            bridges,
            saved: Vec::new(),
        };
        let saving = frozen.bridges.iter().map(Bridge::save);
        let saved = try_join_all(saving).await?;
        frozen.saved = saved;
        Ok(frozen)
    }
}

impl Drop for FrozenBridges {
    fn drop(&mut self) {
        for bridge in &self.bridges {
            if let Ok(switch) = bridge.0.switch("snapshot()") {
                // A switch that has stopped shows in the next call to it.
                let _ = switch.resume_later();
            }
        }
    }
}

impl Bridge {
    async fn save(&self) -> Result<SavedBridge, LabError> {
        let call = "snapshot()";
        let switch = self.0.switch(call)?.freeze().await;
        // Before the routes are listed, which takes the same lock.
        let gateway = lock(&self.0.gateway).interface.map(|(_, port)| port);
        Ok(SavedBridge {
            name: self.name().to_owned(),
            options: self.options().clone(),
            subnet: self.subnet(),
            members: self
                .0
                .entries()
                .into_iter()
                .map(|entry| entry.member)
                .collect(),
            gateway,
            has_uplink: self.has_uplink(),
            routes: self
                .routes()
                .iter()
                .map(|bridge| bridge.name().to_owned())
                .collect(),
            switch: switch.map_err(|error| self.0.stopped(call, error))?,
        })
    }
}

impl SavedBridge {
    /// A bridge to restore from it, which `scope` owns; it has no switch yet.
    pub(crate) fn bridge(
        &self,
        file: &Arc<TestFileContext>,
        scope: &Scope,
        id: ResourceId,
    ) -> Bridge {
        let identity = BridgeIdentity {
            id,
            name: &self.name,
            options: self.options.clone(),
            subnet: self.subnet,
        };
        file.subnets.take_again(scope, self.subnet.number());
        Bridge::in_place(file, scope, identity)
    }
}

impl RestoringBridge {
    /// The bridge gets the saved state when [`RestoringBridge::commit`] is called, and is unchanged until then.
    ///
    /// # Errors
    /// When the saved state is damaged, or another version's.
    pub(crate) async fn new(bridge: Bridge, saved: SavedBridge) -> Result<Self, LabError> {
        let call = "restore()";
        let switch = Switch::thaw(saved.switch.clone());
        let switch = switch.map_err(|error| LabError::host(bridge.subject(), call, error))?;
        let is_saved = |port: PortId| saved.members.iter().any(|member| member.port == port);
        let (mut ports, mut captures) = (Vec::new(), Vec::new());
        for port in bridge.0.open_ports() {
            if is_saved(port.member.port) {
                let frames = switch.reopen(port.member.port).await;
                let frames = frames.map_err(|error| bridge.0.stopped(call, error))?;
                // A saved member has its port.
                ports.extend(frames.ok().map(|frames| (port, frames)));
            }
        }
        for capture in bridge.0.captures() {
            if capture.port.is_none_or(is_saved) {
                let queue = switch.capture(capture.port).await;
                let queue = queue.map_err(|error| bridge.0.stopped(call, error))?;
                captures.push((capture, queue));
            }
        }
        let gateway = match saved.gateway {
            None => None,
            Some(port) => {
                let added = bridge
                    .router()
                    .add_interface(&switch, PortSource::Existing(port))
                    .await;
                let added = added.map_err(|error| LabError::host(bridge.subject(), call, error))?;
                Some(added)
            }
        };
        let uplink = match saved.has_uplink {
            true => Some(bridge.router().uplink_of_file(call).await?),
            false => None,
        };
        let thawed = ThawedSwitch {
            switch,
            ports,
            captures,
            gateway,
            uplink,
        };
        Ok(Self {
            bridge,
            saved,
            thawed: Mutex::new(Some(thawed)),
        })
    }

    /// The saved member that is the VM of that name.
    pub(crate) fn member(&self, vm: &str) -> Option<&Member> {
        let mut members = self.saved.members.iter();
        members.find(|member| member.is_vm && member.name == vm)
    }

    /// Makes the bridge what it was. Its members are `vms`; its time continues when the NICs of all of them have been
    /// queued to be connected, see [`resume_bridges`].
    pub(crate) fn commit(&self, vms: impl IntoIterator<Item = MemberEntry>) {
        let Some(thawed) = lock(&self.thawed).take() else {
            return;
        };
        let mut entries: Vec<MemberEntry> = vms.into_iter().collect();
        for (port, frames) in thawed.ports {
            port.continue_with(frames);
            entries.push(MemberEntry {
                member: port.member.clone(),
                vm: None,
            });
        }
        for (capture, queue) in thawed.captures {
            capture.continue_with(queue);
        }
        self.bridge
            .router()
            .replace_interface(thawed.gateway, thawed.uplink);
        let switch = thawed.switch;
        for member in &self.saved.members {
            if entries.iter().all(|entry| entry.member.port != member.port) {
                // A port that was closed, or a VM that is not restored: nothing is connected to it.
                let _ = switch.remove_later(member.port);
            }
        }
        let place = |entry: &MemberEntry| {
            let mut members = self.saved.members.iter();
            members.position(|member| member.port == entry.member.port)
        };
        entries.sort_by_key(place);
        self.bridge.0.replace(switch, entries);
    }
}

/// Joins bridges that were restored together again, and lets their time continue.
pub(crate) fn resume_bridges(restored: &[RestoringBridge]) {
    for this in restored {
        let others = this.saved.routes.iter().filter_map(|name| {
            let mut all = restored.iter();
            let found = all.find(|other| other.saved.name == *name);
            found.map(|other| Arc::clone(&other.bridge.0))
        });
        this.bridge.router().join_again(&others.collect::<Vec<_>>());
        this.bridge.router().update_services_later();
    }
    for this in restored {
        if let Ok(switch) = this.bridge.0.switch("restore()") {
            let _ = switch.resume_later();
        }
    }
}
