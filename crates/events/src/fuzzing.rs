//! Functions for a fuzzer. They take hostile bytes and panic if an invariant does not hold.

use crate::frame::{DecodeError, Decoder, TimedEvent, encode};

/// A stream means the same however it is cut, and an event stays the same event when it is written
/// and read again.
pub fn stream(bytes: &[u8]) {
    let (whole, failed) = events([bytes]);
    let size = usize::from(bytes.first().copied().unwrap_or(0) % 40) + 1;
    let (in_pieces, failed_in_pieces) = events(bytes.chunks(size));
    assert_eq!(shown(&whole), shown(&in_pieces));
    assert_eq!(failed.is_some(), failed_in_pieces.is_some());
    for event in &whole {
        let Ok(written) = encode(event) else {
            panic!("what was read cannot be written: {event:?}");
        };
        let (again, error) = events([written.as_slice()]);
        assert!(error.is_none(), "{error:?}");
        assert_eq!(shown(&again), shown(std::slice::from_ref(event)));
    }
}

/// Numbers that are none are not equal to themselves; their words are.
fn shown(events: &[TimedEvent]) -> String {
    format!("{events:?}")
}

fn events<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<TimedEvent>, Option<DecodeError>) {
    let mut decoder = Decoder::new();
    let mut events = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        loop {
            match decoder.next_event() {
                Ok(None) => break,
                Ok(Some(event)) => events.push(event),
                Err(error) => return (events, Some(error)),
            }
        }
    }
    (events, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Event, Resources, Value};
    use provium_testkit::replay;

    #[test]
    fn hostile_streams() {
        let amount = Resources {
            memory_bytes: 1 << 30,
            cpus: 2,
        };
        let meta = Value::Map(vec![
            ("spec".into(), "1.2".into()),
            ("odd".into(), Value::Float(0.5)),
        ]);
        let events = [
            Event::PoolState {
                used: amount,
                available: amount,
            },
            Event::TestStarted {
                path: "a.test.lua".into(),
                name: "a name".into(),
                meta,
            },
        ];
        let written = |event: &Event| {
            encode(&TimedEvent {
                ts: 1,
                event: event.clone(),
            })
            .unwrap()
        };
        let mut seeds: Vec<Vec<u8>> = events.iter().map(written).collect();
        seeds.push(seeds.concat());
        replay(&seeds, 5000, stream);
    }
}
