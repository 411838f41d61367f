//! How much a message from the guest would become in memory, told before it is decoded.
//!
//! A byte of msgpack can stand for a value of a hundred bytes, and values can nest without end. The
//! walk here counts values and depth and builds nothing. Format: the MessagePack specification,
//! section "Formats".

/// Deepest nesting of a message of the protocol; a batch in a batch has less than half.
const MAX_DEPTH: usize = 32;

/// Whether `bytes` begin with one well-formed value of at most `max_values` values in all (arrays,
/// maps and what is in them), not nested too deep.
pub(crate) fn fits(bytes: &[u8], max_values: usize) -> bool {
    walk(bytes, max_values).is_some()
}

fn walk(bytes: &[u8], mut budget: usize) -> Option<()> {
    // How many values each open array or map still has to come.
    let mut open: Vec<u64> = vec![1];
    let mut rest = bytes;
    while let Some(remaining) = open.last_mut() {
        if *remaining == 0 {
            open.pop();
            continue;
        }
        *remaining -= 1;
        budget = budget.checked_sub(1)?;
        let (&marker, tail) = rest.split_first()?;
        rest = tail;
        let mut number = |width: usize| -> Option<u64> {
            let (digits, tail) = rest.split_at_checked(width)?;
            rest = tail;
            Some(
                digits
                    .iter()
                    .fold(0, |sum, digit| sum << 8 | u64::from(*digit)),
            )
        };
        let (skipped, children) = match marker {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(marker & 0x0f)),
            0x90..=0x9f => (0, u64::from(marker & 0x0f)),
            0xa0..=0xbf => (u64::from(marker & 0x1f), 0),
            0xc1 => return None,
            0xc4 | 0xd9 => (number(1)?, 0),
            0xc5 | 0xda => (number(2)?, 0),
            0xc6 | 0xdb => (number(4)?, 0),
            0xc7 => (number(1)? + 1, 0),
            0xc8 => (number(2)? + 1, 0),
            0xc9 => (number(4)? + 1, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xd4..=0xd8 => ((1 << (marker - 0xd4)) + 1, 0),
            0xdc => (0, number(2)?),
            0xdd => (0, number(4)?),
            0xde => (0, 2 * number(2)?),
            0xdf => (0, 2 * number(4)?),
        };
        rest = rest.get(usize::try_from(skipped).ok()?..)?;
        if children > 0 {
            if open.len() >= MAX_DEPTH {
                return None;
            }
            open.push(children);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use provium_protocol::message::{Exit, FileStat};
    use provium_protocol::{ErrorKind, Reply, WireError, codec};
    use serde_bytes::ByteBuf;

    #[test]
    fn replies_of_every_sort_fit() {
        let stat = FileStat {
            size: 1 << 40,
            mtime: -1,
            mtime_ns: 999_999_999,
            perm: 0o644,
            entry_type: provium_protocol::message::EntryType::File,
            uid: 70_000,
            gid: 200,
            ino: u64::MAX,
            nlink: 1,
        };
        let exit = Exit {
            code: None,
            signal: Some(9),
            duration_ns: 1 << 33,
        };
        let error = WireError {
            kind: ErrorKind::Os,
            errno: 2,
            message: "open".to_owned(),
        };
        let buffers = vec![None, Some(ByteBuf::from(vec![0; 70_000]))];
        let replies = vec![
            Ok(Reply::Done),
            Ok(Reply::Stat(stat)),
            Ok(Reply::Exited(exit)),
            Ok(Reply::Syscall {
                ret: i64::MIN,
                errno: 0,
                buffers,
            }),
            Err(error),
        ];
        let batch: Result<Reply, WireError> = Ok(Reply::Batch(replies));
        assert!(fits(&codec::encode(&batch), 64));
    }

    #[test]
    fn many_small_values_do_not_fit() {
        let buffers = vec![None; 1000];
        let reply: Result<Reply, WireError> = Ok(Reply::Syscall {
            ret: 0,
            errno: 0,
            buffers,
        });
        let bytes = codec::encode(&reply);
        assert!(fits(&bytes, 1100));
        assert!(!fits(&bytes, 1000));
        assert!(!fits(&[0x91; 100_000], usize::MAX), "nesting");
        assert!(
            !fits(&[0xdd, 0xff, 0xff, 0xff, 0xff], usize::MAX),
            "cut short"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = fits(&bytes, 1000);
        }
    }
}
