//! The router of a bridge: routes to other bridges, and the DHCP and DNS services.
//!
//! All bridges of a file have one router, at the first address of each subnet. A bridge gets its interface when it
//! needs one; until then nothing but its members speaks on it.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::bridge::{Bridge, BridgeCore};
use crate::network::subnet::{PREFIX_V6, Subnet, member_mac};
use crate::save::host_name;
use provium_switch::router::{InterfaceId, InterfaceSettings};
use provium_switch::services::{DhcpRoute, DhcpServer, DnsServer, DnsTable, Lease, Services};
use provium_switch::shell::{OpenError, PortSource, Stopped, Switch};
use provium_switch::{PortId, PortSettings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// The name of the router's port; a VM that has it, too, is not confused with it, since rules go by port.
const PORT_NAME: &str = "(router)";

/// The router of a bridge.
#[derive(Default)]
pub(crate) struct Gateway {
    interface: Option<(InterfaceId, PortId)>,
    /// The bridges that its members reach.
    routes: Vec<Weak<BridgeCore>>,
}

impl Gateway {
    /// The router's port on the bridge.
    pub(crate) fn port(&self) -> Option<PortId> {
        self.interface.map(|(_, port)| port)
    }
}

impl Bridge {
    /// Lets packets pass between this bridge and others, in both directions. Their members have routes when this
    /// returns.
    ///
    /// # Errors
    /// When a bridge is closed, is this one, or has a subnet that overlaps with this one's.
    pub async fn route(&self, to: &[Bridge]) -> Result<(), LabError> {
        let call = "route()";
        for other in to {
            if other.id() == self.id() {
                return Err(self.invalid(call, "a bridge is not routed to itself"));
            }
            other.switch(call)?;
            if self.subnet().overlaps(other.subnet()) {
                let why = format!(
                    "its addresses ({}) overlap with those of {} ({})",
                    self.subnet(),
                    other.subject(),
                    other.subnet()
                );
                return Err(self.invalid(call, why));
            }
        }
        let own = self.interface(call).await?;
        for other in to {
            let theirs = other.interface(call).await?;
            let joined = self
                .file()
                .router()
                .with(move |router| router.join(own, theirs));
            joined.await.map_err(|error| self.stopped(call, error))?;
            self.add_route(other);
            other.add_route(self);
        }
        for bridge in std::iter::once(self).chain(to) {
            bridge.update_services(call).await?;
            bridge.update_members(&[]).await?;
        }
        Ok(())
    }

    /// The bridges that its members reach through the router, in the order in which they were given.
    pub fn routes(&self) -> Vec<Bridge> {
        let gateway = lock(&self.0.gateway);
        let routes = gateway.routes.iter().filter_map(Weak::upgrade).map(Bridge);
        routes.filter(|bridge| !bridge.is_closed()).collect()
    }

    fn add_route(&self, to: &Self) {
        if self.routes().iter().all(|known| known.id() != to.id()) {
            lock(&self.0.gateway).routes.push(Arc::downgrade(&to.0));
        }
    }

    /// The subnets that its members reach through the router.
    pub(crate) fn routed_subnets(&self) -> Vec<Subnet> {
        self.routes().iter().map(Self::subnet).collect()
    }

    /// Its interface of the router, which is added if there is none.
    async fn interface(&self, call: &str) -> Result<InterfaceId, LabError> {
        let switch = self.switch(call)?;
        let _changes = self.changes().await;
        let present = lock(&self.0.gateway).interface;
        if let Some((interface, _)) = present {
            return Ok(interface);
        }
        let settings = PortSettings {
            name: PORT_NAME.to_owned(),
            mtu: self.mtu(),
        };
        let added = self.add_interface(&switch, PortSource::New(settings)).await;
        let added = added.map_err(|error| LabError::host(self.subject(), call, error))?;
        lock(&self.0.gateway).interface = Some(added);
        Ok(added.0)
    }

    /// Adds an interface of the router to a switch that this bridge has or gets.
    pub(crate) async fn add_interface(
        &self,
        switch: &Switch,
        port: PortSource,
    ) -> Result<(InterfaceId, PortId), OpenError> {
        let subnet = self.subnet();
        let host = subnet.gateway();
        let settings = InterfaceSettings {
            mac: member_mac(self.name(), PORT_NAME, 0),
            ipv4: Some((host.ipv4, subnet.ipv4_prefix())),
            ipv6: Some((host.ipv6, PREFIX_V6)),
            mtu: self.mtu(),
        };
        let router = self.file().router();
        let interface = router.add(switch, port, settings).await?;
        let port = router.port(interface).await?;
        // It was added just now.
        port.map(|port| (interface, port))
            .ok_or(OpenError::Stopped(Stopped))
    }

    /// Gives it another interface, on the switch that it gets, and no routes.
    pub(crate) fn replace_interface(&self, next: Option<(InterfaceId, PortId)>) {
        let next = Gateway {
            interface: next,
            routes: Vec::new(),
        };
        let before = std::mem::replace(&mut *lock(&self.0.gateway), next);
        if let Some((interface, _)) = before.interface {
            let router = self.file().router();
            let _ = router.change_later(move |router| router.remove_interface(interface));
        }
    }

    /// Joins its interface with those of the bridges of these numbers, after they were restored.
    pub(crate) fn join_again(&self, others: &[Self]) {
        for other in others {
            let (own, theirs) = (
                lock(&self.0.gateway).interface,
                lock(&other.0.gateway).interface,
            );
            if let (Some((own, _)), Some((theirs, _))) = (own, theirs) {
                let _ = self
                    .file()
                    .router()
                    .change_later(move |router| router.join(own, theirs));
            }
            self.add_route(other);
        }
    }

    /// Sets what its services answer with, after a change of its members or routes.
    pub(crate) async fn update_services(&self, call: &str) -> Result<(), LabError> {
        if !self.options().dhcp {
            return Ok(());
        }
        let interface = self.interface(call).await?;
        let services = self.services();
        let set = self.file().router().with(move |router| {
            if let Some(now) = router.services_mut(interface) {
                *now = services;
            }
        });
        set.await.map_err(|error| self.stopped(call, error))
    }

    /// The same, without waiting, for a bridge that was restored.
    pub(crate) fn update_services_later(&self) {
        let interface = lock(&self.0.gateway).interface;
        if let Some((interface, _)) = interface.filter(|_| self.options().dhcp) {
            let services = self.services();
            let _ = self.file().router().change_later(move |router| {
                if let Some(now) = router.services_mut(interface) {
                    *now = services;
                }
            });
        }
    }

    fn services(&self) -> Services {
        let own = self.subnet().gateway();
        let domain = host_name(self.name());
        let (mut leases, mut table) = (BTreeMap::new(), DnsTable::default());
        for entry in self.entries() {
            let addresses = self.addresses_of(&entry.member);
            let name = host_name(&entry.member.name);
            let full = format!("{name}.{domain}");
            for address in [
                IpAddr::from(addresses.host.ipv4),
                IpAddr::from(addresses.host.ipv6),
            ] {
                table.insert(address, [full.as_str(), name.as_str()]);
            }
            if entry.member.is_vm {
                let lease = Lease {
                    address: addresses.host.ipv4,
                    host_name: name,
                };
                leases.insert(addresses.mac, lease);
            }
        }
        let routes = self.routed_subnets().into_iter().map(|subnet| DhcpRoute {
            destination: (subnet.ipv4_address(), subnet.ipv4_prefix()),
            gateway: own.ipv4,
        });
        Services {
            dhcp: Some(DhcpServer {
                domain,
                router: self.has_uplink().then_some(own.ipv4),
                routes: routes.collect(),
                dns: Some(own.ipv4),
                leases,
            }),
            dns: Some(DnsServer { table }),
        }
    }

    /// Ends its interface of the router, since it is closed.
    pub(crate) async fn leave_router(&self) {
        let gateway = std::mem::take(&mut *lock(&self.0.gateway));
        if let Some((interface, _)) = gateway.interface {
            // A router that has stopped has no interfaces.
            let _ = self.file().router().remove(interface).await;
        }
        for other in gateway.routes.iter().filter_map(Weak::upgrade) {
            let mut gateway = lock(&other.gateway);
            gateway.routes.retain(|route| {
                let is_own = std::ptr::eq(route.as_ptr(), Arc::as_ptr(&self.0));
                !is_own
            });
        }
    }
}
