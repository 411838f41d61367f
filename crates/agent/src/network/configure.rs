//! Carrying out a request.

use super::carrier;
use super::change::{Change, ChangeKind};
use super::drivers::DRIVERS;
use super::owned::OwnedSettings;
use super::plan::{self, Target};
use super::session::Session;
use super::state::{self, Interface, PresentAddress};
use super::{drivers, hosts};
use crate::failure;
use crate::module_requests::{ModuleRequests, Stop};
use crate::roots;
use crate::sys::{Errno, Sys, file};
use provium_protocol::op::{InterfaceAddress, NicConfig, SetNetwork};
use provium_protocol::{Reply, WireError};
use std::net::IpAddr;

const IPV6: &str = "ipv6";
/// The modules that a network may need.
pub(crate) const MODULES: [&str; 3] = [DRIVERS[0], DRIVERS[1], IPV6];
/// Below this, an interface has no IPv6.
const LEAST_IPV6_MTU: u32 = 1280;
/// `IFNAMSIZ`, with the zero at the end of a name.
const NAME_LIMIT: usize = 16;

/// What is tried, for messages.
const LISTING: &str = "listing the network interfaces";

/// Whether other programs may name interfaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InterfaceNaming {
    /// The agent is the init, so none does unless a test wants it.
    Alone,
    /// An init, or its `udev`, may rename those that have their names from the kernel.
    Contested,
}

/// Makes the guest's network what the request says.
///
/// # Errors
/// An invalid request, before anything is changed; otherwise the first change that failed, after all
/// others of its kind have been made.
pub(crate) fn configure(
    request: &SetNetwork,
    owned: &OwnedSettings,
    modules: &mut ModuleRequests,
    naming: InterfaceNaming,
) -> Result<Reply, Stop> {
    check(request).map_err(failure::invalid)?;
    if !request.nics.is_empty() {
        configure_nics(&request.nics, owned, modules, naming)?;
    }
    hosts::set(&request.hosts)?;
    Ok(Reply::Done)
}

fn configure_nics(
    nics: &[NicConfig],
    owned: &OwnedSettings,
    modules: &mut ModuleRequests,
    naming: InterfaceNaming,
) -> Result<(), Stop> {
    let tried = |what: &'static str| move |errno| failure::os(what, errno);
    let mut session = Session::open().map_err(tried("opening a socket of rtnetlink"))?;
    let mut interfaces = state::interfaces(&mut session, false).map_err(tried(LISTING))?;
    if !Target::find(nics, &interfaces).1.is_empty() {
        interfaces = drivers::await_interfaces(&mut session, nics, owned, modules)?;
    }
    let (targets, _) = Target::find(nics, &interfaces);

    let mut renames = plan::renames(&targets, &interfaces, |one| is_of_host(nics, one));
    if naming == InterfaceNaming::Contested {
        renames.extend(plan::claims(&targets, &interfaces, is_named_by_kernel));
    }
    if !renames.is_empty() {
        for rename in &renames {
            make_rename(&mut session, rename)?;
        }
        interfaces = state::interfaces(&mut session, false).map_err(tried(LISTING))?;
    }
    make_links(&mut session, &targets, &interfaces)?;

    let without_ipv6 = without_ipv6(&mut session, &targets, &interfaces, modules)?;
    let is_possible = |target: &Target<'_>, address: InterfaceAddress| {
        address.address.is_ipv4() || !without_ipv6.contains(&target.index)
    };
    let present = state::addresses(&mut session).map_err(tried("listing addresses"))?;
    let mut changes = plan::addresses(&targets, &present, owned, is_possible);
    changes.extend(plan::link_local(&targets, &interfaces, &present));
    keep_secondary_addresses(&changes, &present);
    make_all(&mut session, &changes)?;

    let has_routes = |target: &Target<'_>| {
        !target.config.routes.is_empty() || owned.has_routes(target.config.device_mac)
    };
    if targets.iter().any(has_routes) {
        let present = state::routes(&mut session).map_err(tried("listing routes"))?;
        let changes = plan::routes(&targets, &present, owned, is_possible);
        make_all(&mut session, &changes)?;
    }
    carrier::await_carriers(&mut session, nics)?;
    Ok(())
}

/// Whether the kernel has chosen the name of an interface, and no process has.
fn is_named_by_kernel(name: &str) -> bool {
    // `NET_NAME_USER` and `NET_NAME_RENAMED` of the kernel's `include/uapi/linux/netdevice.h`.
    let path = format!("class/net/{name}/name_assign_type");
    let value = file::read_at(roots::SYS, &path).unwrap_or_default();
    !matches!(value.first(), Some(b'3' | b'4'))
}

/// Whether it is the interface of a NIC of the host's, listed or not: their addresses differ in the last
/// byte.
fn is_of_host(nics: &[NicConfig], interface: &Interface) -> bool {
    let device = interface.permanent_mac;
    device.is_some_and(|device| nics.iter().any(|nic| nic.device_mac[..5] == device[..5]))
}

