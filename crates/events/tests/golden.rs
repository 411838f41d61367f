//! Pins the bytes of every event, and that they are read back as they were.

use provium_events::{
    Attachment, BlockReason, BootKind, BuildStatus, ConsoleExcerpt, Decoder, Details, Event,
    FileError, FileStatus, Location, Notice, NoticeSubject, PROTOCOL_VERSION, Resources, Step,
    TimedEvent, Value, encode,
};

fn meta() -> Value {
    Value::Map(vec![
        ("spec".into(), "§4.2".into()),
        (
            "tags".into(),
            Value::List(vec!["net".into(), "slow".into()]),
        ),
        ("depth".into(), Value::Int(-3)),
        ("ratio".into(), Value::Float(0.5)),
        ("raw".into(), Value::Bytes(vec![0xff, 0x00])),
        ("nothing".into(), Value::Nil),
        ("sure".into(), Value::Bool(true)),
    ])
}

fn details() -> Details {
    Details {
        location: Some(Location {
            file: "a.test.lua".into(),
            line: 7,
            column: Some(3),
        }),
        traceback: vec!["a.test.lua:7: in check".into()],
        log: vec!["hello".into()],
        notes: Vec::new(),
        steps: vec![Step {
            name: "write".into(),
            duration_ns: 5,
            passed: true,
        }],
        attempts: 2,
        expected_failure: Some("bug 7".into()),
        files: vec!["out/1-stdout.txt".into()],
    }
}

/// One event of every kind, and a second where a field may be missing.
fn all() -> Vec<Event> {
    let path = || "a.test.lua".to_owned();
    let name = || "works".to_owned();
    let amount = || Resources {
        memory_bytes: 356 << 20,
        cpus: 2,
    };
    vec![
        Event::RunStarted {
            version: "0.1.0".into(),
            protocol_version: 1,
            seed: u64::MAX,
            accel: "tcg".into(),
            host: "Linux 6.1".into(),
        },
        Event::RunCompleted {
            passed: 3,
            failed: 2,
            skipped: 1,
            interrupted: 4,
            not_run: 5,
            flaky: 0,
            duration_ns: 9,
        },
        Event::FileDiscovered {
            path: path(),
            fixture_refs: vec![],
            declared_claim: None,
        },
        Event::FileDiscovered {
            path: path(),
            fixture_refs: vec!["web.fixture.lua".into()],
            declared_claim: Some(amount()),
        },
        Event::FileDispatched {
            path: path(),
            reservation: amount(),
        },
        Event::FileUnblocked {
            path: path(),
            amount: amount(),
            waited_ns: 5_000_000_000,
        },
        Event::FileBlocked {
            path: path(),
            waiting_for: amount(),
            reason: BlockReason::PoolFull,
        },
        Event::FileBlocked {
            path: path(),
            waiting_for: amount(),
            reason: BlockReason::PsiPressure,
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::Passed,
            duration_ns: 1_000_000_000,
            error: None,
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::Failed,
            duration_ns: 1,
            error: Some(FileError {
                message: "no such global".into(),
                location: Some(Location {
                    file: path(),
                    line: 1,
                    column: None,
                }),
                traceback: vec!["a.test.lua:1".into()],
            }),
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::TimedOut,
            duration_ns: 1,
            error: None,
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::Crashed,
            duration_ns: 1,
            error: None,
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::Interrupted,
            duration_ns: 1,
            error: None,
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::NotRun,
            duration_ns: 0,
            error: None,
        },
        Event::TestStarted {
            path: path(),
            name: name(),
            meta: meta(),
        },
        Event::TestPassed {
            path: path(),
            name: name(),
            duration_ns: 1,
            meta: Value::Map(vec![]),
            details: Details::default(),
        },
        Event::TestFailed {
            path: path(),
            name: name(),
            duration_ns: 1,
            meta: Value::Nil,
            reason: "1 ~= 2".into(),
            console_excerpt: Some("login:".into()),
            consoles: vec![ConsoleExcerpt {
                vm: "web".into(),
                text: "login:".into(),
                in_reason: true,
                more_lines: 3,
                file: Some("out/2-console.txt".into()),
            }],
            details: details(),
        },
        Event::TestFailed {
            path: path(),
            name: name(),
            duration_ns: 1,
            meta: Value::Nil,
            reason: "1 ~= 2".into(),
            console_excerpt: None,
            consoles: vec![],
            details: Details::default(),
        },
        Event::TestSkipped {
            path: path(),
            name: name(),
            reason: "todo".into(),
            meta: Value::Nil,
            duration_ns: 0,
            details: Details::default(),
        },
        Event::TestRetried {
            path: path(),
            name: name(),
            attempt: 1,
            reason: "flaked".into(),
            duration_ns: 8,
            location: details().location,
        },
        Event::TestInterrupted {
            path: path(),
            name: name(),
            duration_ns: 1,
            meta: Value::Nil,
            details: Details::default(),
        },
        Event::TestNotRun {
            path: path(),
            name: name(),
            reason: "the file timed out".into(),
        },
        Event::SeedUsed { path: path() },
        Event::TestStep {
            path: path(),
            name: name(),
            step: Step {
                name: "write".into(),
                duration_ns: 5,
                passed: false,
            },
        },
        Event::TestAttachment {
            path: path(),
            name: name(),
            attachment: Attachment {
                name: "trace".into(),
                content: vec![0, 255],
            },
        },
        Event::VmSpawned {
            file: path(),
            vm_name: "web".into(),
            profile: "default".into(),
            memory_bytes: 256 << 20,
            cid: 3,
            boot: BootKind::Cold,
            boot_ns: 1_700_000_000,
        },
        Event::VmShutdown {
            file: path(),
            vm_name: "web".into(),
            duration_ns: 70_000,
        },
        Event::PoolState {
            used: amount(),
            available: Resources::default(),
        },
        Event::ClaimAcquired {
            path: path(),
            amount: amount(),
        },
        Event::ClaimReleased {
            path: path(),
            amount: amount(),
        },
        Event::FixtureBuildStarted {
            path: "web.fixture.lua".into(),
            reason: None,
        },
        Event::FixtureBuildStarted {
            path: "web.fixture.lua".into(),
            reason: Some("`helpers/db.lua` has changed".into()),
        },
        Event::FixtureBuildDone {
            path: "web.fixture.lua".into(),
            duration_ns: 4,
            status: BuildStatus::Built,
            snapshot_bytes: 1 << 40,
        },
        Event::FixtureBuildDone {
            path: "web.fixture.lua".into(),
            duration_ns: 4,
            status: BuildStatus::Failed,
            snapshot_bytes: 0,
        },
        Event::FixtureBuildDone {
            path: "web.fixture.lua".into(),
            duration_ns: 4,
            status: BuildStatus::Interrupted,
            snapshot_bytes: 0,
        },
        Event::FixtureBuildWaiting {
            path: "web.fixture.lua".into(),
            held_by_file: path(),
        },
        Event::FixtureCacheHit {
            path: "web.fixture.lua".into(),
        },
        Event::Notice(Notice::info(NoticeSubject::Image, "packing")),
        Event::Notice(Notice::warning(NoticeSubject::Template, "rebuilt").for_file(path())),
        Event::Notice(Notice::warning(NoticeSubject::Fixture, "rebuilt").for_file(path())),
        Event::Notice(Notice::warning(NoticeSubject::Guest, "its clock").for_file(path())),
    ]
}

