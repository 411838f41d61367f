//! The members of a bridge: they come and go, each with a port and addresses.

use crate::error::LabError;
use crate::lock::lock;
use crate::network::core::BridgeCore;
use crate::network::member::{AttachedVm, Member, MemberEntry, NicAddresses};
use crate::network::subnet::member_mac;
use crate::resource::ResourceId;
use provium_switch::shell::{Switch, SwitchStopped};
use provium_switch::{MacAddress, PortId, PortSettings};
use std::net::Ipv4Addr;
use std::sync::Weak;

/// How often another MAC address is tried when one is taken: it never is, with 2^40 of them.
const MAC_ATTEMPTS: u64 = 16;

impl BridgeCore {
    /// The names of its members, in the order of their attachment.
    pub(crate) fn names(&self) -> Vec<String> {
        let members = lock(&self.members);
        let names = members.iter().map(|entry| entry.member.name.clone());
        names.collect()
    }

    pub(crate) fn addresses_of(&self, member: &Member) -> NicAddresses {
        NicAddresses {
            mac: member.mac,
            host: self.subnet.host(member.host),
        }
    }

    pub(crate) fn entries(&self) -> Vec<MemberEntry> {
        lock(&self.members).clone()
    }

    pub(super) fn entry(&self, is_wanted: impl Fn(&MemberEntry) -> bool) -> Option<MemberEntry> {
        let members = lock(&self.members);
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
        let names = self.names();
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
        lock(&self.members).push(MemberEntry {
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
        open: impl AsyncFnOnce(&Switch, PortSettings) -> Result<(PortId, T), SwitchStopped>,
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
        lock(&self.members).push(MemberEntry {
            member: member.clone(),
            vm: None,
        });
        Ok((member, opened))
    }

    /// Removes the member with that port, and drops what is in flight from and to it. Removed already is fine.
    pub(crate) async fn remove_member(&self, call: &str, port: PortId) -> Result<(), LabError> {
        let _changes = self.changes().await;
        lock(&self.members).retain(|entry| entry.member.port != port);
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
        let members = lock(&self.members);
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
                    let why = format!("the MAC address {mac} belongs to `{other}`");
                    return Err(self.invalid(call, why));
                }
                None => mac,
            },
            None => (0..MAC_ATTEMPTS)
                .map(|attempt| member_mac(&self.name, name, attempt))
                .find(|mac| holder(&|member| member.mac == *mac).is_none())
                .ok_or_else(|| self.invalid(call, "no MAC address is free"))?,
        };
        let host = match address {
            Some(address) => {
                let Some(number) = self.subnet.host_number(address) else {
                    let why = format!("{address} is not a host of its subnet {}", self.subnet);
                    return Err(self.invalid(call, why));
                };
                match holder(&|member| member.host == number) {
                    Some(other) => {
                        let why = format!("the address {address} belongs to `{other}`");
                        return Err(self.invalid(call, why));
                    }
                    None => number,
                }
            }
            None => {
                let free = self
                    .subnet
                    .free_host(|number| members.iter().any(|entry| entry.member.host == number));
                free.ok_or_else(|| {
                    let why = format!("all addresses of its subnet {} are taken", self.subnet);
                    self.invalid(call, why)
                })?
            }
        };
        Ok((mac, host))
    }
}
