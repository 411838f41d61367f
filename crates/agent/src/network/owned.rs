//! What requests have set so far, which later ones may remove again.

use provium_protocol::op::{InterfaceAddress, NicConfig, Route};
use std::collections::{BTreeMap, BTreeSet};

/// Of NICs, by the hardware address of the device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Owned(BTreeMap<[u8; 6], OwnedNic>);

/// Of one NIC.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct OwnedNic {
    pub(super) addresses: BTreeSet<InterfaceAddress>,
    pub(super) routes: BTreeSet<Route>,
}

impl Owned {
    /// A request is about to be carried out: any part of it may be set from now on.
    pub(crate) fn begin(&mut self, nics: &[NicConfig]) {
        for nic in nics {
            let owned = self.0.entry(nic.device_mac).or_default();
            owned.addresses.extend(&nic.addresses);
            owned.routes.extend(&nic.routes);
        }
    }

    /// A request was carried out: nothing else of the host's is set.
    pub(crate) fn finish(&mut self, nics: &[NicConfig]) {
        self.0.clear();
        self.begin(nics);
    }

    /// Whether a request has configured the NIC, as far as is known.
    pub(super) fn has(&self, device_mac: [u8; 6]) -> bool {
        self.0.contains_key(&device_mac)
    }

    pub(super) fn of(&self, device_mac: [u8; 6]) -> OwnedNic {
        self.0.get(&device_mac).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nic(last: u8) -> NicConfig {
        NicConfig {
            device_mac: [0; 6],
            name: "eth0".to_owned(),
            mac: [2; 6],
            mtu: 1500,
            addresses: vec![InterfaceAddress {
                address: [10, 0, 0, last].into(),
                prefix: 24,
            }],
            routes: Vec::new(),
            has_carrier: false,
        }
    }

    #[test]
    fn a_request_that_failed_adds_and_one_that_succeeded_replaces() {
        let mut owned = Owned::default();
        assert!(!owned.has([0; 6]));
        owned.finish(&[nic(1)]);
        owned.begin(&[nic(2)]);
        assert_eq!(owned.of([0; 6]).addresses.len(), 2);
        owned.finish(&[nic(2)]);
        let expected = BTreeSet::from([nic(2).addresses[0]]);
        assert_eq!(owned.of([0; 6]).addresses, expected);
        owned.finish(&[]);
        assert!(!owned.has([0; 6]));
    }
}
