//! Whole sessions: golden bytes of the handshake, and the same result for any cut of a client's bytes.

use proptest::prelude::*;
use provium_nbd::{
    ClientMessage, Connection, ErrorValue, ExportInfo, MAX_OPTION, MAX_REQUEST, Output,
    RequestKind, Violation,
};

const SIZE: u64 = 0x10_0000;

fn export() -> ExportInfo {
    ExportInfo {
        name: "disk".into(),
        size: SIZE,
        is_read_only: false,
    }
}

/// A server that answers reads with the number of the request, and the rest with success.
struct Server {
    connection: Connection,
    output: Output,
    /// What it has understood.
    log: Vec<String>,
    violation: Option<Violation>,
}

impl Server {
    fn new(export: ExportInfo) -> Self {
        let mut output = Output::default();
        Self {
            connection: Connection::new(export, &mut output),
            output,
            log: Vec::new(),
            violation: None,
        }
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        loop {
            while let Some(incoming) = self.next() {
                self.log.push(format!("{incoming:?}"));
                let ClientMessage::Request(request) = incoming else {
                    continue;
                };
                let count = self.log.len() as u8;
                match request.kind {
                    RequestKind::Read => self.output.read(&request, |buffer| {
                        buffer.fill(count);
                        Ok(())
                    }),
                    RequestKind::Write => {
                        self.log.push(format!("{:?}", self.connection.data()));
                        self.output.success(&request);
                    }
                    RequestKind::Trim => self.output.error(&request, ErrorValue::Io),
                    RequestKind::Flush | RequestKind::WriteZeroes => self.output.success(&request),
                }
            }
            if bytes.is_empty() {
                return;
            }
            let mut count = 0;
            for space in self.connection.space() {
                let part = space.len().min(bytes.len());
                space[..part].copy_from_slice(&bytes[..part]);
                bytes = &bytes[part..];
                count += part;
            }
            self.connection.received(count);
        }
    }

    fn next(&mut self) -> Option<ClientMessage> {
        match self.connection.next(&mut self.output) {
            Ok(incoming) => incoming,
            Err(violation) => {
                self.violation = Some(violation);
                None
            }
        }
    }

    /// What it has sent since the last time.
    fn sent(&mut self) -> Vec<u8> {
        let sent = self.output.bytes().to_vec();
        self.output.clear();
        sent
    }

    /// The answer to these bytes.
    fn answer(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.feed(bytes);
        self.sent()
    }
}

const GREETING: &[u8] = b"NBDMAGICIHAVEOPT\0\x03";
const REPLY: &[u8] = b"\0\x03\xe8\x89\x04\x55\x65\xa9";
/// HAS_FLAGS, FLUSH, FUA, TRIM, WRITE_ZEROES, CAN_MULTI_CONN, FAST_ZERO.
const FLAGS: &[u8] = b"\x09\x6d";
/// DF in addition.
const STRUCTURED_FLAGS: &[u8] = b"\x09\xed";

fn option(option: u32, data: &[u8]) -> Vec<u8> {
    let length = data.len() as u32;
    [
        b"IHAVEOPT",
        &option.to_be_bytes()[..],
        &length.to_be_bytes(),
        data,
    ]
    .concat()
}

fn request(flags: u16, command: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    [
        &b"\x25\x60\x95\x13"[..],
        &flags.to_be_bytes(),
        &command.to_be_bytes(),
        &cookie.to_be_bytes(),
        &offset.to_be_bytes(),
        &length.to_be_bytes(),
    ]
    .concat()
}

/// A server that has been greeted with these client flags.
fn greeted(flags: u8) -> Server {
    let mut server = Server::new(export());
    assert_eq!(server.answer(&[0, 0, 0, flags]), GREETING);
    server
}

/// A server in transmission, with simple replies.
fn transmitting() -> Server {
    let mut server = greeted(3);
    server.answer(&option(1, b"disk"));
    server
}

#[test]
fn export_name() {
    let mut server = greeted(3);
    let answer = server.answer(&option(1, b"disk"));
    assert_eq!(answer, [b"\0\0\0\0\0\x10\0\0", FLAGS].concat());
    // An old client: neither fixed newstyle nor NO_ZEROES, and no name.
    let mut server = greeted(0);
    let answer = server.answer(&option(1, b""));
    assert_eq!(answer, [b"\0\0\0\0\0\x10\0\0", FLAGS, &[0; 124]].concat());
    let mut server = Server::new(ExportInfo {
        is_read_only: true,
        ..export()
    });
    let answer = server.answer(&[b"\0\0\0\x03", &option(1, b"")[..]].concat());
    assert_eq!(answer[GREETING.len()..], *b"\0\0\0\0\0\x10\0\0\x09\x6f");
    let mut server = greeted(3);
    assert_eq!(server.answer(&option(1, b"other")), b"");
    assert_eq!(server.violation, Some(Violation::UnknownExport));
}

