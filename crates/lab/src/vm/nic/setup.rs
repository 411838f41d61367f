//! Makes a machine and its guest have the NICs that the VM has.
//!
//! ```text
//! attach, detach ─▶ NICs of the VM ── reconcile ──▶ plugged into the machine ─▶ set in the guest ─▶ connected
//!                                        ▲                (QMP)                    (agent)           to the switch
//! boot, restore, reset, resume ──────────┘
//! ```
//!
//! The same steps follow each event that can make a guest differ from what is wanted; steps that have nothing to do
//! cost nothing.

use crate::error::LabError;
use crate::guest::wait::ChannelFailure;
use crate::lock::lock;
use crate::network::{AttachedVm, PREFIX_V6};
use crate::resource::ResourceId;
use crate::save::host_name;
use crate::vm::handle::Vm;
use crate::vm::nic::list::VmNic;
use crate::vm::running::RunningMachine;
use crate::vm::state::{Stage, VmCore};
use futures_util::future::BoxFuture;
use provium_guest::{CallError, Channel};
use provium_protocol::op::{HostEntry, InterfaceAddress, NicConfig, Route, SetNetwork};
use provium_vmm::{Machine, NicSlot, VmmError};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a guest does not have the NICs that it should have.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("no slot for another NIC is free; a machine has {}", NicSlot::COUNT)]
    NoSlot,
    #[error("the NIC cannot be plugged in or removed")]
    Machine(#[from] VmmError),
    #[error("the agent cannot set up the network")]
    Agent(#[from] CallError),
}

impl ChannelFailure for NetworkError {
    fn is_end_of_channel(&self) -> bool {
        matches!(self, Self::Agent(error) if error.is_end_of_channel())
    }
}

/// What the agent of the guest sets for these NICs; whether it waits until those have carriers that are connected.
fn network_request(nics: &[VmNic], waits: bool) -> SetNetwork {
    let configs = nics.iter().filter_map(|nic| {
        let subnet = nic.bridge.subnet();
        let host = nic.addresses.host;
        Some(NicConfig {
            device_mac: nic.slot?.device_mac(),
            name: nic.interface(),
            mac: nic.addresses.mac.0,
            mtu: u32::try_from(nic.bridge.mtu()).unwrap_or(u32::MAX),
            addresses: vec![
                InterfaceAddress {
                    address: host.ipv4.into(),
                    prefix: subnet.ipv4_prefix(),
                },
                InterfaceAddress {
                    address: host.ipv6.into(),
                    prefix: PREFIX_V6,
                },
            ],
            routes: routes(nic),
            has_carrier: waits && nic.is_connected,
        })
    });
    SetNetwork {
        nics: configs.collect(),
        hosts: host_entries(nics),
    }
}

/// The routes of a NIC on a bridge: to the bridges that it is routed to, and, with an uplink, to everything else.
fn routes(nic: &VmNic) -> Vec<Route> {
    let gateway = nic.bridge.subnet().gateway();
    let context = nic.bridge_context();
    let to = |address: IpAddr, prefix: u8| Route {
        destination: InterfaceAddress { address, prefix },
        gateway: match address {
            IpAddr::V4(_) => gateway.ipv4.into(),
            IpAddr::V6(_) => gateway.ipv6.into(),
        },
    };
    let mut routes = Vec::new();
    for subnet in context.routes {
        routes.push(to(subnet.ipv4_address().into(), subnet.ipv4_prefix()));
        routes.push(to(subnet.ipv6_address().into(), PREFIX_V6));
    }
    if context.has_uplink {
        routes.push(to(Ipv4Addr::UNSPECIFIED.into(), 0));
    }
    routes
}

/// The names of all members of the bridges: `vm.bridge` for each, and `vm` for the first bridge that has it.
fn host_entries(nics: &[VmNic]) -> Vec<HostEntry> {
    let mut entries: Vec<HostEntry> = Vec::new();
    let mut short_names: Vec<String> = Vec::new();
    for nic in nics {
        let bridge = host_name(nic.bridge.name());
        for entry in nic.bridge_context().members {
            let member = host_name(&entry.name);
            let mut names = vec![format!("{member}.{bridge}")];
            if !short_names.contains(&member) {
                names.push(member.clone());
                short_names.push(member);
            }
            let host = nic.bridge.0.addresses_of(&entry).host;
            for address in [IpAddr::from(host.ipv4), IpAddr::from(host.ipv6)] {
                let names = names.clone();
                entries.push(HostEntry { address, names });
            }
        }
    }
    entries
}

/// Plugs in the NICs that the machine lacks, and sets all of them in the guest.
pub(crate) async fn set_up_network(
    machine: &Machine,
    channel: &Channel,
    nics: &mut [VmNic],
) -> Result<Vec<(NicSlot, UnixStream)>, NetworkError> {
    let mut sockets = Vec::new();
    for at in 0..nics.len() {
        if nics[at].slot.is_some() {
            continue;
        }
        let is_used = |slot: NicSlot| nics.iter().any(|nic| nic.slot == Some(slot));
        let plugged = machine.nics();
        // One that a snapshot has and no bridge, before a new one.
        let spare = plugged.iter().copied().find(|slot| !is_used(*slot));
        let slot = match spare {
            Some(slot) => slot,
            None => {
                let mut all = (0..NicSlot::COUNT).filter_map(NicSlot::new);
                let free = all.find(|slot| !is_used(*slot) && !plugged.contains(slot));
                let slot = free.ok_or(NetworkError::NoSlot)?;
                sockets.push((slot, machine.plug_nic(slot).await?));
                slot
            }
        };
        nics[at].slot = Some(slot);
    }
    configure_network(machine, channel, nics).await?;
    Ok(sockets)
}

/// Sets the NICs of the machine in its guest, and connects their links.
///
/// The links of new NICs are connected when their interfaces are up: Linux notes the carrier of one that is down with
/// a delay of up to a second.
pub(crate) async fn configure_network(
    machine: &Machine,
    channel: &Channel,
    nics: &[VmNic],
) -> Result<(), NetworkError> {
    let slots = machine.nics();
    if nics.is_empty() && slots.is_empty() {
        return Ok(());
    }
    channel.set_network(network_request(nics, false)).await?;
    for slot in slots {
        let nic = nics.iter().find(|nic| nic.slot == Some(slot));
        // One that a snapshot has and no bridge is disconnected.
        let is_connected = nic.is_some_and(|nic| nic.is_connected);
        machine.set_nic_link(slot, is_connected).await?;
    }
    if nics.iter().any(|nic| nic.is_connected) {
        channel.set_network(network_request(nics, true)).await?;
    }
    Ok(())
}

/// Connects the NICs of a machine to their bridges, as far as they are not.
pub(crate) fn connect_nics(
    machine: &Machine,
    nics: &[VmNic],
    mut plugged: Vec<(NicSlot, UnixStream)>,
) {
    for nic in nics {
        let Some(slot) = nic.slot else { continue };
        let at = plugged.iter().position(|(of, _)| *of == slot);
        let socket = match at {
            Some(at) => Some(plugged.swap_remove(at).1),
            None => machine.take_nic_socket(slot),
        };
        let switch = nic.bridge.0.switch("connect");
        if let (Some(socket), Ok(switch)) = (socket, switch) {
            // A switch that has stopped shows in the next call to it.
            let _ = switch.reconnect_later(nic.port, socket);
        }
    }
}

/// Makes the guest have the NICs that the VM has, if it runs; a paused one when it is resumed.
pub(crate) async fn settle_network(vm: &Vm, call: &str) -> Result<(), LabError> {
    let _lifecycle = vm.0.lifecycle().await;
    let stage = vm.0.stage.borrow().clone();
    match stage {
        Stage::Booted(running) => reconcile_network(vm, call, &running).await,
        Stage::Paused(running) => {
            running.network_is_stale.store(true, Ordering::Release);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The same for the machine that it runs on, under its life-cycle lock.
pub(crate) async fn reconcile_network(
    vm: &Vm,
    call: &str,
    running: &RunningMachine,
) -> Result<(), LabError> {
    running.network_is_stale.store(false, Ordering::Release);
    let leaving: Vec<NicSlot> = std::mem::take(&mut *lock(&running.leaving_nics));
    let mut nics = lock(&vm.0.nics).clone();
    let set_up = async {
        for slot in &leaving {
            running.machine.unplug_nic(*slot).await?;
        }
        if !leaving.is_empty() {
            // The agent forgets them. It would take a NIC that is plugged into the same slot for the old one, whose
            // interface the guest has moved to another network namespace, and not wait for its interface.
            let remaining = network_request(&nics, false);
            running.channel.set_network(remaining).await?;
        }
        set_up_network(&running.machine, &running.channel, &mut nics).await
    };
    match set_up.await {
        Ok(sockets) => {
            vm.0.take_slots(&nics);
            connect_nics(&running.machine, &nics, sockets);
            Ok(())
        }
        Err(error) => {
            let error = LabError::host(vm.subject(), call, error);
            Err(vm.0.explain(call, error).await)
        }
    }
}

impl VmCore {
    /// Notes in which slots the machine has the NICs.
    pub(crate) fn take_slots(&self, nics: &[VmNic]) {
        for own in lock(&self.nics).iter_mut() {
            let same = nics
                .iter()
                .find(|nic| nic.port == own.port && nic.bridge.id() == own.bridge.id());
            own.slot = same.and_then(|nic| nic.slot);
        }
    }
}

impl AttachedVm for VmCore {
    fn id(&self) -> ResourceId {
        self.id
    }

    fn update_network(self: Arc<Self>) -> BoxFuture<'static, Result<(), LabError>> {
        let vm = Vm(self);
        Box::pin(async move { settle_network(&vm, "attach()").await })
    }

    fn leave_bridge(
        self: Arc<Self>,
        bridge: ResourceId,
    ) -> BoxFuture<'static, Result<(), LabError>> {
        let vm = Vm(self);
        Box::pin(async move {
            vm.0.drop_nic(bridge);
            settle_network(&vm, "detach()").await
        })
    }
}
