//! The functions that a fuzzer calls with hostile bytes. Each panics where a promise does not hold.

use crate::boot::BootPlan;
use crate::codec;
use crate::frame::{Assembler, FrameDecoder, FrameError, Item};
use crate::message::{Event, GuestRequest, Hello, HostHello, HostReply, Reply};
use crate::op::{AgentOp, Op};
use crate::tree::{TreeDecoder, TreeError};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Errors after which a stream is not read any further: each one costs a byte at least.
const MAX_ERRORS: usize = 64;

/// A stream means the same however it is cut, and its frames have the bytes that they came from.
pub fn frames(bytes: &[u8]) {
    for decoder in [FrameDecoder::new, FrameDecoder::in_step] {
        let whole = items(decoder(), [bytes]);
        let size = usize::from(bytes.first().copied().unwrap_or(0) % 40) + 1;
        assert_eq!(whole, items(decoder(), bytes.chunks(size)));
        let mut assembler = Assembler::default();
        for frame in whole.iter().filter_map(|item| match item {
            Ok(Item::Frame(frame)) => Some(frame),
            _ => None,
        }) {
            let mut again = FrameDecoder::in_step();
            again.push(&frame.to_bytes());
            assert_eq!(again.next_item(), Ok(Some(Item::Frame(frame.clone()))));
            // A message that grew too long is the end of its call; nothing is asked of it here.
            let _ = assembler.push(frame);
        }
    }
}

fn items<'a>(
    mut decoder: FrameDecoder,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Vec<Result<Item, FrameError>> {
    let mut items = Vec::new();
    let mut errors = 0;
    for piece in pieces {
        decoder.push(piece);
        while errors < MAX_ERRORS {
            match decoder.next_item() {
                Ok(None) => break,
                Ok(Some(item)) => items.push(Ok(item)),
                Err(error) => {
                    errors += 1;
                    items.push(Err(error));
                }
            }
        }
    }
    items
}

/// What is a message stays the same message when it is written and read again.
pub fn messages(bytes: &[u8]) {
    same_again::<Op>(bytes);
    same_again::<AgentOp>(bytes);
    same_again::<Reply>(bytes);
    same_again::<Event>(bytes);
    same_again::<GuestRequest>(bytes);
    same_again::<HostReply>(bytes);
    same_again::<Hello>(bytes);
    same_again::<HostHello>(bytes);
    same_again::<BootPlan>(bytes);
}

/// A tree means the same however its stream is cut, and its records have the bytes that they came from.
pub fn tree(bytes: &[u8]) {
    let whole = records([bytes]);
    let size = usize::from(bytes.first().copied().unwrap_or(0) % 40) + 1;
    assert_eq!(whole, records(bytes.chunks(size)));
    assert!(bytes.starts_with(&whole.0));
}

/// The records of a tree, encoded again, and what is wrong with it.
fn records<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Option<TreeError>) {
    let mut decoder = TreeDecoder::new();
    let mut written = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_record() {
                Ok(None) => break,
                Ok(Some(record)) => record.encode(&mut written),
                Err(error) => return (written, Some(error)),
            }
        }
    }
    (written, None)
}

fn same_again<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let Ok(message) = codec::decode::<T>(bytes) else {
        return;
    };
    let written = codec::encode(&message);
    let Ok(again) = codec::decode::<T>(&written) else {
        panic!("what was read cannot be read again: {written:x?}");
    };
    assert_eq!(codec::encode(&again), written);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{CallId, Frame, FrameKind, Lane, SYNC, StreamId};
    use crate::op::SignalTarget;
    use crate::tree::{FileTime, Metadata, TreeRecord};
    use provium_testkit::replay;

    fn ops() -> Vec<Op> {
        let retire = Op::RetireWorker { lane: Lane(17) };
        let signal = Op::Signal {
            call: CallId(9),
            signal: 15,
            target: SignalTarget::Group,
        };
        let batch = Op::Batch {
            ops: vec![signal.clone(), Op::Join],
        };
        vec![Op::ClockGet, Op::Join, retire, signal, batch]
    }

    #[test]
    fn hostile_streams() {
        let mut stream = SYNC.to_vec();
        for (number, op) in (1..).zip(ops()) {
            let call = CallId(number);
            Frame::new(FrameKind::Request, Lane(1), call, codec::encode(&op)).encode(&mut stream);
            Frame::data(Lane(2), call, StreamId::Input, b"abc".to_vec()).encode(&mut stream);
            Frame::credit(Lane(2), call, StreamId::Output, 4096).encode(&mut stream);
        }
        let in_step = stream[SYNC.len()..].to_vec();
        replay(&[stream, in_step], 3000, frames);
    }

    #[test]
    fn hostile_trees() {
        let mtime = FileTime {
            seconds: 1,
            nanoseconds: 2,
        };
        let metadata = Metadata { perm: 0o644, mtime };
        let records = [
            TreeRecord::Enter(c"d"),
            TreeRecord::File {
                name: c"f",
                metadata,
                size: 3,
            },
            TreeRecord::Data {
                offset: 0,
                bytes: b"abc",
            },
            TreeRecord::Leave(metadata),
            TreeRecord::Symlink {
                name: c"l",
                target: c"d/f",
                mtime,
            },
            TreeRecord::End(metadata),
        ];
        let mut bytes = Vec::new();
        for record in records {
            record.encode(&mut bytes);
        }
        replay(&[bytes], 3000, tree);
    }

    #[test]
    fn hostile_messages() {
        let mut seeds: Vec<Vec<u8>> = ops().iter().map(codec::encode).collect();
        seeds.push(codec::encode(&AgentOp::Stats));
        seeds.push(codec::encode(&Reply::Count(7)));
        seeds.push(codec::encode(&BootPlan::default()));
        replay(&seeds, 5000, messages);
    }
}