/// Linux before 6.2 renames only interfaces that are down. The interface is brought up later.
fn make_rename(session: &mut Session, rename: &Change) -> Result<(), WireError> {
    make_while_down(session, rename).map(drop)
}

/// Makes a change, of an interface that is taken down if the kernel or the driver demands that. Whether it
/// was.
fn make_while_down(session: &mut Session, change: &Change) -> Result<bool, WireError> {
    let tried = |errno| failure::os(change.to_string(), errno);
    match session.make_one(change.request()) {
        Err(Errno(libc::EBUSY)) => {}
        other => return other.map(|()| false).map_err(tried),
    }
    let down = Change {
        what: ChangeKind::TakeDown,
        ..change.clone()
    };
    let made = session
        .make_one(down.request())
        .and_then(|()| session.make_one(change.request()));
    made.map(|()| true).map_err(tried)
}

/// Hardware addresses, MTUs and states.
fn make_links(
    session: &mut Session,
    targets: &[Target<'_>],
    interfaces: &[Interface],
) -> Result<(), WireError> {
    let mut taken_down = Vec::new();
    for change in plan::links(targets, interfaces) {
        let settings = interfaces
            .iter()
            .find(|one| one.index == change.index)
            .and_then(|one| one.ipv6);
        if change.what == ChangeKind::BringUp
            && settings.is_some_and(|ipv6| ipv6.detects_duplicates)
        {
            let path = format!("sys/net/ipv6/conf/{}/accept_dad", change.interface);
            // Where it cannot be set, the link-local address takes a second longer.
            let _ = file::write_at(roots::PROC, &path, b"0");
        }
        if make_while_down(session, &change)? {
            taken_down.push(Change {
                what: ChangeKind::BringUp,
                ..change
            });
        }
    }
    make_all(session, &taken_down)
}

/// The indices of interfaces that cannot have IPv6 addresses.
fn without_ipv6(
    session: &mut Session,
    targets: &[Target<'_>],
    interfaces: &[Interface],
    modules: &mut ModuleRequests,
) -> Result<Vec<u32>, Stop> {
    let mut without = Vec::new();
    let wanted = targets.iter().flat_map(|target| &target.config.addresses);
    if !wanted.into_iter().any(|one| one.address.is_ipv6()) {
        return Ok(without);
    }
    // The loopback interface has it wherever the kernel does.
    let has_ipv6 = |interfaces: &[Interface]| interfaces.iter().any(|one| one.ipv6.is_some());
    let mut is_there = has_ipv6(interfaces);
    if !is_there && modules.load(IPV6)? {
        // It may be built in, and switched off on the kernel's command line.
        let now = state::interfaces(session, false);
        is_there = has_ipv6(&now.map_err(|errno| failure::os(LISTING, errno))?);
    }
    for target in targets {
        let is_disabled = |one: &Interface| one.ipv6.is_some_and(|ipv6| ipv6.is_disabled);
        let mut own = interfaces.iter().filter(|one| one.index == target.index);
        if !is_there || target.config.mtu < LEAST_IPV6_MTU || own.any(is_disabled) {
            without.push(target.index);
        }
    }
    Ok(without)
}

/// Has the kernel keep the other IPv4 addresses of an interface when the first of their network is removed, since one
/// of them may be the guest's.
fn keep_secondary_addresses(changes: &[Change], present: &[PresentAddress]) {
    for change in changes {
        if leaves_ipv4_addresses(change, changes, present) {
            let name = &change.interface;
            let path = format!("sys/net/ipv4/conf/{name}/promote_secondaries");
            let _ = file::write_at(roots::PROC, &path, b"1");
        }
    }
}

/// Whether the change removes an IPv4 address of an interface that has others, which stay.
fn leaves_ipv4_addresses(change: &Change, changes: &[Change], present: &[PresentAddress]) -> bool {
    let is_removed = |one: &PresentAddress| {
        let removal = ChangeKind::RemoveAddress(one.address);
        let mut changes = changes.iter();
        changes.any(|change| change.index == one.index && change.what == removal)
    };
    let is_other = |one: &PresentAddress| {
        one.index == change.index && one.address.address.is_ipv4() && !is_removed(one)
    };
    let ChangeKind::RemoveAddress(removed) = change.what else {
        return false;
    };
    removed.address.is_ipv4() && present.iter().any(is_other)
}

/// Makes all changes; the first failure, if any.
fn make_all(session: &mut Session, changes: &[Change]) -> Result<(), WireError> {
    if changes.is_empty() {
        return Ok(());
    }
    let requests = changes.iter().map(Change::request).collect();
    let results = session.make(requests);
    let results = results.map_err(|errno| failure::os("waiting for rtnetlink", errno))?;
    for (change, result) in changes.iter().zip(results) {
        if let Err(errno) = result.or_else(|errno| ignore_if_gone(change, errno)) {
            return Err(failure::os(change.to_string(), errno));
        }
    }
    Ok(())
}

/// What was to be removed may have gone together with something else.
fn ignore_if_gone(change: &Change, errno: Errno) -> Sys<()> {
    match (&change.what, errno.0) {
        (ChangeKind::RemoveAddress(_), libc::EADDRNOTAVAIL)
        | (ChangeKind::RemoveRoute(..), libc::ESRCH) => Ok(()),
        _ => Err(errno),
    }
}

/// The first mistake in the request.
fn check(request: &SetNetwork) -> Result<(), String> {
    for (index, nic) in request.nics.iter().enumerate() {
        let name = &nic.name;
        let is_bad = |byte: u8| byte.is_ascii_whitespace() || matches!(byte, b'/' | b':' | 0);
        if !(1..NAME_LIMIT).contains(&name.len()) || name == "." || name == ".." {
            return Err(format!("`{name}` is not a name of an interface"));
        }
        if name.bytes().any(is_bad) {
            return Err(format!("`{name}` is not a name of an interface"));
        }
        let is_same = |one: &NicConfig| one.name == *name || one.device_mac == nic.device_mac;
        if request.nics[..index].iter().any(is_same) {
            return Err(format!("two NICs have the name `{name}` or one device"));
        }
        let destinations = nic.routes.iter().map(|route| route.destination);
        for one in nic.addresses.iter().copied().chain(destinations) {
            if one.prefix > width(one.address) {
                let InterfaceAddress { address, prefix } = one;
                return Err(format!("{address} has no prefix of {prefix} bits"));
            }
        }
        for route in &nic.routes {
            if width(route.destination.address) != width(route.gateway) {
                let gateway = route.gateway;
                return Err(format!(
                    "the gateway {gateway} is of another address family"
                ));
            }
        }
    }
    hosts::check(&request.hosts)
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::op::Route;

    fn request(change: impl FnOnce(&mut NicConfig)) -> SetNetwork {
        let mut nic = NicConfig {
            device_mac: [0; 6],
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![InterfaceAddress {
                address: [10, 0, 0, 2].into(),
                prefix: 32,
            }],
            routes: Vec::new(),
            has_carrier: false,
        };
        change(&mut nic);
        SetNetwork {
            nics: vec![nic],
            hosts: Vec::new(),
        }
    }

    #[test]
    fn requests_that_the_kernel_could_misread_are_refused() {
        assert_eq!(check(&request(|_| {})), Ok(()));
        for name in ["", "sixteen-letters.", "a/b", "a b", "..", "a:1"] {
            let named = request(|nic| nic.name = name.to_owned());
            assert!(check(&named).is_err(), "{name}");
        }
        let long = request(|nic| nic.addresses[0].prefix = 33);
        assert_eq!(
            check(&long),
            Err("10.0.0.2 has no prefix of 33 bits".to_owned())
        );
        let mixed = request(|nic| {
            nic.routes.push(Route {
                destination: InterfaceAddress {
                    address: [0; 4].into(),
                    prefix: 0,
                },
                gateway: [0xfd; 16].into(),
            });
        });
        assert!(
            check(&mixed)
                .unwrap_err()
                .contains("another address family")
        );
        let mut twice = request(|_| {});
        twice.nics.push(twice.nics[0].clone());
        assert!(check(&twice).unwrap_err().contains("two NICs"));
    }

    #[test]
    fn secondary_addresses_are_kept_where_there_are_any() {
        let present = |index, last: u8| PresentAddress {
            index,
            address: InterfaceAddress {
                address: [10, 0, 0, last].into(),
                prefix: 24,
            },
        };
        let removal = Change {
            index: 1,
            interface: "eth0".to_owned(),
            what: ChangeKind::RemoveAddress(present(1, 2).address),
        };
        let leaves = |present: &[PresentAddress]| {
            leaves_ipv4_addresses(&removal, std::slice::from_ref(&removal), present)
        };
        assert!(leaves(&[present(1, 2), present(1, 3)]));
        assert!(!leaves(&[present(1, 2), present(2, 3)]));
    }

    #[test]
    fn what_has_gone_already_counts_as_removed() {
        let address = InterfaceAddress {
            address: [10, 0, 0, 2].into(),
            prefix: 24,
        };
        let change = |what| Change {
            index: 1,
            interface: "eth0".to_owned(),
            what,
        };
        let gone = Errno(libc::EADDRNOTAVAIL);
        let removed = change(ChangeKind::RemoveAddress(address));
        assert_eq!(ignore_if_gone(&removed, gone), Ok(()));
        let added = change(ChangeKind::AddAddress(address));
        assert_eq!(ignore_if_gone(&added, gone), Err(gone));
    }
}
