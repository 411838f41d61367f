//! Runs a command in a guest before a test does.
//!
//! The first command in a guest takes ten times as long as the second one: the kernel allocates what it needs
//! to start a process, and QEMU, in each new process, translates the code that it runs. A template is saved
//! after a command, which spares all of its VMs the first part; a warm VM runs one more, which spares it the
//! second part. The same holds for the NICs and disks of both, but those of a guest whose root is on a disk.

use crate::disk::serial_of;
use provium_guest::{CallError, Channel};
use provium_protocol::Lane;
use provium_protocol::op::{
    DiskConfig, Exec, HostEntry, InterfaceAddress, NicConfig, SetDisks, SetNetwork, Stat,
};
use provium_vmm::{DiskDevice, NicSlot};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Runs `echo` in a shell, which uses all that a command of a test uses: the file system, a new process, its
/// output, its end. A guest that has no shell is not an error. It sets no deadline; the caller does.
pub(crate) async fn warm_up(channel: &Channel) -> Result<(), CallError> {
    let vm = channel.lane(Lane::VM);
    let path = b"/".to_vec();
    vm.call(Stat { path }).await?;
    match vm.command(Exec::shell("echo"), 0).wait().await {
        Err(error) if error.channel().is_some() => Err(error),
        _ => Ok(()),
    }
}

/// Large enough for IPv6.
const MTU: u32 = 1500;

/// Sets addresses and names of the ranges for documentation on the NICs of a template, and removes them again, which
/// runs what the network of a test needs. The links of a template are disconnected, so no frame leaves. The NICs
/// stay up, with the hardware addresses of their devices, until the VM has its own. It sets no deadline; the caller
/// does.
pub(crate) async fn warm_up_network(channel: &Channel, slots: &[NicSlot]) -> Result<(), CallError> {
    if slots.is_empty() {
        return Ok(());
    }
    channel.set_network(example(slots)).await?;
    channel.set_network(plain(slots)).await
}

/// The size of the disks that a warm VM has before it gets its own, bytes. It differs from that of the placeholders
/// in a template, so the guest sees another size.
pub(crate) const BLANK_DISK: u64 = 2 << 20;

/// Makes a guest see the blank disks that its machine was given, which runs what the disks of a test need. `before` are
/// those that it has seen. It sets no deadline; the caller does.
pub(crate) async fn warm_up_disks(
    channel: &Channel,
    disks: &[DiskDevice],
    before: &[DiskDevice],
) -> Result<(), CallError> {
    let blank = disks.iter().map(|disk| DiskConfig {
        is_replaced: true,
        may_have_partitions: true,
        known_as: serial_of(before, disk.slot),
        ..empty(disk, BLANK_DISK)
    });
    set_disks(channel, blank.collect()).await
}

/// Makes a guest look for its disks, all of which are placeholders, which makes their links. It sets no deadline; the
/// caller does.
pub(crate) async fn warm_up_placeholders(
    channel: &Channel,
    disks: &[DiskDevice],
) -> Result<(), CallError> {
    let placeholders = disks
        .iter()
        .map(|disk| empty(disk, DiskDevice::PLACEHOLDER_SIZE));
    set_disks(channel, placeholders.collect()).await
}

async fn set_disks(channel: &Channel, disks: Vec<DiskConfig>) -> Result<(), CallError> {
    if disks.is_empty() {
        return Ok(());
    }
    channel.set_disks(SetDisks { disks }).await.map(drop)
}

/// A disk of this size, bytes, that the guest has not used.
fn empty(disk: &DiskDevice, size: u64) -> DiskConfig {
    DiskConfig {
        serial: disk.serial.clone(),
        size,
        read_only: disk.read_only,
        is_replaced: false,
        may_have_partitions: false,
        known_as: None,
        mount: None,
    }
}

/// What a boot requests, with other values.
fn example(slots: &[NicSlot]) -> SetNetwork {
    let mut network = plain(slots);
    for (nic, number) in network.nics.iter_mut().zip(1..) {
        // Locally administered.
        nic.mac[0] |= 2;
        nic.mac[1] ^= 1;
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(number), 0, 0, 0, 1);
        let pairs = [
            (IpAddr::from(Ipv4Addr::new(192, 0, 2, number)), 24),
            (IpAddr::from(v6), 64),
        ];
        for (address, prefix) in pairs {
            nic.addresses.push(InterfaceAddress { address, prefix });
            let names = vec!["guest.example".to_owned()];
            network.hosts.push(HostEntry { address, names });
        }
    }
    network
}

/// NICs without addresses.
fn plain(slots: &[NicSlot]) -> SetNetwork {
    let nics = slots.iter().enumerate().map(|(index, slot)| NicConfig {
        device_mac: slot.device_mac(),
        name: format!("eth{index}"),
        mac: slot.device_mac(),
        mtu: MTU,
        addresses: Vec::new(),
        routes: Vec::new(),
        has_carrier: false,
    });
    SetNetwork {
        nics: nics.collect(),
        hosts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_warm_vm_is_prepared_with_is_removed_again() {
        let slots: Vec<NicSlot> = [0, 2].into_iter().filter_map(NicSlot::new).collect();
        let (set, removed) = (example(&slots), plain(&slots));
        for ((set, removed), slot) in set.nics.iter().zip(&removed.nics).zip(&slots) {
            assert_eq!(
                (set.device_mac, removed.device_mac),
                (slot.device_mac(), slot.device_mac())
            );
            assert_ne!(set.mac, removed.mac, "the VM gets another one, too");
            assert_eq!((set.addresses.len(), removed.addresses.len()), (2, 0));
        }
        assert_eq!((set.hosts.len(), removed.hosts.len()), (4, 0));
    }
}
