//! A DNS server for the names of a table (RFC 1035, 3596, 6891).
//!
//! It answers questions for addresses (`A`, `AAAA`) and names (`PTR`). It says which questions are for names that
//! it does not know, so that the router can pass them on if it has an uplink; otherwise those names do not
//! exist. An answer that does not fit into a datagram is marked as truncated and has no records.

use super::DnsTable;
use simple_dns::rdata::{A, AAAA, OPT, PTR, RData};
use simple_dns::{
    CLASS, Name, OPCODE, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord,
    SimpleDnsError, TYPE,
};
use std::net::IpAddr;

/// The port of servers.
pub(crate) const PORT: u16 = 53;
const HEADER: usize = 12;
/// The code of a refusal.
const REFUSED: u8 = 5;
/// Bytes of an answer that every client accepts.
const LONGEST: usize = 512;
/// Seconds that an answer is remembered by clients: none, since a test may attach and detach VMs at any time.
const TIME_TO_LIVE: u32 = 0;

/// A DNS server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsServer {
    /// What it answers with.
    pub table: DnsTable,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DnsAnswer {
    pub(crate) message: Vec<u8>,
    /// Whether it says that the name does not exist, because it is not in the table.
    pub(crate) is_unknown: bool,
}

impl DnsAnswer {
    /// The same, as a refusal to answer: the client asks its next server, if it has one.
    pub(crate) fn refused(mut self) -> Self {
        if let Some(code) = self.message.get_mut(3) {
            *code = (*code & 0xf0) | REFUSED;
        }
        self
    }
}

impl DnsServer {
    /// Answers a question; `None` if the message is not a question.
    pub(crate) fn answer(&self, message: &[u8]) -> Option<DnsAnswer> {
        let header: &[u8; HEADER] = message.first_chunk()?;
        let [id_high, id_low, flags, _, counts @ ..] = *header;
        if flags & 0x80 != 0 {
            return None;
        }
        let mut reply = Packet::new_reply(u16::from_be_bytes([id_high, id_low]));
        // Other numbers of records are not questions; the parser would reserve memory for them first.
        let is_question = matches!(counts, [0, 1, 0, 0, 0, 0, 0, 0 | 1]);
        let parsed = is_question.then(|| Packet::parse(message));
        match &parsed {
            Some(Ok(request)) => self.fill(&mut reply, request),
            Some(Err(SimpleDnsError::InvalidQType(_))) => {
                *reply.rcode_mut() = RCODE::NotImplemented;
            }
            _ => *reply.rcode_mut() = RCODE::FormatError,
        }
        let is_unknown = reply.rcode() == RCODE::NameError;
        Some(DnsAnswer {
            message: encoded(reply)?,
            is_unknown,
        })
    }

    fn fill<'a>(&'a self, reply: &mut Packet<'a>, request: &Packet<'a>) {
        if request.has_flags(PacketFlag::RECURSION_DESIRED) {
            // Clients send the next question to another server if this one does not promise all answers.
            reply.set_flags(PacketFlag::RECURSION_DESIRED | PacketFlag::RECURSION_AVAILABLE);
        }
        if request.opt().is_some() {
            *reply.opt_mut() = Some(OPT {
                opt_codes: Vec::new(),
                udp_packet_size: LONGEST as u16,
                version: 0,
            });
        }
        let [question] = &request.questions[..] else {
            *reply.rcode_mut() = RCODE::FormatError;
            return;
        };
        reply.questions.push(question.clone());
        if request.opcode() != OPCODE::StandardQuery {
            *reply.rcode_mut() = RCODE::NotImplemented;
        } else if !matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY) {
            *reply.rcode_mut() = RCODE::Refused;
        } else {
            match self.records(question) {
                Some(records) => reply.answers = records,
                None => *reply.rcode_mut() = RCODE::NameError,
            }
            reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER);
        }
    }

    /// The records that answer a question; `None` if the name is not known.
    fn records<'a>(&'a self, question: &Question<'a>) -> Option<Vec<ResourceRecord<'a>>> {
        let name = question.qname.to_string();
        let wants = |kind: TYPE| question.qtype == QTYPE::ANY || question.qtype == kind.into();
        let record =
            |data| ResourceRecord::new(question.qname.clone(), CLASS::IN, TIME_TO_LIVE, data);
        if let Some(station) = self.table.name_of(&name) {
            let pointer = Name::new(station).ok().filter(|_| wants(TYPE::PTR));
            let pointer = pointer.map(|station| record(RData::PTR(PTR(station))));
            return Some(pointer.into_iter().collect());
        }
        let addresses = self.table.addresses(&name)?.iter();
        let records = addresses.filter_map(|address| match address {
            IpAddr::V4(address) if wants(TYPE::A) => Some(RData::A(A::from(*address))),
            IpAddr::V6(address) if wants(TYPE::AAAA) => Some(RData::AAAA(AAAA::from(*address))),
            _ => None,
        });
        Some(records.map(record).collect())
    }
}

