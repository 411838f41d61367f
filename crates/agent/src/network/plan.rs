//! The changes from the kernel's state to the one that the host wants.
//!
//! In three steps, each of which looks at what the one before has left: interfaces (an interface that
//! is taken down loses routes and IPv6 addresses), addresses, routes (which need them).

use super::change::{Change, ChangeKind, network};
use super::owned::{Item, OwnedSettings, Setting};
use super::state::{Interface, PresentAddress, PresentRoute};
use provium_protocol::op::{InterfaceAddress, NicConfig, Route};
use std::collections::BTreeSet;

/// The metric of routes through the first NIC; those of a later one have a higher one, so the first has
/// precedence. Above the metric that `ip route` and DHCP clients use, so the guest can add a route of its
/// own beside each, and that one is used.
const FIRST_METRIC: u32 = 2048;

/// A NIC and its interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) config: &'a NicConfig,
    pub(super) index: u32,
    /// Routes through it have this metric.
    pub(super) metric: u32,
}

impl<'a> Target<'a> {
    fn change(&self, what: ChangeKind) -> Change {
        Change {
            index: self.index,
            interface: self.config.name.clone(),
            what,
        }
    }

    /// The NICs whose interfaces there are, and the hardware addresses of the others.
    pub(super) fn find(
        nics: &'a [NicConfig],
        interfaces: &[Interface],
    ) -> (Vec<Self>, Vec<[u8; 6]>) {
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (config, metric) in nics.iter().zip(FIRST_METRIC..) {
            let device = Some(config.device_mac);
            match interfaces.iter().find(|one| one.permanent_mac == device) {
                Some(interface) => found.push(Self {
                    config,
                    index: interface.index,
                    metric,
                }),
                None => missing.push(config.device_mac),
            }
        }
        (found, missing)
    }
}