#[test]
fn go_with_structured_replies() {
    let mut server = greeted(3);
    let ack = server.answer(&option(8, b""));
    assert_eq!(ack, [REPLY, b"\0\0\0\x08\0\0\0\x01\0\0\0\0"].concat());
    for number in [6, 7] {
        let head = |kind: &[u8], length: u8| {
            [REPLY, &[0, 0, 0, number], kind, &[0, 0, 0, length]].concat()
        };
        let info = |length| head(b"\0\0\0\x03", length);
        let wanted = [
            &info(12)[..],
            b"\0\0\0\0\0\0\0\x10\0\0",
            STRUCTURED_FLAGS,
            &info(14)[..],
            b"\0\x03\0\0\x02\0\0\0\x10\0\x02\0\0\0",
            &info(6),
            b"\0\x01disk",
            &head(b"\0\0\0\x01", 0),
        ]
        .concat();
        let answer = server.answer(&option(number.into(), b"\0\0\0\x04disk\0\x02\0\x01\0\x03"));
        assert_eq!(answer, wanted, "option {number}");
    }
    let answer = server.answer(&request(0, 0, 9, 512, 512));
    let head = b"\x66\x8e\x33\xef\0\x01\0\x01\0\0\0\0\0\0\0\x09\0\0\x02\x08\0\0\0\0\0\0\x02\0";
    assert_eq!(answer, [&head[..], &[1; 512]].concat());
    let answer = server.answer(&request(0, 4, 9, 512, 512));
    let error = b"\x66\x8e\x33\xef\0\x01\x80\x02\0\0\0\0\0\0\0\x09\0\0\0\x0e\0\0\0\x05\0\0\0\0\0\0\0\0\x02\0";
    assert_eq!(answer, error);
}

#[test]
fn other_options() {
    let mut server = greeted(3);
    let reply = |option: u8, kind: &[u8; 4]| [REPLY, &[0, 0, 0, option], kind, &[0; 4]].concat();
    let list = [
        REPLY,
        b"\0\0\0\x03\0\0\0\x02\0\0\0\x08\0\0\0\x04disk",
        &reply(3, b"\0\0\0\x01"),
    ]
    .concat();
    assert_eq!(server.answer(&option(3, b"")), list);
    let invalid = b"\x80\0\0\x03";
    assert_eq!(server.answer(&option(3, b"x")), reply(3, invalid));
    assert_eq!(server.answer(&option(8, b"x")), reply(8, invalid));
    for wrong in [
        &b""[..],
        b"\0\0\0\x09disk\0\0",
        b"\0\0\0\x04disk\0",
        b"\0\0\0\x04disk\0\x01",
        b"\0\0\0\x04disk\0\0x",
        b"\xff\xff\xff\xffdisk\0\0",
    ] {
        assert_eq!(
            server.answer(&option(7, wrong)),
            reply(7, invalid),
            "{wrong:?}"
        );
    }
    let unknown = server.answer(&option(7, b"\0\0\0\x05other\0\0"));
    assert_eq!(unknown, reply(7, b"\x80\0\0\x06"));
    // STARTTLS, SET_META_CONTEXT, and one that does not exist.
    for number in [5, 10, 200] {
        let answer = server.answer(&option(number.into(), b"abc"));
        assert_eq!(answer, reply(number, b"\x80\0\0\x01"));
    }
    let long = vec![0; MAX_OPTION as usize + 1];
    assert_eq!(server.answer(&option(7, &long)), reply(7, b"\x80\0\0\x09"));
    assert_eq!(server.answer(&option(2, b"")), reply(2, b"\0\0\0\x01"));
    assert_eq!(server.log, ["Disconnect"]);
    assert_eq!(
        server.answer(&option(3, b"")),
        b"",
        "nothing is said after that"
    );
}

#[test]
fn hostile_handshakes_end() {
    for (flags, bytes, violation) in [
        (4, vec![], Violation::ClientFlags(4)),
        (2, option(3, b""), Violation::NotFixedNewstyle(3)),
        (3, vec![0; 16], Violation::OptionMagic(0)),
        (3, option(1, &[b'x'; 5000]), Violation::UnknownExport),
    ] {
        let mut server = Server::new(export());
        server.feed(&[0, 0, 0, flags]);
        server.feed(&bytes);
        assert_eq!(server.violation, Some(violation));
    }
    // An option without a meaning, with a length that no memory is taken for.
    let mut server = greeted(3);
    let endless = [&option(99, b"")[..12], b"\xff\xff\xff\xff"].concat();
    assert_eq!(server.answer(&[endless, vec![0; 1 << 20]].concat()), b"");
    assert_eq!(server.violation, None);
}

