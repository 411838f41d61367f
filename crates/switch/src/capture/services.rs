//! What datagrams of DHCP and DNS say.

use crate::MacAddress;
use simple_dns::rdata::{PTR, RData};
use simple_dns::{Packet, PacketFlag, QTYPE, RCODE};
use smoltcp::wire::{DhcpMessageType, DhcpPacket, DhcpRepr};
use std::net::{Ipv4Addr, Ipv6Addr};

/// Records of one section of a message that are read; messages with more are not described.
const RECORDS: u16 = 16;

/// One phrase about a datagram between these ports; `None` if it is of another service, or malformed.
pub(super) fn describe(ports: [u16; 2], payload: &[u8]) -> Option<String> {
    if ports.contains(&53) {
        dns(payload)
    } else if ports.contains(&67) && ports.contains(&68) {
        dhcp(payload)
    } else {
        None
    }
}

fn dhcp(payload: &[u8]) -> Option<String> {
    let packet = DhcpPacket::new_checked(payload).ok()?;
    let message = DhcpRepr::parse(&packet).ok()?;
    let kind = match message.message_type {
        DhcpMessageType::Discover => "discover",
        DhcpMessageType::Offer => "offer",
        DhcpMessageType::Request => "request",
        DhcpMessageType::Decline => "decline",
        DhcpMessageType::Ack => "ack",
        DhcpMessageType::Nak => "nak",
        DhcpMessageType::Release => "release",
        DhcpMessageType::Inform => "inform",
        DhcpMessageType::Unknown(_) => return None,
    };
    let client = MacAddress(message.client_hardware_address.0);
    let offered = Some(message.your_ip).filter(|address| !address.is_unspecified());
    let address = offered.or(message.requested_ip);
    let address = address.map_or_else(String::new, |address| format!(", {address}"));
    Some(format!("DHCP {kind}, client {client}{address}"))
}

fn dns(payload: &[u8]) -> Option<String> {
    let counts = payload.get(4..12)?.chunks_exact(2);
    // The parser reserves memory for as many records as the header announces.
    if counts
        .map(|two| u16::from_be_bytes([two[0], two[1]]))
        .any(|count| count > RECORDS)
    {
        return None;
    }
    let message = Packet::parse(payload).ok()?;
    let question = message.questions.first()?;
    let kind = match question.qtype {
        QTYPE::TYPE(kind) => format!("{kind:?}"),
        other => format!("{other:?}"),
    };
    let name = question.qname.to_string();
    let name = name.escape_debug();
    if !message.has_flags(PacketFlag::RESPONSE) {
        return Some(format!("DNS question {kind} {name}"));
    }
    let answers = message.answers.iter().map(|record| match &record.rdata {
        RData::A(a) => Ipv4Addr::from(a.address).to_string(),
        RData::AAAA(a) => Ipv6Addr::from(a.address).to_string(),
        RData::PTR(PTR(name)) => name.to_string().escape_debug().to_string(),
        other => format!("{:?}", other.type_code()),
    });
    let answer = match message.rcode() {
        RCODE::NoError if message.answers.is_empty() => "no records".to_owned(),
        RCODE::NoError => answers.collect::<Vec<_>>().join(", "),
        RCODE::NameError => "the name does not exist".to_owned(),
        RCODE::Refused => "refused".to_owned(),
        other => format!("{other:?}"),
    };
    Some(format!("DNS answer {kind} {name}: {answer}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUESTION: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01b\x03lan\0\0\x01\0\x01";

    #[test]
    fn questions_and_answers_are_described_with_their_names() {
        let shown = |payload: &[u8]| describe([4000, 53], payload);
        assert_eq!(shown(QUESTION).as_deref(), Some("DNS question A b.lan"));
        let mut answer = QUESTION.to_vec();
        (answer[2], answer[3]) = (0x84, 3);
        let expected = "DNS answer A b.lan: the name does not exist";
        assert_eq!(shown(&answer).as_deref(), Some(expected));
        (answer[3], answer[7]) = (0, 1);
        answer.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\0\0\x04\x0a\0\0\x02");
        assert_eq!(
            shown(&answer).as_deref(),
            Some("DNS answer A b.lan: 10.0.0.2")
        );
        answer[7] = 0xff;
        assert_eq!(shown(&answer), None);
        let mut hostile = QUESTION.to_vec();
        hostile[13] = b'\n';
        assert_eq!(shown(&hostile).as_deref(), Some("DNS question A \\n.lan"));
        assert_eq!(describe([4000, 54], QUESTION), None);
    }

    #[test]
    fn dhcp_is_described_with_the_client_and_the_address() {
        let mut message = vec![1, 1, 6, 0, 1, 2, 3, 4];
        message.resize(28, 0);
        message.extend([0x52, 0, 0, 0, 0, 2]);
        message.resize(236, 0);
        message.extend(b"\x63\x82\x53\x63\x35\x01\x03\x32\x04\x0a\0\0\x02\xff");
        assert_eq!(
            describe([68, 67], &message).as_deref(),
            Some("DHCP request, client 52:00:00:00:00:02, 10.0.0.2")
        );
    }
}
