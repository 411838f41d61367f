//! The interfaces of a router, and which of them are joined.

use super::interface::{ForwardedFrame, Interface, InterfaceId, Uplink};
use crate::MacAddress;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::net::IpAddr;

#[derive(Debug, Clone, Default)]
pub(super) struct Interfaces {
    /// By the index of their ids; `None`: removed.
    list: Vec<Option<Interface>>,
    /// The lower id first.
    joined: BTreeSet<(InterfaceId, InterfaceId)>,
}

impl Interfaces {
    pub(super) fn add(&mut self, interface: Interface) -> InterfaceId {
        self.list.push(Some(interface));
        InterfaceId(self.list.len() - 1)
    }

    pub(super) fn remove(&mut self, id: InterfaceId) {
        if let Some(interface) = self.list.get_mut(id.0) {
            *interface = None;
        }
        self.joined.retain(|(a, b)| *a != id && *b != id);
    }

    pub(super) fn join(&mut self, a: InterfaceId, b: InterfaceId) {
        self.joined.insert((a.min(b), a.max(b)));
    }

    pub(super) fn separate(&mut self, a: InterfaceId, b: InterfaceId) {
        self.joined.remove(&(a.min(b), a.max(b)));
    }

    pub(super) fn get_mut(&mut self, id: InterfaceId) -> Option<&mut Interface> {
        self.list.get_mut(id.0)?.as_mut()
    }

    pub(super) fn get(&self, id: InterfaceId) -> Option<&Interface> {
        self.list.get(id.0)?.as_ref()
    }

    pub(super) fn uplink_mut(&mut self, id: InterfaceId) -> Option<&mut Uplink> {
        let interface = self.list.get_mut(id.0)?.as_mut()?;
        interface.uplink.as_mut()
    }

    /// The uplink that packets of an interface may leave from.
    pub(super) fn uplink_of(&self, at: InterfaceId) -> Option<(InterfaceId, &Uplink)> {
        let mut others = self.reachable(at).filter(|(id, _)| *id != at);
        others.find_map(|(id, interface)| Some((id, interface.uplink.as_ref()?)))
    }

    /// The interfaces that packets of one may leave from: itself and those that are joined with it.
    pub(super) fn reachable(
        &self,
        at: InterfaceId,
    ) -> impl Iterator<Item = (InterfaceId, &Interface)> {
        let all = self.list.iter().enumerate();
        all.filter_map(move |(index, interface)| {
            let id = InterfaceId(index);
            let is_reachable = id == at || self.joined.contains(&(id.min(at), id.max(at)));
            Some((id, interface.as_ref().filter(|_| is_reachable)?))
        })
    }

    /// Whether an address is the router's own, for packets that arrive at this interface.
    pub(super) fn owns(&self, at: InterfaceId, address: IpAddr) -> bool {
        let is_of_this_link =
            matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
        self.reachable(at)
            .filter(|(id, _)| *id == at || !is_of_this_link)
            .any(|(_, interface)| interface.settings.owns(address))
    }

    /// The interface whose subnet has the address, the smallest subnet if several have it, else an uplink; with
    /// the longest packet that it sends. Link-local addresses are on the link that is asked for.
    pub(super) fn route(&self, at: InterfaceId, address: IpAddr) -> Option<(InterfaceId, usize)> {
        if matches!(address, IpAddr::V6(address) if address.is_unicast_link_local()) {
            return Some((at, self.get(at)?.settings.mtu));
        }
        let routes = self.reachable(at).filter_map(|(id, interface)| {
            let length = interface.settings.route_to(address)?;
            Some((length, (id, interface.settings.mtu)))
        });
        let subnet = routes.max_by_key(|(length, _)| *length);
        subnet.map(|(_, route)| route).or_else(|| {
            let (id, _) = self.uplink_of(at).filter(|_| address.is_ipv4())?;
            Some((id, self.get(id)?.settings.mtu))
        })
    }

    /// Appends a frame that leaves from an interface.
    pub(super) fn push_frame(
        &self,
        from: InterfaceId,
        to: MacAddress,
        ethertype: u16,
        payload: &[u8],
        out: &mut Vec<ForwardedFrame>,
    ) {
        let Some(interface) = self.get(from) else {
            return;
        };
        let mut frame = Vec::with_capacity(14 + payload.len());
        frame.extend(to.0);
        frame.extend(interface.settings.mac.0);
        frame.extend(ethertype.to_be_bytes());
        frame.extend(payload);
        out.push(ForwardedFrame {
            interface: from,
            frame: Bytes::from(frame),
        });
    }
}
