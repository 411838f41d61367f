//! A bridge: an Ethernet segment of the harness, with an address for each member.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::capture::Frames;
use crate::network::gateway::Gateway;
use crate::network::member::{AttachedVm, Member, MemberEntry, NicAddresses};
use crate::network::port::{Port, WeakPort};
use crate::network::subnet::{Ipv4Network, Subnet, member_mac};
use crate::resource::{Close, CloseOrder, Closing, Registration, ResourceId, Scope};
use crate::test_file::TestFileContext;
use futures_util::future::{BoxFuture, join_all};
use provium_switch::shell::{Stopped, Switch};
use provium_switch::{MAX_MTU, MIN_MTU, MacAddress, PortId, PortSettings};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, Weak};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};

/// The MTU of a bridge for which none was chosen, bytes.
const DEFAULT_MTU: usize = 1500;

/// How often another MAC address is tried when one is taken: it never is, with 2^40 of them.
const MAC_ATTEMPTS: u64 = 16;

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

/// An Ethernet segment.
#[derive(Clone)]
pub struct Bridge(pub(crate) Arc<BridgeCore>);

pub(crate) struct BridgeCore {
    id: ResourceId,
    name: String,
    options: BridgeOptions,
    subnet: Subnet,
    /// `None` once it is closed.
    switch: Mutex<Option<Arc<Switch>>>,
    members: Mutex<Vec<MemberEntry>>,
    listeners: Mutex<Listeners>,
    pub(crate) gateway: Mutex<Gateway>,
    /// Held by each call that adds or removes members.
    changes: AsyncMutex<()>,
    file: Arc<TestFileContext>,
    /// The scope that its subnet's number is taken in.
    file_scope: ResourceId,
    place: Registration,
}

/// Ports and captures of the test script, which continue when the bridge is restored.
#[derive(Default)]
struct Listeners {
    ports: Vec<WeakPort>,
    captures: Vec<Weak<Frames>>,
}

/// What a copy of a bridge has in common with the original.
pub(crate) struct BridgeIdentity<'a> {
    pub(crate) id: ResourceId,
    pub(crate) name: &'a str,
    pub(crate) options: BridgeOptions,
    pub(crate) subnet: Subnet,
}

impl Bridge {
    /// A new bridge in the care of `scope`. `path` is its name with those of the labs that it is in.
    pub(crate) fn create(
        file: &Arc<TestFileContext>,
        scope: &Scope,
        path: &str,
        name: &str,
        options: BridgeOptions,
    ) -> Result<Self, LabError> {
        let subject = subject(name);
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
                bridge.replace(switch, Vec::new());
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
        subject(&self.0.name)
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
        self.0.options.mtu.unwrap_or(DEFAULT_MTU)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        lock(&self.0.switch).is_none()
    }

    /// The names of its members, in the order of their attachment.
    pub fn members(&self) -> Vec<String> {
        let members = lock(&self.0.members);
        members
            .iter()
            .map(|entry| entry.member.name.clone())
            .collect()
    }

    /// The addresses of a member; `None` if there is no member of that name.
    pub fn addresses(&self, member: &str) -> Option<NicAddresses> {
        let entry = self.entry(|entry| entry.member.name == member)?;
        Some(self.addresses_of(&entry.member))
    }

    pub(crate) fn addresses_of(&self, member: &Member) -> NicAddresses {
        NicAddresses {
            mac: member.mac,
            host: self.0.subnet.host(member.host),
        }
    }

    pub(crate) fn entries(&self) -> Vec<MemberEntry> {
        lock(&self.0.members).clone()
    }

    fn entry(&self, is_wanted: impl Fn(&MemberEntry) -> bool) -> Option<MemberEntry> {
        let members = lock(&self.0.members);
        members.iter().find(|entry| is_wanted(entry)).cloned()
    }

    /// The member that is the VM of that number.
    pub(crate) fn member_of(&self, vm: ResourceId) -> Option<Member> {
        self.entry(|entry| entry.is_vm(vm))
            .map(|entry| entry.member)
    }