#[test]
fn a_refused_write_is_answered_after_its_data() {
    let mut server = transmitting();
    server.feed(&request(0, 1, 5, SIZE, 1024));
    server.feed(&[1; 1000]);
    assert_eq!(server.sent(), b"");
    server.feed(&[1; 24]);
    assert_eq!(
        server.sent(),
        b"\x67\x44\x66\x98\0\0\0\x1c\0\0\0\0\0\0\0\x05"
    );
    let answer = server.answer(&request(0, 3, 6, 0, 0));
    assert_eq!(answer, b"\x67\x44\x66\x98\0\0\0\0\0\0\0\0\0\0\0\x06");
    assert_eq!(server.log.len(), 1, "the disk sees only the flush");
}

#[test]
fn hostile_requests_end() {
    let mut server = transmitting();
    server.feed(&request(0, 1, 5, 0, MAX_REQUEST + 512));
    assert_eq!(
        server.violation,
        Some(Violation::TooMuchData(MAX_REQUEST + 512))
    );
    let mut server = transmitting();
    server.feed(&[0x25; 28]);
    assert_eq!(server.violation, Some(Violation::RequestMagic(0x2525_2525)));
    let mut server = transmitting();
    server.feed(&request(0, 2, 0, 0, 0));
    server.feed(&request(0, 0, 1, 0, 512));
    assert_eq!(
        (server.sent(), server.log.len()),
        (vec![], 1),
        "nothing follows DISC"
    );
}

#[test]
fn data_goes_straight_into_its_buffer() {
    let mut server = transmitting();
    server.feed(&request(0, 1, 5, 0, 1 << 20));
    let [data, staging] = server.connection.space();
    assert_eq!(data.len(), 1 << 20);
    assert!(!staging.is_empty());
    data.fill(3);
    // The header of the next request comes with it.
    staging[..28].copy_from_slice(&request(0, 3, 6, 0, 0));
    server.connection.received((1 << 20) + 28);
    let Some(ClientMessage::Request(write)) = server.next() else {
        panic!("the write is there");
    };
    assert_eq!((write.kind, write.length), (RequestKind::Write, 1 << 20));
    assert_eq!(server.connection.take_data(), vec![3; 1 << 20]);
    let Some(ClientMessage::Request(flush)) = server.next() else {
        panic!("the flush is there");
    };
    assert_eq!(flush.kind, RequestKind::Flush);
    server.feed(&request(0, 1, 7, 0, 512));
    server.feed(&[4; 512]);
    assert_eq!(server.connection.data(), [4; 512]);
}

/// Part of a client's side of a session.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let flags = prop_oneof![8 => Just(0u16), 1 => Just(1u16), 1 => any::<u16>()];
    let offset = prop_oneof![8 => (0u64..2048).prop_map(|n| n * 512), 1 => any::<u64>()];
    let length = prop_oneof![8 => (0u32..80).prop_map(|n| n * 512), 1 => 0u32..3000];
    let requests = (flags, 0u16..8, any::<u64>(), offset, length).prop_map(
        |(flags, command, cookie, offset, length)| {
            let mut bytes = request(flags, command, cookie, offset, length);
            // DISC would end the session early.
            if command == 2 {
                bytes[7] = 3;
            }
            if command == 1 {
                bytes.resize(28 + length as usize, cookie as u8);
            }
            bytes
        },
    );
    prop_oneof![20 => requests, 1 => proptest::collection::vec(any::<u8>(), 0..40)]
}

fn session() -> impl Strategy<Value = Vec<u8>> {
    let options = (0u32..12, proptest::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(number, data)| option(number.max(3) & !7 | number & 3, &data));
    let begin = prop_oneof![
        Just(option(1, b"")),
        Just(option(7, b"\0\0\0\0\0\0")),
        Just([option(8, b""), option(7, b"\0\0\0\x04disk\0\0")].concat()),
    ];
    (
        proptest::collection::vec(options, 0..3),
        begin,
        proptest::collection::vec(message(), 0..30),
    )
        .prop_map(|(options, begin, messages)| {
            [
                &b"\0\0\0\x03"[..],
                &options.concat(),
                &begin,
                &messages.concat(),
            ]
            .concat()
        })
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_result(
        bytes in session(),
        cuts in proptest::collection::vec(1usize..5000, 1..40),
    ) {
        let mut whole = Server::new(export());
        whole.feed(&bytes);
        let mut cut = Server::new(export());
        let mut rest = &bytes[..];
        for size in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            cut.feed(piece);
            rest = after;
        }
        prop_assert_eq!(&whole.log, &cut.log);
        prop_assert_eq!(whole.violation, cut.violation);
        prop_assert_eq!(whole.sent(), cut.sent());
    }
}