fn encoded(mut reply: Packet<'_>) -> Option<Vec<u8>> {
    let bytes = reply.build_bytes_vec_compressed().ok()?;
    if bytes.len() <= LONGEST {
        return Some(bytes);
    }
    reply.answers.clear();
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> DnsServer {
        let mut table = DnsTable::default();
        for address in ["10.0.0.2", "fd00::2"] {
            table.insert(address.parse().expect("an address"), ["b.lan", "b"]);
        }
        table.insert("10.0.0.3".parse().expect("an address"), ["v4.lan"]);
        DnsServer { table }
    }

    fn question(name: &str, kind: TYPE) -> Vec<u8> {
        let mut query = Packet::new_query(0x1234);
        query.set_flags(PacketFlag::RECURSION_DESIRED);
        query.questions.push(Question::new(
            Name::new_unchecked(name),
            kind.into(),
            CLASS::IN.into(),
            false,
        ));
        query.build_bytes_vec().expect("a question")
    }

    /// The code of the answer, and its data.
    fn ask(name: &str, kind: TYPE) -> (RCODE, Vec<String>) {
        let answer = server()
            .answer(&question(name, kind))
            .expect("an answer")
            .message;
        let reply = Packet::parse(&answer).expect("a message");
        assert_eq!(reply.id(), 0x1234);
        assert!(reply.has_flags(PacketFlag::RESPONSE | PacketFlag::AUTHORITATIVE_ANSWER));
        assert_eq!(reply.questions[0].qname.to_string(), name);
        let shown = reply.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => std::net::Ipv4Addr::from(a.address).to_string(),
            RData::AAAA(a) => std::net::Ipv6Addr::from(a.address).to_string(),
            RData::PTR(PTR(name)) => name.to_string(),
            other => format!("{other:?}"),
        });
        (reply.rcode(), shown.collect())
    }

    #[test]
    fn known_names_are_answered_and_others_do_not_exist() {
        let ok = |data: &str| (RCODE::NoError, vec![data.to_owned()]);
        assert_eq!(ask("b.lan", TYPE::A), ok("10.0.0.2"));
        assert_eq!(ask("B", TYPE::AAAA), ok("fd00::2"));
        assert_eq!(ask("2.0.0.10.in-addr.arpa", TYPE::PTR), ok("b.lan"));
        // The name exists, and has no such record.
        assert_eq!(ask("v4.lan", TYPE::AAAA), (RCODE::NoError, vec![]));
        assert_eq!(ask("b.lan", TYPE::MX), (RCODE::NoError, vec![]));
        assert_eq!(ask("example.com", TYPE::A), (RCODE::NameError, vec![]));
    }

    #[test]
    fn what_is_not_a_question_is_not_answered_with_records() {
        let server = server();
        let good = question("b.lan", TYPE::A);
        assert_eq!(server.answer(&good[..11]), None);
        let mut response = good.clone();
        response[2] |= 0x80;
        assert_eq!(server.answer(&response), None);
        let code = |message: &[u8]| {
            let answer = server.answer(message).expect("an answer").message;
            answer[3] & 0xf
        };
        assert_eq!(code(&good[..14]), 1, "cut off");
        let mut many = good.clone();
        many[4..6].copy_from_slice(&[0xff, 0xff]);
        assert_eq!(code(&many), 1);
        let mut status = good.clone();
        status[2] = 0x10;
        assert_eq!(code(&status), 4, "another operation");
        let mut unknown = good.clone();
        let at = unknown.len() - 4;
        unknown[at..at + 2].copy_from_slice(&[0xfe, 0xfe]);
        assert_eq!(code(&unknown), 4, "another type");
        let mut chaos = good;
        let at = chaos.len() - 1;
        chaos[at] = 3;
        assert_eq!(code(&chaos), 5, "another class");
    }

    #[test]
    fn a_question_for_another_name_is_known_as_one() {
        let answer = |name| {
            let answer = server().answer(&question(name, TYPE::A));
            answer.expect("an answer")
        };
        assert!(!answer("b.lan").is_unknown && !answer("v4.lan").is_unknown);
        let other = answer("example.com");
        assert!(other.is_unknown);
        assert_eq!(other.refused().message[3] & 0xf, 5);
    }

    #[test]
    fn an_extended_question_has_an_extended_answer() {
        let mut query = question("b.lan", TYPE::A);
        query[11] = 1;
        query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
        let answer = server().answer(&query).expect("an answer").message;
        let reply = Packet::parse(&answer).expect("a message");
        assert_eq!(reply.opt().expect("extended").udp_packet_size, 512);
        assert_eq!(reply.answers.len(), 1);
    }

    #[test]
    fn an_answer_that_does_not_fit_is_truncated() {
        let mut server = server();
        for n in 0..100 {
            let address = std::net::Ipv4Addr::new(10, 1, 0, n);
            server.table.insert(address.into(), ["many.lan"]);
        }
        let answer = server
            .answer(&question("many.lan", TYPE::A))
            .expect("an answer")
            .message;
        let reply = Packet::parse(&answer).expect("a message");
        assert!(reply.has_flags(PacketFlag::TRUNCATION) && reply.answers.is_empty());
        assert!(answer.len() <= LONGEST);
    }
}
