//! Whatever names, outputs and consoles contain, no report has a line, a field or a terminal sequence that
//! they have made.

use proptest::prelude::*;
use provium_events::printable::for_terminal;
use provium_events::{
    Attachment, BootKind, ConsoleExcerpt, Details, Event, FileError, FileStatus, Location, Notice,
    NoticeSubject, Resources, Step, TimedEvent, Value,
};
use provium_report::{Human, HumanOptions, JUnit, JsonLines, Live, TerminalSize, Verbosity};
use std::collections::BTreeMap;
use std::time::Duration;

/// A run in which each text that a test or guest controls is `text`.
fn events(text: &str) -> Vec<Event> {
    let text = || text.to_owned();
    let path = || "a.test.lua".to_owned();
    let details = || Details {
        location: Some(Location {
            file: text(),
            line: 1,
            column: Some(1),
        }),
        traceback: vec![text(), text()],
        log: vec![text()],
        notes: vec![text()],
        steps: vec![Step {
            name: text(),
            duration_ns: 1,
            passed: false,
        }],
        attempts: 2,
        expected_failure: None,
        files: Vec::new(),
    };
    let meta = || Value::Map(vec![(Value::Text(text()), Value::Text(text()))]);
    let consoles = vec![ConsoleExcerpt {
        vm: text(),
        text: text(),
        in_reason: false,
        more_lines: 0,
        file: None,
    }];
    let error = || FileError {
        message: text(),
        location: None,
        traceback: vec![text(), text()],
    };
    vec![
        Event::RunStarted {
            version: text(),
            protocol_version: 1,
            seed: 1,
            accel: text(),
            host: text(),
        },
        Event::FileDiscovered {
            path: path(),
            fixture_refs: vec![text()],
            declared_claim: None,
        },
        Event::FileDispatched {
            path: path(),
            reservation: Resources::default(),
        },
        Event::VmSpawned {
            file: path(),
            vm_name: text(),
            profile: text(),
            memory_bytes: 1,
            cid: 3,
            boot: BootKind::Cold,
            boot_ns: 1,
        },
        Event::TestStarted {
            path: path(),
            name: text(),
            meta: meta(),
        },
        Event::TestRetried {
            path: path(),
            name: text(),
            attempt: 1,
            reason: text(),
            duration_ns: 1,
            location: details().location,
        },
        Event::TestAttachment {
            path: path(),
            name: text(),
            attachment: Attachment {
                name: text(),
                content: text().into_bytes(),
            },
        },
        Event::Notice(Notice::warning(NoticeSubject::Guest, text()).for_file(path())),
        Event::TestFailed {
            path: path(),
            name: text(),
            duration_ns: 1,
            meta: meta(),
            reason: text(),
            console_excerpt: None,
            consoles,
            details: details(),
        },
        Event::TestPassed {
            path: path(),
            name: text(),
            duration_ns: 1,
            meta: meta(),
            details: details(),
        },
        Event::TestSkipped {
            path: path(),
            name: text(),
            reason: text(),
            meta: meta(),
            duration_ns: 1,
            details: details(),
        },
        Event::TestNotRun {
            path: path(),
            name: text(),
            reason: text(),
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::TimedOut,
            duration_ns: 1,
            error: Some(error()),
        },
        Event::RunCompleted {
            passed: 1,
            failed: 1,
            skipped: 1,
            interrupted: 0,
            not_run: 1,
            flaky: 1,
            duration_ns: 1,
        },
    ]
}

fn human(text: &str) -> String {
    let options = HumanOptions {
        verbosity: Verbosity::Verbose,
        each_test: true,
        ..HumanOptions::default()
    };
    let mut report = Human::new(options, |_: &str| None);
    events(text)
        .iter()
        .map(|event| report.event(event))
        .collect()
}

/// Lines without an indentation, which only the report itself may write.
fn at_the_margin(text: &str) -> usize {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with(' '))
        .count()
}

/// Text in which all that might be misread is likely.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\u{1b}[2J".to_owned()),
        Just("\u{1b}]0;title\u{7}".to_owned()),
        Just("\u{9b}31m".to_owned()),
        Just("\u{2028}".to_owned()),
        Just("PASS a.test.lua (1 passed) 0.0s\n".to_owned()),
        Just("failed:\n  b::c\n".to_owned()),
        Just("]]></system-out>".to_owned()),
        Just("[[ATTACHMENT|/etc/passwd]]".to_owned()),
        Just("\",\"status\":\"passed".to_owned()),
        "[ -~]{0,8}",
        any::<char>().prop_map(String::from),
    ];
    prop::collection::vec(piece, 1..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_report_for_people_has_its_own_lines_only(text in hostile()) {
        let report = human(&text);
        prop_assert_eq!(at_the_margin(&report), at_the_margin(&human("plain")), "{}", report);
        // What is left is for the last filter before the terminal to pass unchanged.
        prop_assert_eq!(for_terminal(&report, false), report.as_str());
    }

    #[test]
    fn json_lines_are_whole_and_say_what_was_said(text in hostile()) {
        let mut report = JsonLines::new();
        let lines: String = events(&text).iter().map(|event| report.event(event)).collect();
        prop_assert_eq!(lines.lines().count(), 1);
        prop_assert!(!lines.trim_end().contains(char::is_control), "{:?}", lines);
        let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
        let test = &line["tests"][0];
        prop_assert_eq!(test["name"].as_str(), Some(text.as_str()));
        prop_assert_eq!(test["message"].as_str(), Some(text.as_str()));
        prop_assert_eq!(test["consoles"][0]["text"].as_str(), Some(text.as_str()));
        prop_assert_eq!(test["attachments"][0]["text"].as_str(), Some(text.as_str()));
    }

    #[test]
    fn junit_documents_can_be_read_and_attach_only_what_was_attached(text in hostile()) {
        let mut report = JUnit::new("folder");
        for event in events(&text) {
            report.event(&event);
        }
        let (document, files) = report.finish().unwrap();
        let document = String::from_utf8(document).unwrap();
        let read = quick_junit::Report::deserialize_from_str(&document).unwrap();
        prop_assert_eq!(read.test_suites.len(), 1);
        // The four tests, and the file itself.
        prop_assert_eq!(read.test_suites[0].test_cases.len(), 5);
        prop_assert_eq!(files.len(), 1);
        prop_assert!(!files[0].name.contains('/'), "{}", files[0].name);
        let reference = format!("[[ATTACHMENT|folder/{}]]", files[0].name);
        let out = read.test_suites[0].test_cases[0].system_out.clone().unwrap();
        prop_assert_eq!(out.as_str().matches("[[ATTACHMENT|").count(), 1);
        prop_assert!(out.as_str().contains(&reference));
    }

    #[test]
    fn live_lines_are_lines(text in hostile()) {
        let mut live = Live::new(BTreeMap::new(), Duration::from_secs(10), false);
        for event in events(&text).into_iter().take(5) {
            live.event(&TimedEvent { ts: 1, event });
        }
        let size = TerminalSize { columns: 79, lines: 4 };
        for line in live.lines(2, size) {
            prop_assert!(!line.contains(char::is_control), "{:?}", line);
        }
    }
}
