//! The decoder takes bytes from anywhere: however they are cut, and whatever they are.

use proptest::prelude::*;
use provium_events::{DecodeError, Decoder, Event, Sink, TimedEvent, Value, encode};

fn an_event() -> TimedEvent {
    let meta = Value::Map(vec![(
        "tags".into(),
        Value::List(vec!["a".into(), Value::Int(1)]),
    )]);
    let event = Event::TestStarted {
        path: "a.test.lua".into(),
        name: "works".into(),
        meta,
    };
    TimedEvent { ts: -5, event }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        any::<f64>()
            .prop_filter("equal to itself", |n| !n.is_nan())
            .prop_map(Value::Float),
        any::<String>().prop_map(Value::Text),
        any::<Vec<u8>>().prop_map(Value::Bytes),
    ];
    leaf.prop_recursive(4, 32, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::List),
            prop::collection::vec((any::<String>().prop_map(Value::Text), inner), 0..8)
                .prop_map(Value::Map),
        ]
    })
}

proptest! {
    #[test]
    fn garbage_neither_panics_nor_goes_on(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        while let Ok(Some(_)) = decoder.next_event() {}
    }

    #[test]
    fn a_damaged_event_neither_panics_nor_goes_on(at in 4_usize..80, with in any::<u8>()) {
        let mut bytes = encode(&an_event()).unwrap();
        let at = at % bytes.len();
        bytes[at] = with;
        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        if decoder.next_event().is_err() {
            decoder.feed(&encode(&an_event()).unwrap());
            prop_assert!(decoder.next_event().unwrap().is_none());
        }
    }

    #[test]
    fn any_cut_gives_the_same_events(cuts in prop::collection::vec(1_usize..40, 1..20)) {
        let bytes = encode(&an_event()).unwrap().repeat(3);
        let mut decoder = Decoder::new();
        let mut got = Vec::new();
        let mut rest = bytes.as_slice();
        for cut in cuts.iter().cycle() {
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            decoder.feed(piece);
            while let Some(event) = decoder.next_event().unwrap() {
                got.push(event);
            }
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, vec![an_event(), an_event(), an_event()]);
        prop_assert!(decoder.is_between_frames());
    }

    #[test]
    fn any_meta_survives(meta in any_value()) {
        let event = Event::TestStarted { path: String::new(), name: String::new(), meta };
        let stamped = TimedEvent { ts: 0, event };
        let mut decoder = Decoder::new();
        decoder.feed(&encode(&stamped).unwrap());
        prop_assert_eq!(decoder.next_event().unwrap(), Some(stamped));
    }
}

#[test]
fn a_huge_length_is_refused_before_anything_is_kept_for_it() {
    let mut decoder = Decoder::new();
    decoder.feed(&u32::MAX.to_be_bytes());
    assert!(matches!(
        decoder.next_event(),
        Err(DecodeError::TooLong { .. })
    ));
    assert!(decoder.next_event().unwrap().is_none());
}

#[test]
fn deep_nesting_is_refused() {
    let mut body = vec![0x83, 0xa2, b't', b's', 0x00, 0xa4];
    body.extend_from_slice(b"kind\xacfile_blocked\xa7payload");
    body.extend(std::iter::repeat_n(0x91, 100_000));
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(body);
    let mut decoder = Decoder::new();
    decoder.feed(&bytes);
    assert!(matches!(
        decoder.next_event(),
        Err(DecodeError::NotAnEvent(_))
    ));
}

#[test]
fn bytes_behind_an_event_are_refused() {
    let mut bytes = encode(&an_event()).unwrap();
    bytes.push(0xc0);
    let length = u32::try_from(bytes.len() - 4).unwrap();
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    let mut decoder = Decoder::new();
    decoder.feed(&bytes);
    assert!(matches!(
        decoder.next_event(),
        Err(DecodeError::Trailing { count: 1 })
    ));
}

#[test]
fn a_sink_keeps_the_order_and_its_times_never_go_back() {
    let (sink, receiver) = Sink::channel();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let sink = sink.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    sink.emit(an_event().event);
                }
            })
        })
        .collect();
    drop(sink);
    for thread in threads {
        thread.join().unwrap();
    }
    let times: Vec<i64> = receiver.iter().map(|stamped| stamped.ts).collect();
    assert_eq!(times.len(), 200);
    assert!(times.is_sorted());
}
