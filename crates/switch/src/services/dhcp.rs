//! A DHCP server for IPv4 (RFC 2131, 2132, 3442).
//!
//! It has a lease for each station that it knows, and ignores all others. A lease does not change while it
//! is held, so requests change nothing and the server has no state.
//!
//! | request | answer |
//! |---|---|
//! | DISCOVER | OFFER of the lease |
//! | REQUEST of the lease's address | ACK |
//! | REQUEST of another address | NAK, so that the station asks again |
//! | REQUEST of another server's offer | none |
//! | INFORM | ACK without an address |
//! | RELEASE, DECLINE | none |

use crate::MacAddress;
use smoltcp::wire::{DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, EthernetAddress};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

/// How long a lease is valid, seconds. A station renews it after half of that.
pub const LEASE_SECONDS: u32 = 3600;

/// The port of servers.
pub(crate) const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// Bytes of the shortest message: some clients ignore messages that are shorter than those of BOOTP.
const SHORTEST: usize = 300;
/// Bytes that an option has room for.
const OPTION: usize = 255;

const HOST_NAME: u8 = 12;
const DOMAIN_NAME: u8 = 15;
const INTERFACE_MTU: u8 = 26;
const CLASSLESS_ROUTES: u8 = 121;

/// A DHCP server; its own address and the subnet are those of its interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DhcpServer {
    /// The domain of the stations.
    pub domain: String,
    /// The default route of the stations.
    pub router: Option<Ipv4Addr>,
    /// Other routes of the stations. A station that understands them ignores `router`, so they include the
    /// default route if that is set.
    pub routes: Vec<DhcpRoute>,
    /// The DNS server of the stations.
    pub dns: Option<Ipv4Addr>,
    /// The stations, by their Ethernet addresses.
    pub leases: BTreeMap<MacAddress, Lease>,
}

/// What a station is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its name, without the domain.
    pub host_name: String,
}

/// A route to a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DhcpRoute {
    /// The network, and the number of its leading bits.
    pub destination: (Ipv4Addr, u8),
    /// The next hop.
    pub gateway: Ipv4Addr,
}

/// A message to a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DhcpAnswer {
    /// The Ethernet address of the station, which cannot be asked for it: it has no IP address yet.
    pub(crate) station: MacAddress,
    pub(crate) to: SocketAddrV4,
    pub(crate) payload: Vec<u8>,
}

impl DhcpServer {
    /// Answers a request. `own`: the address of the interface, with the length of its prefix; `mtu`: the
    /// longest packet on its link, bytes.
    pub(crate) fn answer(
        &self,
        own: (Ipv4Addr, u8),
        mtu: usize,
        request: &[u8],
    ) -> Option<DhcpAnswer> {
        let packet = DhcpPacket::new_checked(request).ok()?;
        let request = DhcpRepr::parse(&packet).ok()?;
        // Relays would ask for other subnets.
        if !request.relay_agent_ip.is_unspecified() {
            return None;
        }
        let station = MacAddress(request.client_hardware_address.0);
        let lease = self.leases.get(&station)?;
        let kind = match request.message_type {
            DhcpMessageType::Discover => DhcpMessageType::Offer,
            DhcpMessageType::Request => reply_to_request(&request, own.0, lease)?,
            DhcpMessageType::Inform if !request.client_ip.is_unspecified() => DhcpMessageType::Ack,
            _ => return None,
        };
        let is_inform = request.message_type == DhcpMessageType::Inform;
        let payload = self.message(own, mtu, &request, kind, (!is_inform).then_some(lease))?;
        let (station, address) = destination(&request, kind, station, lease);
        Some(DhcpAnswer {
            station,
            to: SocketAddrV4::new(address, CLIENT_PORT),
            payload,
        })
    }

    fn message(
        &self,
        (own, prefix): (Ipv4Addr, u8),
        mtu: usize,
        request: &DhcpRepr<'_>,
        kind: DhcpMessageType,
        lease: Option<&Lease>,
    ) -> Option<Vec<u8>> {
        let is_refusal = kind == DhcpMessageType::Nak;
        let given = lease.filter(|_| !is_refusal);
        let mtu = u16::try_from(mtu).unwrap_or(u16::MAX).to_be_bytes();
        let routes = encoded(&self.routes);
        let host_name = lease.map_or(&[][..], |lease| lease.host_name.as_bytes());
        let options = [
            (HOST_NAME, host_name),
            (DOMAIN_NAME, self.domain.as_bytes()),
            (INTERFACE_MTU, &mtu[..]),
            (CLASSLESS_ROUTES, &routes),
        ];
        let options: Vec<DhcpOption<'_>> = options
            .into_iter()
            .filter(|(_, data)| !is_refusal && (1..=OPTION).contains(&data.len()))
            .map(|(kind, data)| DhcpOption { kind, data })
            .collect();
        let dns = self.dns.filter(|_| !is_refusal);
        let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32)));
        let repr = DhcpRepr {
            message_type: kind,
            transaction_id: request.transaction_id,
            secs: 0,
            client_hardware_address: EthernetAddress(request.client_hardware_address.0),
            client_ip: if is_refusal {
                Ipv4Addr::UNSPECIFIED
            } else {
                request.client_ip
            },
            your_ip: given.map_or(Ipv4Addr::UNSPECIFIED, |lease| lease.address),
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: self.router.filter(|_| !is_refusal),
            subnet_mask: (!is_refusal).then_some(Ipv4Addr::from_bits(mask.unwrap_or(0))),
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: request.broadcast,
            requested_ip: None,
            client_identifier: None,
            server_identifier: Some(own),
            parameter_request_list: None,
            dns_servers: dns.map(|server| [server].into_iter().collect()),
            max_size: None,
            lease_duration: given.map(|_| LEASE_SECONDS),
            renew_duration: None,
            rebind_duration: None,
            additional_options: &options,
        };
        let mut bytes = vec![0; repr.buffer_len().max(SHORTEST)];
        repr.emit(&mut DhcpPacket::new_unchecked(&mut bytes[..]))
            .ok()?;
        Some(bytes)
    }
}

