//! What requests have set so far, which later ones may remove again.

use provium_protocol::op::{InterfaceAddress, NicConfig, Route};
use std::collections::BTreeSet;

/// Something that a NIC, known by the hardware address of its device, has.
pub(super) type Setting = ([u8; 6], Item);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    /// It has been configured.
    Nic,
    Address(InterfaceAddress),
    Route(Route),
}

/// Settings of the host's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnedSettings(BTreeSet<Setting>);

impl OwnedSettings {
    /// A request is about to be carried out: any part of it may be set from now on.
    pub(crate) fn begin(&mut self, nics: &[NicConfig]) {
        for nic in nics {
            self.0.insert((nic.device_mac, Item::Nic));
            self.0.extend(settings(nic));
        }
    }

    /// A request was carried out: nothing else of the host's is set.
    pub(crate) fn finish(&mut self, nics: &[NicConfig]) {
        self.0.clear();
        self.begin(nics);
    }

    /// Whether a request has configured the NIC, as far as is known.
    pub(super) fn has(&self, device_mac: [u8; 6]) -> bool {
        self.0.contains(&(device_mac, Item::Nic))
    }

    /// What of a NIC may be removed if a request does not contain it any more.
    pub(super) fn obsolete(&self, nic: &NicConfig) -> Vec<Item> {
        let wanted: BTreeSet<Setting> = settings(nic).collect();
        let is_obsolete = |setting: &&Setting| {
            setting.0 == nic.device_mac && setting.1 != Item::Nic && !wanted.contains(*setting)
        };
        let obsolete = self.0.iter().filter(is_obsolete);
        obsolete.map(|(_, item)| *item).collect()
    }

    /// Whether a NIC may have routes of the host's.
    pub(super) fn has_routes(&self, device_mac: [u8; 6]) -> bool {
        let mut settings = self.0.iter();
        settings.any(|(device, item)| *device == device_mac && matches!(item, Item::Route(_)))
    }
}

/// What a request sets on a NIC.
fn settings(nic: &NicConfig) -> impl Iterator<Item = Setting> {
    let addresses = nic.addresses.iter().map(|one| Item::Address(*one));
    let routes = nic.routes.iter().map(|one| Item::Route(*one));
    addresses.chain(routes).map(|item| (nic.device_mac, item))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> InterfaceAddress {
        InterfaceAddress {
            address: [10, 0, 0, last].into(),
            prefix: 24,
        }
    }

    fn nic(last: u8) -> NicConfig {
        NicConfig {
            device_mac: [0; 6],
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![address(last)],
            routes: Vec::new(),
            has_carrier: false,
        }
    }

    #[test]
    fn a_request_that_failed_adds_and_one_that_succeeded_replaces() {
        let mut owned = OwnedSettings::default();
        assert!(!owned.has([0; 6]));
        owned.finish(&[nic(1)]);
        owned.begin(&[nic(2)]);
        assert!(owned.has([0; 6]));
        let of = |last| Item::Address(address(last));
        assert_eq!(owned.obsolete(&nic(3)), [of(1), of(2)]);
        owned.finish(&[nic(2)]);
        assert_eq!(owned.obsolete(&nic(3)), [of(2)]);
        assert_eq!(owned.obsolete(&nic(2)), []);
        let other = NicConfig {
            device_mac: [1; 6],
            ..nic(3)
        };
        assert_eq!(owned.obsolete(&other), []);
        owned.finish(&[]);
        assert!(!owned.has([0; 6]));
    }
}