/// Names, in an order in which no name is taken. An interface of another name that is in the way gets a
/// temporary one if it is a NIC of the host's, too.
pub(super) fn renames(
    targets: &[Target<'_>],
    interfaces: &[Interface],
    is_nic: impl Fn(&Interface) -> bool,
) -> Vec<Change> {
    let (mut aside, mut renames) = (Vec::new(), Vec::new());
    for interface in interfaces {
        let wanted = targets
            .iter()
            .find(|target| target.index == interface.index)
            .map(|target| &target.config.name);
        if wanted == Some(&interface.name) {
            continue;
        }
        let change = |from: &str, to: &str| Change {
            index: interface.index,
            interface: from.to_owned(),
            what: ChangeKind::Rename(to.to_owned()),
        };
        let mut name = interface.name.clone();
        let in_the_way = targets.iter().any(|target| target.config.name == name);
        if in_the_way && (wanted.is_some() || is_nic(interface)) {
            let temporary = format!("provium{}", interface.index);
            aside.push(change(&name, &temporary));
            name = temporary;
        }
        if let Some(wanted) = wanted {
            renames.push(change(&name, wanted));
        }
    }
    aside.extend(renames);
    aside
}

/// Renames that make names which the kernel has chosen ones that a process has: those are left alone by
/// `udev` (`NamePolicy=keep`, its default).
pub(super) fn claims(
    targets: &[Target<'_>],
    interfaces: &[Interface],
    is_named_by_kernel: impl Fn(&str) -> bool,
) -> Vec<Change> {
    let mut changes = Vec::new();
    for target in targets {
        let name = &target.config.name;
        let has_name = |one: &&Interface| one.index == target.index && one.name == *name;
        if interfaces.iter().any(|one| has_name(&one)) && is_named_by_kernel(name) {
            let temporary = format!("provium{}", target.index);
            let back = Change {
                interface: temporary.clone(),
                ..target.change(ChangeKind::Rename(name.clone()))
            };
            changes.extend([target.change(ChangeKind::Rename(temporary)), back]);
        }
    }
    changes
}

/// Hardware address, MTU, state.
pub(super) fn links(targets: &[Target<'_>], interfaces: &[Interface]) -> Vec<Change> {
    let mut changes = Vec::new();
    for target in targets {
        let Some(interface) = interfaces.iter().find(|one| one.index == target.index) else {
            continue;
        };
        if interface.mac != target.config.mac {
            changes.push(target.change(ChangeKind::SetMac(target.config.mac)));
        }
        if interface.mtu != target.config.mtu {
            changes.push(target.change(ChangeKind::SetMtu(target.config.mtu)));
        }
        if !interface.is_up {
            changes.push(target.change(ChangeKind::BringUp));
        }
    }
    changes
}

/// Replaces the link-local address of an interface that was up when its hardware address changed, since
/// the kernel keeps the one that follows from the old address, which other guests may have, too.
pub(super) fn link_local(
    targets: &[Target<'_>],
    before: &[Interface],
    present: &[PresentAddress],
) -> Vec<Change> {
    let mut changes = Vec::new();
    for target in targets {
        let Some(old) = before
            .iter()
            .find(|one| one.index == target.index)
            .and_then(|one| <[u8; 6]>::try_from(&*one.mac).ok())
            .map(link_local_address)
        else {
            continue;
        };
        let new = link_local_address(target.config.mac);
        let has = |address| {
            let index = target.index;
            present.contains(&PresentAddress { index, address })
        };
        if old != new && has(old) {
            if !has(new) {
                changes.push(target.change(ChangeKind::AddAddress(new)));
            }
            changes.push(target.change(ChangeKind::RemoveAddress(old)));
        }
    }
    changes
}

/// The link-local address that the kernel derives from a hardware address (RFC 4291, appendix A).
fn link_local_address(mac: [u8; 6]) -> InterfaceAddress {
    let [a, b, c, d, e, f] = mac;
    let address = [
        0xfe,
        0x80,
        0,
        0,
        0,
        0,
        0,
        0,
        a ^ 2,
        b,
        c,
        0xff,
        0xfe,
        d,
        e,
        f,
    ];
    InterfaceAddress {
        address: address.into(),
        prefix: 64,
    }
}

/// Addresses: first those that the host does not want any more are removed.
pub(super) fn addresses(
    targets: &[Target<'_>],
    present: &[PresentAddress],
    owned: &OwnedSettings,
    is_possible: impl Fn(&Target<'_>, InterfaceAddress) -> bool,
) -> Vec<Change> {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for target in targets {
        let device = target.config.device_mac;
        let mut present: BTreeSet<Setting> = present
            .iter()
            .filter(|one| one.index == target.index)
            .map(|one| (device, Item::Address(one.address)))
            .collect();
        for item in owned.obsolete(target.config) {
            if let Item::Address(address) = item
                && present.contains(&(device, item))
            {
                removed.push(target.change(ChangeKind::RemoveAddress(address)));
            }
        }
        // In the order of the request: the first of a network is its primary address.
        for address in &target.config.addresses {
            if is_possible(target, *address) && present.insert((device, Item::Address(*address))) {
                added.push(target.change(ChangeKind::AddAddress(*address)));
            }
        }
    }
    removed.extend(added);
    removed
}

/// Routes, in the same way.
pub(super) fn routes(
    targets: &[Target<'_>],
    present: &[PresentRoute],
    owned: &OwnedSettings,
    is_possible: impl Fn(&Target<'_>, InterfaceAddress) -> bool,
) -> Vec<Change> {
    let (mut removed, mut added) = (Vec::new(), Vec::new());
    for target in targets {
        let device = target.config.device_mac;
        let as_item = |route: &Route| (device, Item::Route(plain(*route)));
        let wanted: BTreeSet<Setting> = target.config.routes.iter().map(as_item).collect();
        let obsolete = owned.obsolete(target.config);
        let obsolete: BTreeSet<Setting> = obsolete
            .iter()
            .filter_map(|item| match item {
                Item::Route(route) => Some(as_item(route)),
                _ => None,
            })
            .collect();
        let mut kept = BTreeSet::new();
        // The metric of a route says that it is the host's. It changes with the order of the NICs.
        let here = present
            .iter()
            .filter(|one| one.index == target.index && one.metric >= FIRST_METRIC);
        for PresentRoute { route, metric, .. } in here {
            let setting = as_item(route);
            if wanted.contains(&setting) && *metric == target.metric {
                kept.insert(setting);
            } else if wanted.contains(&setting) || obsolete.contains(&setting) {
                removed.push(target.change(ChangeKind::RemoveRoute(*route, *metric)));
            }
        }
        for route in &target.config.routes {
            if is_possible(target, route.destination) && kept.insert(as_item(route)) {
                added.push(target.change(ChangeKind::AddRoute(plain(*route), target.metric)));
            }
        }
    }
    removed.extend(added);
    removed
}

/// The route as the kernel reports it.
fn plain(route: Route) -> Route {
    let destination = InterfaceAddress {
        address: network(route.destination),
        ..route.destination
    };
    Route {
        destination,
        ..route
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_protocol::op::NicCounters;
    use std::net::IpAddr;

    fn device(slot: u8) -> [u8; 6] {
        [0x52, 0x54, 0, 0x70, 0x76, slot]
    }

    fn config(slot: u8, name: &str) -> NicConfig {
        NicConfig {
            device_mac: device(slot),
            name: name.to_owned(),
            mac: [2, 0, 0, 0, 0, slot],
            mtu: 1500,
            addresses: Vec::new(),
            routes: Vec::new(),
            has_carrier: false,
        }
    }

    /// The interface of a NIC as its driver makes it.
    fn interface(slot: u8, name: &str) -> Interface {
        Interface {
            index: u32::from(slot) + 2,
            name: name.to_owned(),
            hardware: libc::ARPHRD_ETHER,
            mac: device(slot).to_vec(),
            permanent_mac: Some(device(slot)),
            mtu: 1500,
            is_up: false,
            is_running: false,
            ipv6: None,
            counters: NicCounters::default(),
        }
    }

    fn at(address: impl Into<IpAddr>, prefix: u8) -> InterfaceAddress {
        InterfaceAddress {
            address: address.into(),
            prefix,
        }
    }

    fn texts(changes: &[Change]) -> Vec<String> {
        changes.iter().map(ToString::to_string).collect()
    }

    fn renamed(nics: &[NicConfig], interfaces: &[Interface]) -> Vec<String> {
        let (targets, missing) = Target::find(nics, interfaces);
        assert_eq!(missing, [[0; 6]; 0]);
        let is_nic = |one: &Interface| one.permanent_mac.is_some();
        texts(&renames(&targets, interfaces, is_nic))
    }

    #[test]
    fn a_nic_without_an_interface_is_missing() {
        let nics = [config(0, "eth0"), config(1, "eth1")];
        let (targets, missing) = Target::find(&nics, &[interface(1, "eth0")]);
        assert_eq!(missing, [device(0)]);
        let found: Vec<_> = targets.iter().map(|one| (one.index, one.metric)).collect();
        assert_eq!(found, [(3, FIRST_METRIC + 1)]);
    }

    #[test]
    fn names_that_are_taken_are_freed_first() {
        let nics = [config(0, "eth0"), config(1, "eth1")];
        let fine = [interface(0, "eth0"), interface(1, "eth1")];
        assert_eq!(renamed(&nics, &fine), [""; 0]);
        let swapped = [interface(0, "eth1"), interface(1, "eth0")];
        assert_eq!(
            renamed(&nics, &swapped),
            [
                "renaming eth1 to provium2",
                "renaming eth0 to provium3",
                "renaming provium2 to eth0",
                "renaming provium3 to eth1",
            ]
        );
        let predictable = [interface(0, "enp1s0"), interface(1, "enp2s0")];
        assert_eq!(
            renamed(&nics, &predictable),
            ["renaming enp1s0 to eth0", "renaming enp2s0 to eth1"]
        );
    }

    #[test]
    fn only_interfaces_of_the_host_are_moved_out_of_the_way() {
        let nics = [config(1, "eth0")];
        let unlisted = [interface(0, "eth0"), interface(1, "eth1")];
        assert_eq!(
            renamed(&nics, &unlisted),
            ["renaming eth0 to provium2", "renaming eth1 to eth0"]
        );
        let foreign = Interface {
            permanent_mac: None,
            ..interface(0, "eth0")
        };
        // The kernel refuses that, with the reason.
        assert_eq!(
            renamed(&nics, &[foreign, interface(1, "eth1")]),
            ["renaming eth1 to eth0"]
        );
    }

    #[test]
    fn a_name_that_the_kernel_has_chosen_is_given_again() {
        let nics = [config(0, "eth0"), config(1, "eth1"), config(2, "eth2")];
        let interfaces = [
            interface(0, "eth0"),
            interface(1, "eth1"),
            interface(2, "enp3s0"),
        ];
        let (targets, _) = Target::find(&nics, &interfaces);
        assert_eq!(
            texts(&claims(&targets, &interfaces, |name| name != "eth1")),
            ["renaming eth0 to provium2", "renaming provium2 to eth0"]
        );
    }

    #[test]
    fn links_change_where_they_differ() {
        let nics = [config(0, "eth0")];
        let changes = |interface: Interface| {
            let interfaces = [interface];
            let (targets, _) = Target::find(&nics, &interfaces);
            texts(&links(&targets, &interfaces))
        };
        let set_mac = "setting the MAC of eth0 to 02:00:00:00:00:00";
        assert_eq!(changes(interface(0, "eth0")), [set_mac, "bringing eth0 up"]);
        let up = Interface {
            is_up: true,
            is_running: true,
            mtu: 9000,
            ..interface(0, "eth0")
        };
        let set_mtu = "setting the MTU of eth0 to 1500";
        assert_eq!(changes(up.clone()), [set_mac, set_mtu]);
        let configured = Interface {
            mac: nics[0].mac.to_vec(),
            mtu: 1500,
            ..up
        };
        assert_eq!(changes(configured), [""; 0]);
    }

    #[test]
    fn a_link_local_address_follows_the_hardware_address() {
        let nics = [config(0, "eth0")];
        let before = [interface(0, "eth0")];
        let (targets, _) = Target::find(&nics, &before);
        let old = at([0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe70, 0x7600], 64);
        let changes = |present: &[InterfaceAddress]| {
            let present: Vec<_> = present
                .iter()
                .map(|&address| PresentAddress { index: 2, address })
                .collect();
            texts(&link_local(&targets, &before, &present))
        };
        let remove = "removing fe80::5054:ff:fe70:7600/64 from eth0";
        let new = at([0xfe80, 0, 0, 0, 0x0000, 0xff, 0xfe00, 0], 64);
        assert_eq!(
            changes(&[old]),
            ["adding fe80::ff:fe00:0/64 to eth0", remove]
        );
        assert_eq!(changes(&[old, new]), [remove]);
        // The kernel makes it when the interface comes up, or the guest derives it in another way.
        assert_eq!(changes(&[]), [""; 0]);
        assert_eq!(changes(&[new]), [""; 0]);
    }

    #[test]
    fn addresses_of_the_guest_stay_and_those_of_the_host_follow_the_request() {
        let mut before = config(0, "eth0");
        before.addresses = vec![at([10, 0, 0, 2], 24), at([0xfd; 16], 64)];
        let mut owned = OwnedSettings::default();
        owned.finish(std::slice::from_ref(&before));
        let mut now = config(0, "eth0");
        now.addresses = vec![at([10, 0, 0, 3], 24), at([0xfd; 16], 64)];
        let present = [
            at([10, 0, 0, 2], 24),
            at([10, 0, 0, 9], 24),
            at([0xfd; 16], 64),
        ]
        .map(|address| PresentAddress { index: 2, address });
        let nics = [now];
        let (targets, _) = Target::find(&nics, &[interface(0, "eth0")]);
        let changes = |present: &[PresentAddress], v6: bool| {
            let is_possible = |_: &Target<'_>, one: InterfaceAddress| v6 || one.address.is_ipv4();
            texts(&addresses(&targets, present, &owned, is_possible))
        };
        assert_eq!(
            changes(&present, true),
            [
                "removing 10.0.0.2/24 from eth0",
                "adding 10.0.0.3/24 to eth0"
            ]
        );
        assert_eq!(
            changes(&[], true),
            [
                "adding 10.0.0.3/24 to eth0",
                "adding fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd/64 to eth0"
            ]
        );
        assert_eq!(changes(&[], false), ["adding 10.0.0.3/24 to eth0"]);
    }

    #[test]
    fn routes_follow_the_request_and_the_order_of_nics() {
        let gateway = |last: u8| Route {
            destination: at([0; 4], 0),
            gateway: [10, 0, 0, last].into(),
        };
        let mut nic = config(0, "eth0");
        nic.routes = vec![gateway(1)];
        let mut owned = OwnedSettings::default();
        owned.finish(std::slice::from_ref(&nic));
        let present = |route, metric| PresentRoute {
            index: 2,
            route,
            metric,
        };
        let changes = |nics: &[NicConfig], present: &[PresentRoute]| {
            let (targets, _) = Target::find(nics, &[interface(0, "eth0")]);
            texts(&routes(&targets, present, &owned, |_, _| true))
        };
        let same = [nic.clone()];
        // One that the guest has added beside it stays.
        let own = present(gateway(1), 0);
        assert_eq!(
            changes(&same, &[own, present(gateway(1), FIRST_METRIC)]),
            [""; 0]
        );
        let remove = "removing the route 0.0.0.0/0 through 10.0.0.1 of eth0";
        let add = "adding the route 0.0.0.0/0 through 10.0.0.1 of eth0";
        assert_eq!(
            changes(&same, &[present(gateway(1), FIRST_METRIC + 1)]),
            [remove, add]
        );
        nic.routes.clear();
        assert_eq!(
            changes(&[nic], &[own, present(gateway(1), FIRST_METRIC)]),
            [remove]
        );
    }
}
