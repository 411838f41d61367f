//! Packets as routers and hosts make them: IPv4, IPv6, UDP and ARP.

pub(crate) mod arp;
pub(crate) mod ipv4;
pub(crate) mod ipv6;
pub(crate) mod udp;