/// Bytes as hexadecimal, with what is text in between shown as text.
fn shown(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut in_text = false;
    for byte in bytes {
        let is_text = matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b' ');
        if is_text != in_text {
            out.push('\'');
            in_text = is_text;
        }
        if is_text {
            out.push(char::from(*byte));
        } else {
            out.push_str(&format!("{byte:02x}"));
        }
    }
    out
}

#[test]
fn every_event_has_these_bytes_and_is_read_back() {
    let mut golden = String::new();
    for event in all() {
        let stamped = TimedEvent {
            ts: 1_700_000_000_000_000_000,
            event,
        };
        let bytes = encode(&stamped).unwrap();
        golden.push_str(&shown(&bytes));
        golden.push('\n');

        let mut decoder = Decoder::new();
        decoder.feed(&bytes);
        assert_eq!(decoder.next_event().unwrap(), Some(stamped));
        assert_eq!(decoder.next_event().unwrap(), None);
        assert!(decoder.is_between_frames());
    }
    insta::assert_snapshot!(golden);
}

/// Versions of the shapes above: the number of the version, and the checksum of the bytes.
///
/// A change of the shapes gets a new line and raises `PROTOCOL_VERSION` to its number, unless that is higher than
/// the last number already: readers of saved events tell by the version what they may find.
const VERSIONS: &[(u32, u64)] = &[(6, 0xd500_bcd6_239e_d482)];

#[test]
fn a_change_of_the_shapes_has_a_version_of_its_own() {
    let bytes = all().into_iter().flat_map(|event| {
        let stamped = TimedEvent { ts: 1, event };
        encode(&stamped).unwrap()
    });
    // FNV-1a.
    let checksum = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let (version, pinned) = VERSIONS.last().copied().unwrap();
    assert_eq!(
        checksum, pinned,
        "see VERSIONS; the new checksum is {checksum:#x}"
    );
    assert!(version <= PROTOCOL_VERSION);
    assert!(VERSIONS.is_sorted_by(|(one, _), (other, _)| one < other));
}

#[test]
fn keys_of_the_contract_are_there() {
    let keys = |event: Event| -> Vec<String> {
        let bytes = encode(&TimedEvent { ts: 1, event }).unwrap();
        let frame: Value = rmp_serde::from_slice(&bytes[4..]).unwrap();
        let Some(Value::Map(payload)) = frame.get("payload").cloned() else {
            panic!("the payload is a map")
        };
        payload
            .into_iter()
            .map(|(key, _)| key.to_string())
            .collect()
    };
    let failed = all()
        .into_iter()
        .filter(|event| matches!(event, Event::TestFailed { .. }));
    for event in failed {
        let keys = keys(event);
        for key in [
            "path",
            "name",
            "duration_ns",
            "meta",
            "reason",
            "console_excerpt",
        ] {
            assert!(
                keys.iter().any(|have| have == key),
                "{key} is missing in {keys:?}"
            );
        }
    }
}
