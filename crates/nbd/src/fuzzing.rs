//! Functions for a fuzzer. They take hostile bytes and panic if an invariant does not hold.

use crate::{
    ClientMessage, Connection, ExportInfo, ExportQuery, MAX_REQUEST, Output, QueryError,
    RequestKind, SECTOR,
};

const SIZE: u64 = 1 << 20;

/// A client's bytes mean the same however they are cut; what comes out of them can be carried out; all that is sent is
/// well-formed. The first byte decides how they are cut, and whether the disk is read-only.
pub fn connection(bytes: &[u8]) {
    let (first, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let size = usize::from(first >> 1) + 1;
    let is_read_only = first & 1 != 0;
    let whole = run(is_read_only, [bytes]);
    assert_eq!(whole, run(is_read_only, bytes.chunks(size)));
}

/// A server's bytes mean the same however they are cut, and a query ends after a few of them. The first byte decides
/// how they are cut.
pub fn export_query(bytes: &[u8]) {
    let (first, bytes) = bytes.split_first().unwrap_or((&0, &[]));
    let size = usize::from(*first) + 1;
    assert_eq!(ask([bytes]), ask(bytes.chunks(size)));
}

/// The outcome of a query, and what is sent.
fn ask<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Result<Option<ExportInfo>, QueryError>, Vec<u8>) {
    let (mut query, mut sent) = (ExportQuery::default(), Vec::new());
    for piece in pieces {
        match query.receive(piece, &mut sent) {
            Ok(None) => {}
            done => return (done, sent),
        }
    }
    (Ok(None), sent)
}

/// The messages as text, what is sent, and whether the connection is closed.
fn run<'a>(
    is_read_only: bool,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<String>, Vec<u8>, bool) {
    let export = ExportInfo {
        name: "disk".into(),
        size: SIZE,
        is_read_only,
    };
    let mut output = Output::default();
    let mut connection = Connection::new(export, &mut output);
    let mut messages = Vec::new();
    for mut piece in pieces {
        loop {
            match connection.next(&mut output) {
                Ok(Some(incoming)) => {
                    messages.push(format!("{incoming:?}"));
                    if let ClientMessage::Request(request) = incoming {
                        check(&request, connection.data(), is_read_only);
                        if request.kind == RequestKind::Write {
                            messages.push(format!("{:?}", connection.data()));
                        }
                        answer(&request, &mut output);
                    }
                    continue;
                }
                Ok(None) => {}
                Err(violation) => {
                    messages.push(violation.to_string());
                    return (messages, output.bytes().to_vec(), true);
                }
            }
            if piece.is_empty() {
                break;
            }
            let mut count = 0;
            for space in connection.space() {
                let part = space.len().min(piece.len());
                space[..part].copy_from_slice(&piece[..part]);
                piece = &piece[part..];
                count += part;
            }
            assert!(count > 0, "there is always space");
            connection.received(count);
        }
    }
    (messages, output.bytes().to_vec(), false)
}

/// What the export may rely on.
fn check(request: &crate::Request, data: &[u8], is_read_only: bool) {
    let (offset, length) = (request.offset, u64::from(request.length));
    let sector = u64::from(SECTOR);
    assert!(offset.is_multiple_of(sector) && length.is_multiple_of(sector));
    assert!(offset + length <= SIZE, "{request:?}");
    assert_eq!(length == 0, request.kind == RequestKind::Flush);
    match request.kind {
        RequestKind::Write => assert_eq!(data.len() as u64, length),
        RequestKind::Read => assert!(request.length <= MAX_REQUEST),
        RequestKind::Flush | RequestKind::Trim | RequestKind::WriteZeroes => {}
    }
    let writes = !matches!(request.kind, RequestKind::Read | RequestKind::Flush);
    assert!(!(writes && is_read_only), "{request:?}");
}

fn answer(request: &crate::Request, output: &mut Output) {
    let before = output.bytes().len();
    if request.kind == RequestKind::Read {
        output.read(request, |buffer| {
            assert_eq!(buffer.len(), request.length as usize);
            buffer.fill(1);
            Ok(())
        });
        let header = output.bytes().len() - before - request.length as usize;
        assert!(header == 16 || header == 28);
        // So that a fuzzer does not run out of memory.
        output.clear();
    } else {
        output.success(request);
        assert_eq!(output.bytes().len() - before, 16);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_testkit::replay;

    fn option(option: u32, data: &[u8]) -> Vec<u8> {
        let length = u32::try_from(data.len()).unwrap();
        let mut bytes = b"IHAVEOPT".to_vec();
        bytes.extend_from_slice(&option.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    fn request(flags: u8, command: u8, offset: u32, length: u32) -> Vec<u8> {
        let mut bytes = b"\x25\x60\x95\x13".to_vec();
        bytes.extend_from_slice(&[
            0, flags, 0, command, 0, 0, 0, 0, 0, 0, 0, command, 0, 0, 0, 0,
        ]);
        bytes.extend_from_slice(&offset.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes
    }

    #[test]
    fn hostile_servers() {
        let greeting = b"\x07NBDMAGICIHAVEOPT\0\x03";
        let reply = |kind: &[u8; 4], data: &[u8]| {
            let length = u32::try_from(data.len()).unwrap().to_be_bytes();
            let header = b"\0\x03\xe8\x89\x04\x55\x65\xa9\0\0\0\x06";
            [header, &kind[..], &length, data].concat()
        };
        let size = reply(b"\0\0\0\x03", b"\0\0\0\0\0\0\0\x10\0\0\x01\xef");
        let ack = reply(b"\0\0\0\x01", b"");
        let seeds = [
            [&greeting[..], &size, &ack].concat(),
            [
                &greeting[..],
                &reply(b"\0\0\0\x03", b"\0\x01disk"),
                &size.repeat(70),
            ]
            .concat(),
            [&greeting[..], &reply(b"\x80\0\0\x06", b"no export")].concat(),
        ];
        replay(&seeds, 3000, export_query);
    }

    #[test]
    fn hostile_clients() {
        let start = b"\x0a\0\0\0\x03".to_vec();
        let go = option(7, b"\0\0\0\x04disk\0\x02\0\x01\0\x03");
        let export_name = option(1, b"");
        let requests = [
            request(1, 1, 512, 1024),
            vec![7; 1024],
            request(0, 0, 512, 1024),
            request(0, 3, 0, 0),
            request(0, 4, 0, 4096),
            request(0x13, 6, 4096, 8192),
            request(0, 1, 1 << 20, 512),
            vec![8; 512],
            request(0, 2, 0, 0),
        ]
        .concat();
        let seeds = [
            [&start[..], &option(8, b""), &option(3, b""), &go, &requests].concat(),
            [&start[..], &export_name, &requests].concat(),
            [
                &start[..],
                &option(10, &[0; 12]),
                &option(99, &[0; 5000]),
                &option(2, b""),
            ]
            .concat(),
            [&b"\x0b\0\0\0\0"[..], &export_name, &requests].concat(),
        ];
        replay(&seeds, 3000, connection);
    }
}
