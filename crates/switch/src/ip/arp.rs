//! ARP for IPv4 on Ethernet (RFC 826).

use crate::MacAddress;
use smoltcp::wire::{ArpOperation, ArpPacket, ArpRepr, EthernetAddress};
use std::net::Ipv4Addr;

/// A question or an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    pub(crate) is_request: bool,
    /// Who asks or answers.
    pub(crate) sender: (MacAddress, Ipv4Addr),
    /// Who is asked for, or is answered. The Ethernet address of a question is zero.
    pub(crate) target: (MacAddress, Ipv4Addr),
}

impl Arp {
    /// Reads the payload of a frame; `None` if it is something else.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let packet = ArpPacket::new_checked(payload).ok()?;
        let ArpRepr::EthernetIpv4 {
            operation,
            source_hardware_addr,
            source_protocol_addr,
            target_hardware_addr,
            target_protocol_addr,
        } = ArpRepr::parse(&packet).ok()?
        else {
            return None;
        };
        let is_request = match operation {
            ArpOperation::Request => true,
            ArpOperation::Reply => false,
            ArpOperation::Unknown(_) => return None,
        };
        Some(Self {
            is_request,
            sender: (MacAddress(source_hardware_addr.0), source_protocol_addr),
            target: (MacAddress(target_hardware_addr.0), target_protocol_addr),
        })
    }

    /// The payload of a frame.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let message = ArpRepr::EthernetIpv4 {
            operation: if self.is_request {
                ArpOperation::Request
            } else {
                ArpOperation::Reply
            },
            source_hardware_addr: EthernetAddress(self.sender.0.0),
            source_protocol_addr: self.sender.1,
            target_hardware_addr: EthernetAddress(self.target.0.0),
            target_protocol_addr: self.target.1,
        };
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut ArpPacket::new_unchecked(&mut bytes[..]));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let arp = Arp {
            is_request: true,
            sender: (MacAddress::local(1), Ipv4Addr::new(10, 0, 0, 1)),
            target: (MacAddress([0; 6]), Ipv4Addr::new(10, 0, 0, 2)),
        };
        let bytes = arp.to_bytes();
        assert_eq!(bytes[..8], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(Arp::parse(&bytes), Some(arp));
        assert_eq!(Arp::parse(&bytes[..27]), None);
    }
}