/// The kind of the answer to a REQUEST; `None` if it is for another server (RFC 2131, 4.3.2).
fn reply_to_request(
    request: &DhcpRepr<'_>,
    own: Ipv4Addr,
    lease: &Lease,
) -> Option<DhcpMessageType> {
    if request
        .server_identifier
        .is_some_and(|chosen| chosen != own)
    {
        return None;
    }
    let wanted = request.requested_ip.unwrap_or(request.client_ip);
    Some(if wanted == lease.address {
        DhcpMessageType::Ack
    } else {
        DhcpMessageType::Nak
    })
}

/// Where an answer goes (RFC 2131, 4.1).
fn destination(
    request: &DhcpRepr<'_>,
    kind: DhcpMessageType,
    station: MacAddress,
    lease: &Lease,
) -> (MacAddress, Ipv4Addr) {
    if kind == DhcpMessageType::Nak {
        (MacAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else if !request.client_ip.is_unspecified() {
        (station, request.client_ip)
    } else if request.broadcast {
        (MacAddress::BROADCAST, Ipv4Addr::BROADCAST)
    } else {
        (station, lease.address)
    }
}

/// The routes as option 121 has them: length of the prefix, its significant bytes, next hop.
fn encoded(routes: &[DhcpRoute]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for route in routes {
        let (network, prefix) = route.destination;
        let significant = usize::from(prefix.min(32)).div_ceil(8);
        bytes.push(prefix.min(32));
        bytes.extend(&network.octets()[..significant]);
        bytes.extend(route.gateway.octets());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 5, 1), 24);
    const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 5, 2);
    const STATION: MacAddress = MacAddress::local(2);

    fn server() -> DhcpServer {
        let lease = Lease {
            address: GUEST,
            host_name: "a".to_owned(),
        };
        DhcpServer {
            domain: "lan".to_owned(),
            router: Some(OWN.0),
            routes: Vec::new(),
            dns: Some(OWN.0),
            leases: BTreeMap::from([(STATION, lease)]),
        }
    }

    fn request(message_type: DhcpMessageType) -> DhcpRepr<'static> {
        DhcpRepr {
            message_type,
            transaction_id: 0x1234_5678,
            secs: 0,
            client_hardware_address: EthernetAddress(STATION.0),
            client_ip: Ipv4Addr::UNSPECIFIED,
            your_ip: Ipv4Addr::UNSPECIFIED,
            server_ip: Ipv4Addr::UNSPECIFIED,
            router: None,
            subnet_mask: None,
            relay_agent_ip: Ipv4Addr::UNSPECIFIED,
            broadcast: false,
            requested_ip: None,
            client_identifier: None,
            server_identifier: None,
            parameter_request_list: Some(&[1, 3, 6]),
            dns_servers: None,
            max_size: None,
            lease_duration: None,
            renew_duration: None,
            rebind_duration: None,
            additional_options: &[],
        }
    }

    fn ask(server: &DhcpServer, request: &DhcpRepr<'_>) -> Option<DhcpAnswer> {
        let mut bytes = vec![0; request.buffer_len()];
        let mut packet = DhcpPacket::new_unchecked(&mut bytes[..]);
        request.emit(&mut packet).expect("it fits");
        server.answer(OWN, 1400, &bytes)
    }

    /// The kind of the answer, and where it goes.
    fn shown(answer: Option<DhcpAnswer>) -> Option<(DhcpMessageType, MacAddress, Ipv4Addr)> {
        let answer = answer?;
        let packet = DhcpPacket::new_checked(&answer.payload[..]).expect("a message");
        let repr = DhcpRepr::parse(&packet).expect("a message");
        Some((repr.message_type, answer.station, *answer.to.ip()))
    }

    #[test]
    fn an_offer_has_the_lease_and_the_options() {
        let answer = ask(&server(), &request(DhcpMessageType::Discover)).expect("an answer");
        assert_eq!(
            (answer.station, answer.to),
            (STATION, SocketAddrV4::new(GUEST, 68))
        );
        let packet = DhcpPacket::new_checked(&answer.payload[..]).expect("a message");
        let offer = DhcpRepr::parse(&packet).expect("a message");
        assert_eq!(offer.message_type, DhcpMessageType::Offer);
        assert_eq!((offer.transaction_id, offer.your_ip), (0x1234_5678, GUEST));
        assert_eq!(offer.subnet_mask, Some(Ipv4Addr::new(255, 255, 255, 0)));
        assert_eq!(
            (offer.router, offer.server_identifier),
            (Some(OWN.0), Some(OWN.0))
        );
        assert_eq!(offer.dns_servers.expect("servers")[..], [OWN.0]);
        assert_eq!(offer.lease_duration, Some(LEASE_SECONDS));
        let option = |kind| packet.options().find(|option| option.kind == kind);
        assert_eq!(option(HOST_NAME).expect("a name").data, b"a");
        assert_eq!(option(DOMAIN_NAME).expect("a domain").data, b"lan");
        assert_eq!(
            option(INTERFACE_MTU).expect("an MTU").data,
            1400_u16.to_be_bytes()
        );
        assert!(option(CLASSLESS_ROUTES).is_none());
        assert!(answer.payload.len() >= SHORTEST);
    }

    #[test]
    fn a_request_is_answered_by_what_it_asks_for() {
        let asked = |change: fn(&mut DhcpRepr<'_>)| {
            let mut request = request(DhcpMessageType::Request);
            change(&mut request);
            shown(ask(&server(), &request))
        };
        let ack = Some((DhcpMessageType::Ack, STATION, GUEST));
        let nak = (
            DhcpMessageType::Nak,
            MacAddress::BROADCAST,
            Ipv4Addr::BROADCAST,
        );
        let selected =
            asked(|r| (r.requested_ip, r.server_identifier) = (Some(GUEST), Some(OWN.0)));
        assert_eq!(selected, ack);
        assert_eq!(
            asked(|r| r.requested_ip = Some(GUEST)),
            ack,
            "after a reboot"
        );
        assert_eq!(asked(|r| r.client_ip = GUEST), ack, "a renewal");
        let other = |r: &mut DhcpRepr<'_>| r.requested_ip = Some(Ipv4Addr::new(10, 9, 9, 9));
        assert_eq!(asked(other), Some(nak));
        assert_eq!(
            asked(|r| r.server_identifier = Some(GUEST)),
            None,
            "another server"
        );
        assert_eq!(asked(|r| r.relay_agent_ip = GUEST), None);
        let broadcast = asked(|r| (r.requested_ip, r.broadcast) = (Some(GUEST), true));
        assert_eq!(broadcast.expect("an answer").2, Ipv4Addr::BROADCAST);
    }

    #[test]
    fn an_inform_is_answered_without_an_address() {
        let mut inform = request(DhcpMessageType::Inform);
        assert_eq!(ask(&server(), &inform), None, "it has no address");
        inform.client_ip = Ipv4Addr::new(10, 0, 5, 77);
        let answer = ask(&server(), &inform).expect("an answer");
        assert_eq!(*answer.to.ip(), inform.client_ip);
        let packet = DhcpPacket::new_checked(&answer.payload[..]).expect("a message");
        let ack = DhcpRepr::parse(&packet).expect("a message");
        assert_eq!(
            (ack.your_ip, ack.lease_duration),
            (Ipv4Addr::UNSPECIFIED, None)
        );
        assert!(ack.dns_servers.is_some());
    }

    #[test]
    fn stations_that_are_not_known_and_other_messages_are_not_answered() {
        let mut stranger = request(DhcpMessageType::Discover);
        stranger.client_hardware_address = EthernetAddress(MacAddress::local(9).0);
        assert_eq!(ask(&server(), &stranger), None);
        for kind in [DhcpMessageType::Release, DhcpMessageType::Decline] {
            assert_eq!(ask(&server(), &request(kind)), None);
        }
    }

    #[test]
    fn routes_have_the_significant_bytes_of_their_networks() {
        let via = |network, prefix| DhcpRoute {
            destination: (network, prefix),
            gateway: OWN.0,
        };
        let routes = [
            via(Ipv4Addr::new(10, 17, 0, 0), 16),
            via(Ipv4Addr::UNSPECIFIED, 0),
        ];
        assert_eq!(encoded(&routes), [16, 10, 17, 10, 0, 5, 1, 0, 10, 0, 5, 1]);
        let server = DhcpServer {
            routes: routes.to_vec(),
            ..server()
        };
        let answer = ask(&server, &request(DhcpMessageType::Discover)).expect("an answer");
        let packet = DhcpPacket::new_checked(&answer.payload[..]).expect("a message");
        let mut options = packet.options();
        let option = options.find(|option| option.kind == CLASSLESS_ROUTES);
        assert_eq!(option.expect("routes").data, encoded(&routes));
    }
}
