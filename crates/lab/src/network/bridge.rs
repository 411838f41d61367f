//! A bridge: an Ethernet segment of the harness, with an address for each member.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::core::{BridgeCore, BridgeOptions};
use crate::network::gateway::BridgeRouter;
use crate::network::member::{AttachedVm, NicAddresses};
use crate::network::subnet::Subnet;
use crate::resource::{Close, CloseFuture, CloseOrder, Registration, ResourceId, Scope};
use crate::test_file::TestFileContext;
use futures_util::future::{BoxFuture, join_all};
use provium_switch::shell::Switch;
use provium_switch::{MAX_MTU, MIN_MTU};
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::Mutex as AsyncMutex;

/// An Ethernet segment.
#[derive(Clone)]
pub struct Bridge(pub(crate) Arc<BridgeCore>);

/// What a copy of a bridge has in common with the original.
pub(crate) struct BridgeIdentity<'a> {
    pub(crate) id: ResourceId,
    pub(crate) name: &'a str,
    pub(crate) options: BridgeOptions,
    pub(crate) subnet: Subnet,
}

impl Bridge {
    /// A new bridge that `scope` owns. `path` is its name with those of the labs that it is in.
    pub(crate) fn create(
        file: &Arc<TestFileContext>,
        scope: &Scope,
        path: &str,
        name: &str,
        options: BridgeOptions,
    ) -> Result<Self, LabError> {
        let subject = format!("bridge `{name}`");
        let call = "bridge()";
        if let Some(mtu) = options.mtu
            && !(MIN_MTU..=MAX_MTU).contains(&mtu)
        {
            let why = format!("mtu is {mtu}; {MIN_MTU} to {MAX_MTU} bytes are possible");
            return Err(LabError::invalid(subject, call, why));
        }
        let Some(number) = file.subnets.take(scope) else {
            let why = "all subnet numbers are taken; close bridges that are not needed";
            return Err(LabError::invalid(subject, call, why));
        };
        let subnet = Subnet::numbered(number);
        let subnet = options.subnet.map_or(subnet, |ipv4| subnet.with_ipv4(ipv4));
        let seed = options
            .seed
            .unwrap_or_else(|| derived_seed(file.environment.seed(), path));
        let identity = BridgeIdentity {
            id: ResourceId::next(),
            name,
            options,
            subnet,
        };
        match Switch::start(seed) {
            Ok(switch) => {
                let bridge = Self::in_place(file, scope, identity);
                bridge.0.replace(switch, Vec::new());
                Ok(bridge)
            }
            Err(error) => {
                file.subnets.give_back(scope.file_scope().id(), number);
                Err(LabError::host(subject, call, error))
            }
        }
    }

    /// A bridge with this identity, which gets its switch next.
    pub(crate) fn in_place(
        file: &Arc<TestFileContext>,
        scope: &Scope,
        identity: BridgeIdentity<'_>,
    ) -> Self {
        let bridge = Self(Arc::new(BridgeCore {
            id: identity.id,
            name: identity.name.to_owned(),
            options: identity.options,
            subnet: identity.subnet,
            switch: Mutex::default(),
            members: Mutex::default(),
            listeners: Mutex::default(),
            gateway: Mutex::default(),
            changes: AsyncMutex::default(),
            file: Arc::clone(file),
            file_scope: scope.file_scope().id(),
            place: Registration::default(),
        }));
        let key = (CloseOrder::Bridge, bridge.id());
        bridge.0.place.take(scope, key, Arc::new(bridge.clone()));
        bridge
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its name in messages: ``bridge `lan` ``.
    pub fn subject(&self) -> String {
        self.0.subject()
    }

    /// What it was made with.
    pub fn options(&self) -> &BridgeOptions {
        &self.0.options
    }

    /// Its addresses.
    pub fn subnet(&self) -> Subnet {
        self.0.subnet
    }

    /// Longest payload of a frame, bytes.
    pub fn mtu(&self) -> usize {
        self.0.mtu()
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The names of its members, in the order of their attachment.
    pub fn members(&self) -> Vec<String> {
        self.0.names()
    }

    /// The addresses of a member; `None` if no member has that name.
    pub fn addresses(&self, member: &str) -> Option<NicAddresses> {
        let entry = self.0.entry(|entry| entry.member.name == member)?;
        Some(self.0.addresses_of(&entry.member))
    }

    /// Sets addresses, routes and names in the guests of its members, after a change. The VM `but` is left out.
    pub(crate) async fn update_members(&self, but: &[ResourceId]) -> Result<(), LabError> {
        BridgeRouter(&self.0).update_services("attach()").await?;
        let vms = self.0.entries().into_iter().filter_map(|entry| entry.vm());
        let vms = vms.filter(|vm| !but.contains(&vm.id()));
        let updated = join_all(vms.map(AttachedVm::update_network)).await;
        updated.into_iter().collect()
    }

    /// Removes the NICs of its members, and ends the switch. Closed already is fine.
    ///
    /// # Errors
    /// When a NIC cannot be removed from a VM that runs; the others are, and the bridge is closed.
    pub fn close(&self) -> BoxFuture<'_, Result<(), LabError>> {
        Box::pin(async {
            let vms = self.0.entries().into_iter().filter_map(|entry| entry.vm());
            let leaving = join_all(vms.map(|vm| vm.leave_bridge(self.id()))).await;
            BridgeRouter(&self.0).leave_router().await;
            let switch = lock(&self.0.switch).take();
            lock(&self.0.members).clear();
            if switch.is_some() {
                let number = self.0.subnet.number();
                self.0.file.subnets.give_back(self.0.file_scope, number);
            }
            self.0.drop_later(switch);
            self.0.place.leave();
            leaving.into_iter().collect()
        })
    }
}

/// The seed of a bridge in a run of this seed.
fn derived_seed(run: u64, path: &str) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("provium 2026 seed of a bridge");
    hasher.update(&run.to_le_bytes());
    hasher.update(path.as_bytes());
    let mut seed = [0; 8];
    hasher.finalize_xof().fill(&mut seed);
    u64::from_le_bytes(seed)
}

impl Close for Bridge {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Self::close(self)
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bridge").field(&self.0.name).finish()
    }
}