    /// The port of a member.
    pub(crate) fn port_of(&self, call: &str, member: &str) -> Result<PortId, LabError> {
        if let Some(entry) = self.entry(|entry| entry.member.name == member) {
            return Ok(entry.member.port);
        }
        let names = self.members();
        let why = match crate::nearest::nearest(member, names.iter().map(String::as_str)) {
            Some(nearest) => {
                format!("`{member}` is not attached to it; did you mean `{nearest}`?")
            }
            None if names.is_empty() => {
                format!("`{member}` is not attached to it, and nothing is")
            }
            None => format!(
                "`{member}` is not attached to it; its members are {}",
                names.join(", ")
            ),
        };
        Err(self.invalid(call, why))
    }

    /// The switch.
    ///
    /// # Errors
    /// When the bridge is closed.
    pub(crate) fn switch(&self, call: &str) -> Result<Arc<Switch>, LabError> {
        let switch = lock(&self.0.switch).clone();
        switch.ok_or_else(|| LabError::gone(self.subject(), call, "the bridge is closed"))
    }

    /// What the labs of its file share.
    pub(crate) fn file(&self) -> &Arc<TestFileContext> {
        &self.0.file
    }

    /// The right to add and remove ports.
    pub(crate) async fn changes(&self) -> AsyncMutexGuard<'_, ()> {
        self.0.changes.lock().await
    }

    pub(crate) fn invalid(&self, call: &str, why: impl Into<String>) -> LabError {
        LabError::invalid(self.subject(), call, why)
    }

    pub(crate) fn stopped(&self, call: &str, error: Stopped) -> LabError {
        LabError::host(self.subject(), call, error)
    }

    /// Adds a VM; it gets a port and addresses. Its NIC is not connected yet.
    pub(crate) async fn add_vm(
        &self,
        call: &str,
        name: &str,
        vm: (ResourceId, Weak<dyn AttachedVm>),
    ) -> Result<Member, LabError> {
        let switch = self.switch(call)?;
        let _changes = self.changes().await;
        let (mac, host) = self.free_addresses(call, name, None, None)?;
        let settings = self.port_settings(name);
        let port = switch.with(|fabric, _| fabric.add_port(settings)).await;
        let port = port.map_err(|error| self.stopped(call, error))?;
        let member = Member {
            name: name.to_owned(),
            mac,
            host,
            port,
            is_vm: true,
        };
        lock(&self.0.members).push(MemberEntry {
            member: member.clone(),
            vm: Some(vm),
        });
        Ok(member)
    }

    /// Adds a port of the test script, which `open` makes in the switch.
    pub(crate) async fn add_port<T>(
        &self,
        call: &str,
        name: &str,
        wanted: (Option<MacAddress>, Option<Ipv4Addr>),
        open: impl AsyncFnOnce(&Switch, PortSettings) -> Result<(PortId, T), Stopped>,
    ) -> Result<(Member, T), LabError> {
        let switch = self.switch(call)?;
        let _changes = self.changes().await;
        let (mac, host) = self.free_addresses(call, name, wanted.0, wanted.1)?;
        let opened = open(&switch, self.port_settings(name)).await;
        let (port, opened) = opened.map_err(|error| self.stopped(call, error))?;
        let member = Member {
            name: name.to_owned(),
            mac,
            host,
            port,
            is_vm: false,
        };
        lock(&self.0.members).push(MemberEntry {
            member: member.clone(),
            vm: None,
        });
        Ok((member, opened))
    }

    /// Removes the member with that port, and drops what is in flight from and to it. Removed already is fine.
    pub(crate) async fn remove_member(&self, call: &str, port: PortId) -> Result<(), LabError> {
        let _changes = self.changes().await;
        lock(&self.0.members).retain(|entry| entry.member.port != port);
        let Ok(switch) = self.switch(call) else {
            return Ok(());
        };
        // A port that is not there is removed already.
        let _ = switch
            .remove(port)
            .await
            .map_err(|error| self.stopped(call, error))?;
        Ok(())
    }

    /// Gives it this switch and these members, in place of what it has.
    pub(crate) fn replace(&self, switch: Switch, members: Vec<MemberEntry>) {
        *lock(&self.0.members) = members;
        let before = lock(&self.0.switch).replace(Arc::new(switch));
        self.drop_later(before);
    }

    pub(crate) fn note_port(&self, port: WeakPort) {
        let ports = &mut lock(&self.0.listeners).ports;
        ports.retain(|port| port.upgrade().is_some());
        ports.push(port);
    }

    pub(crate) fn note_capture(&self, capture: Weak<Frames>) {
        let captures = &mut lock(&self.0.listeners).captures;
        captures.retain(|capture| capture.strong_count() > 0);
        captures.push(capture);
    }

    /// The ports of the test script that are open.
    pub(crate) fn open_ports(&self) -> Vec<Port> {
        let listeners = lock(&self.0.listeners);
        let ports = listeners.ports.iter();
        ports.filter_map(WeakPort::upgrade).collect()
    }

    /// The captures that exist.
    pub(crate) fn captures(&self) -> Vec<Arc<Frames>> {
        let listeners = lock(&self.0.listeners);
        let captures = listeners.captures.iter();
        captures.filter_map(Weak::upgrade).collect()
    }

    /// Ends a switch, whose thread is waited for elsewhere.
    fn drop_later(&self, switch: Option<Arc<Switch>>) {
        if let Some(switch) = switch {
            let runtime = self.0.file.environment.runtime();
            drop(runtime.spawn_blocking(move || drop(switch)));
        }
    }

    /// Whether its members reach the host's network.
    pub(crate) fn has_uplink(&self) -> bool {
        false
    }

    fn port_settings(&self, name: &str) -> PortSettings {
        PortSettings {
            name: name.to_owned(),
            mtu: self.mtu(),
        }
    }

    /// A MAC address and a host number that no other member has.
    fn free_addresses(
        &self,
        call: &str,
        name: &str,
        mac: Option<MacAddress>,
        address: Option<Ipv4Addr>,
    ) -> Result<(MacAddress, u32), LabError> {
        let members = lock(&self.0.members);
        let holder = |is_it: &dyn Fn(&Member) -> bool| {
            let holder = members.iter().find(|entry| is_it(&entry.member));
            holder.map(|entry| entry.member.name.clone())
        };
        if holder(&|member| member.name == name).is_some() {
            return Err(self.invalid(call, format!("`{name}` is attached to it already")));
        }
        let mac = match mac {
            Some(mac) => match holder(&|member| member.mac == mac) {
                Some(other) => {
                    let why = format!("the MAC address {mac} is that of `{other}`");
                    return Err(self.invalid(call, why));
                }
                None => mac,
            },
            None => (0..MAC_ATTEMPTS)
                .map(|attempt| member_mac(&self.0.name, name, attempt))
                .find(|mac| holder(&|member| member.mac == *mac).is_none())
                .ok_or_else(|| self.invalid(call, "no MAC address is free"))?,
        };
        let host = match address {
            Some(address) => {
                let Some(number) = self.0.subnet.host_number(address) else {
                    let why = format!("{address} is not a host of its subnet {}", self.0.subnet);
                    return Err(self.invalid(call, why));
                };
                match holder(&|member| member.host == number) {
                    Some(other) => {
                        let why = format!("the address {address} is that of `{other}`");
                        return Err(self.invalid(call, why));
                    }
                    None => number,
                }
            }
            None => {
                let free = self
                    .0
                    .subnet
                    .free_host(|number| members.iter().any(|entry| entry.member.host == number));
                free.ok_or_else(|| {
                    let why = format!("all addresses of its subnet {} are taken", self.0.subnet);
                    self.invalid(call, why)
                })?
            }
        };
        Ok((mac, host))
    }

    /// Sets addresses, routes and names in the guests of its members, after a change. The VM `but` is left out.
    pub(crate) async fn update_members(&self, but: &[ResourceId]) -> Result<(), LabError> {
        self.update_services("attach()").await?;
        let vms = self.entries().into_iter().filter_map(|entry| entry.vm());
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
            let vms = self.entries().into_iter().filter_map(|entry| entry.vm());
            let leaving = join_all(vms.map(|vm| vm.leave_bridge(self.id()))).await;
            self.leave_router().await;
            let switch = lock(&self.0.switch).take();
            lock(&self.0.members).clear();
            if switch.is_some() {
                let number = self.0.subnet.number();
                self.0.file.subnets.give_back(self.0.file_scope, number);
            }
            self.drop_later(switch);
            self.0.place.leave();
            leaving.into_iter().collect()
        })
    }
}

fn subject(name: &str) -> String {
    format!("bridge `{name}`")
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

    fn close(&self) -> Closing<'_> {
        Self::close(self)
    }
}

impl fmt::Debug for Bridge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bridge").field(&self.0.name).finish()
    }
}
