//! The router of a bridge: routes to other bridges, and the DHCP and DNS services.
//!
//! All bridges of a file have one router, at the first address of each subnet. A bridge gets its interface when it
//! needs one; until then nothing but its members speaks on it.

use crate::apart::apart;
use crate::error::LabError;
use crate::lock::lock;
use crate::network::core::{BridgeCore, Gateway};
use crate::network::subnet::{PREFIX_V6, Subnet, member_mac};
use crate::network::uplink::{START_LIMIT, Uplink};
use crate::save::host_name;
use provium_switch::router::{InterfaceId, InterfaceSettings};
use provium_switch::services::{DhcpRoute, DhcpServer, DnsServer, DnsTable, Lease, Services};
use provium_switch::shell::{OpenError, PortSource, Switch, SwitchStopped};
use provium_switch::{PortId, PortSettings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Weak};

/// The name of the router's port; a VM that has it, too, is not confused with it, since rules go by port.
const PORT_NAME: &str = "(router)";

/// The router of a bridge, for the calls that change it.
#[derive(Clone, Copy)]
pub(crate) struct BridgeRouter<'a>(pub(crate) &'a Arc<BridgeCore>);

impl BridgeRouter<'_> {
    /// The bridges that its members reach.
    pub(crate) fn routes(self) -> Vec<Arc<BridgeCore>> {
        let gateway = lock(&self.0.gateway);
        let routes = gateway.routes.iter().filter_map(Weak::upgrade);
        routes.filter(|bridge| !bridge.is_closed()).collect()
    }

    pub(crate) fn add_route(self, to: &Arc<BridgeCore>) {
        if self.routes().iter().all(|known| known.id != to.id) {
            lock(&self.0.gateway).routes.push(Arc::downgrade(to));
        }
    }

    /// The subnets that its members reach through the router.
    pub(crate) fn routed_subnets(self) -> Vec<Subnet> {
        self.routes().iter().map(|bridge| bridge.subnet).collect()
    }

    /// Its interface of the router, which is added if there is none.
    pub(crate) async fn interface(self, call: &str) -> Result<InterfaceId, LabError> {
        let switch = self.0.switch(call)?;
        let _changes = self.0.changes().await;
        let present = lock(&self.0.gateway).interface;
        if let Some((interface, _)) = present {
            return Ok(interface);
        }
        let settings = PortSettings {
            name: PORT_NAME.to_owned(),
            mtu: self.0.mtu(),
        };
        let added = self.add_interface(&switch, PortSource::New(settings)).await;
        let added = added.map_err(|error| LabError::host(self.0.subject(), call, error))?;
        lock(&self.0.gateway).interface = Some(added);
        Ok(added.0)
    }

    /// Adds an interface of the router to a switch that this bridge has or gets.
    pub(crate) async fn add_interface(
        self,
        switch: &Switch,
        port: PortSource,
    ) -> Result<(InterfaceId, PortId), OpenError> {
        let subnet = self.0.subnet;
        let host = subnet.gateway();
        let settings = InterfaceSettings {
            mac: member_mac(&self.0.name, PORT_NAME, 0),
            ipv4: Some((host.ipv4, subnet.ipv4_prefix())),
            ipv6: Some((host.ipv6, PREFIX_V6)),
            mtu: self.0.mtu(),
        };
        let router = self.0.file().router();
        let interface = router.add(switch, port, settings).await?;
        let port = router.port(interface).await?;
        // It was added just now.
        port.map(|port| (interface, port))
            .ok_or(OpenError::Stopped(SwitchStopped))
    }

    /// Gives it another interface, on the switch that it gets, and no routes.
    pub(crate) fn replace_interface(
        self,
        interface: Option<(InterfaceId, PortId)>,
        uplink: Option<Arc<Uplink>>,
    ) {
        let next = Gateway {
            interface,
            routes: Vec::new(),
            uplink,
        };
        let before = std::mem::replace(&mut *lock(&self.0.gateway), next);
        if let Some((interface, _)) = before.interface {
            let router = self.0.file().router();
            let _ = router.change_later(move |router| router.remove_interface(interface));
        }
    }

    /// Joins its interface with those of other bridges and with its uplink, after they were restored.
    pub(crate) fn join_again(self, others: &[Arc<BridgeCore>]) {
        for other in others {
            let (own, theirs) = (
                lock(&self.0.gateway).interface,
                lock(&other.gateway).interface,
            );
            if let (Some((own, _)), Some((theirs, _))) = (own, theirs) {
                let _ = self
                    .0
                    .file()
                    .router()
                    .change_later(move |router| router.join(own, theirs));
            }
            self.add_route(other);
        }
        let gateway = lock(&self.0.gateway);
        if let (Some((own, _)), Some(uplink)) = (gateway.interface, &gateway.uplink) {
            let theirs = uplink.interface();
            let router = self.0.file().router();
            let _ = router.change_later(move |router| router.join(own, theirs));
        }
    }

    /// Sets what its services answer with, after a change of its members or routes.
    pub(crate) async fn update_services(self, call: &str) -> Result<(), LabError> {
        if !self.0.options.dhcp {
            return Ok(());
        }
        let interface = self.interface(call).await?;
        let services = self.services();
        let set = self.0.file().router().with(move |router| {
            if let Some(now) = router.services_mut(interface) {
                *now = services;
            }
        });
        set.await.map_err(|error| self.0.stopped(call, error))
    }

    /// The same, without waiting, for a bridge that was restored.
    pub(crate) fn update_services_later(self) {
        let interface = lock(&self.0.gateway).interface;
        if let Some((interface, _)) = interface.filter(|_| self.0.options.dhcp) {
            let services = self.services();
            let _ = self.0.file().router().change_later(move |router| {
                if let Some(now) = router.services_mut(interface) {
                    *now = services;
                }
            });
        }
    }

    fn services(self) -> Services {
        let own = self.0.subnet.gateway();
        let domain = host_name(&self.0.name);
        let (mut leases, mut table) = (BTreeMap::new(), DnsTable::default());
        for entry in self.0.entries() {
            let addresses = self.0.addresses_of(&entry.member);
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

    /// Whether its members reach the host's network.
    pub(crate) fn has_uplink(self) -> bool {
        lock(&self.0.gateway).uplink.is_some()
    }

    /// Joins its interface with the uplink of the file, which is started if no bridge has it.
    pub(crate) async fn use_uplink(self, call: &str) -> Result<(), LabError> {
        let own = self.interface(call).await?;
        let uplink = self.uplink_of_file(call).await?;
        let theirs = uplink.interface();
        let router = self.0.file.router();
        let joined = router.with(move |router| router.join(own, theirs));
        joined.await.map_err(|error| self.0.stopped(call, error))?;
        lock(&self.0.gateway).uplink = Some(uplink);
        Ok(())
    }

    /// The uplink of the file, which is started if no bridge uses it.
    pub(crate) async fn uplink_of_file(self, call: &str) -> Result<Arc<Uplink>, LabError> {
        let file = &self.0.file;
        let mut present = file.uplink.lock().await;
        if let Some(uplink) = present.upgrade() {
            return Ok(uplink);
        }
        let router = Arc::clone(file.router());
        let limit = file.environment.scale_timeout(START_LIMIT);
        // `passt` outlives the call, so its pipes belong to the run's runtime.
        let started = apart(file.environment.runtime(), Uplink::start(router, limit)).await;
        let started = started.map_err(|error| LabError::host(self.0.subject(), call, error))?;
        let started = started.map_err(|error| LabError::host(self.0.subject(), call, error))?;
        let uplink = Arc::new(started);
        *present = Arc::downgrade(&uplink);
        Ok(uplink)
    }

    /// Ends its interface of the router, since it is closed.
    pub(crate) async fn leave_router(self) {
        let gateway = std::mem::take(&mut *lock(&self.0.gateway));
        if let Some((interface, _)) = gateway.interface {
            // A router that has stopped has no interfaces.
            let _ = self.0.file().router().remove(interface).await;
        }
        for other in gateway.routes.iter().filter_map(Weak::upgrade) {
            let mut gateway = lock(&other.gateway);
            gateway.routes.retain(|route| {
                let is_own = std::ptr::eq(route.as_ptr(), Arc::as_ptr(self.0));
                !is_own
            });
        }
    }
}
