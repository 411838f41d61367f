//! The JUnit report satisfies the schema of Jenkins' xUnit plugin, `junit-10.xsd`, whose elements, attributes
//! and patterns are repeated here. The plugin refuses a document that has anything else.

#![expect(clippy::unwrap_used, reason = "what cannot be read fails its test")]

use provium_events::{
    Attachment, ConsoleExcerpt, Details, Event, FileError, FileStatus, Location, Step, Value,
};
use provium_report::JUnit;
use quick_xml::events::{BytesStart, Event as Xml};

/// An element: its name, the elements that may be in it, and its attributes, of which those with a `*` are
/// required. `#text`: text may be in it.
type Element = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const RERUN: &[&str] = &["#text", "stackTrace", "system-out", "system-err"];
const CAUSE: &[&str] = &["type", "message"];

const SCHEMA: &[Element] = &[
    (
        "testsuites",
        &["testsuite"],
        &["name", "time", "tests", "failures", "errors"],
    ),
    (
        "testsuite",
        &[
            "testsuite",
            "properties",
            "testcase",
            "system-out",
            "system-err",
        ],
        &[
            "name*",
            "tests*",
            "failures*",
            "errors*",
            "group",
            "time",
            "skipped",
            "timestamp",
            "hostname",
            "id",
            "package",
            "file",
            "log",
            "url",
        ],
    ),
    (
        "testcase",
        &[
            "skipped",
            "error",
            "failure",
            "rerunFailure",
            "rerunError",
            "flakyFailure",
            "flakyError",
            "system-out",
            "system-err",
        ],
        &["name*", "time", "classname", "group"],
    ),
    ("properties", &["property"], &[]),
    ("property", &[], &["name*", "value*"]),
    ("failure", &["#text"], CAUSE),
    ("error", &["#text"], CAUSE),
    ("skipped", &["#text"], CAUSE),
    ("rerunFailure", RERUN, &["message", "type*"]),
    ("rerunError", RERUN, &["message", "type*"]),
    ("flakyFailure", RERUN, &["message", "type*"]),
    ("flakyError", RERUN, &["message", "type*"]),
    ("stackTrace", &["#text"], &[]),
    ("system-out", &["#text"], &[]),
    ("system-err", &["#text"], &[]),
];

/// What the schema does not allow in a document.
fn violations(document: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(document);
    let mut open: Vec<&Element> = Vec::new();
    let mut found = Vec::new();
    loop {
        match reader.read_event().unwrap() {
            Xml::Start(tag) => {
                check(&tag, open.last().copied(), &mut found);
                open.push(element(&tag));
            }
            Xml::Empty(tag) => check(&tag, open.last().copied(), &mut found),
            Xml::End(_) => drop(open.pop()),
            Xml::Text(text) if !text.is_empty() => {
                let is_blank = text.iter().all(u8::is_ascii_whitespace);
                let (name, content, _) = open.last().copied().unwrap_or(&SCHEMA[0]);
                if !is_blank && !content.contains(&"#text") {
                    found.push(format!("text in {name}"));
                }
            }
            Xml::Eof => return found,
            _ => {}
        }
    }
}

fn element(tag: &BytesStart<'_>) -> &'static Element {
    let name = String::from_utf8(tag.name().as_ref().to_vec()).unwrap();
    let known = SCHEMA.iter().find(|(known, ..)| *known == name);
    known.unwrap_or_else(|| panic!("the schema has no element {name}"))
}

fn check(tag: &BytesStart<'_>, parent: Option<&Element>, found: &mut Vec<String>) {
    let (name, _, attributes) = element(tag);
    match parent {
        Some((parent, content, _)) if !content.contains(name) => {
            found.push(format!("{name} in {parent}"));
        }
        None if *name != "testsuites" => found.push(format!("{name} as root")),
        _ => {}
    }
    let mut given = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.unwrap();
        let key = String::from_utf8(attribute.key.as_ref().to_vec()).unwrap();
        let value = String::from_utf8(attribute.value.to_vec()).unwrap();
        let is_known = attributes
            .iter()
            .any(|known| known.trim_end_matches('*') == key);
        if !is_known {
            found.push(format!("{key} of {name}"));
        }
        // SUREFIRE_TIME: digits, and a fraction.
        let is_time =
            value.chars().all(|c| c.is_ascii_digit() || c == '.') && value.matches('.').count() < 2;
        if key == "time" && !is_time {
            found.push(format!("time of {name}: {value}"));
        }
        given.push(key);
    }
    let required = attributes
        .iter()
        .filter_map(|known| known.strip_suffix('*'));
    found.extend(
        required
            .filter(|key| !given.iter().any(|given| given == key))
            .map(|key| format!("{name} without {key}")),
    );
}

/// Two runs of a file with a test of each outcome, attempts, metadata and attachments.
fn events() -> Vec<Event> {
    let path = || "a.test.lua".to_owned();
    let meta = || Value::Map(vec![("spec".into(), "4.2".into())]);
    let location = || {
        Some(Location {
            file: path(),
            line: 7,
            column: None,
        })
    };
    let details = |attempts| Details {
        location: location(),
        traceback: vec!["a.test.lua:7: in check".into()],
        log: vec!["hello <b>&</b>".into()],
        steps: vec![Step {
            name: "write".into(),
            duration_ns: 5,
            passed: true,
        }],
        attempts,
        ..Details::default()
    };
    let retried = |name: &str| Event::TestRetried {
        path: path(),
        name: name.into(),
        attempt: 1,
        reason: "too late".into(),
        duration_ns: 1_500_000_000,
        location: location(),
    };
    let failed = |name: &str| Event::TestFailed {
        path: path(),
        name: name.into(),
        duration_ns: 7,
        meta: meta(),
        reason: "1 ~= 2\n\x1b[31mred".into(),
        console_excerpt: None,
        consoles: vec![ConsoleExcerpt {
            vm: "v".into(),
            text: "]]> end".into(),
            in_reason: false,
            more_lines: 0,
            file: None,
        }],
        details: details(2),
    };
    let passed = |name: &str| Event::TestPassed {
        path: path(),
        name: name.into(),
        duration_ns: 3_723_000_000_000,
        meta: meta(),
        details: details(2),
    };
    let attached = Event::TestAttachment {
        path: path(),
        name: "fails".into(),
        attachment: Attachment {
            name: "trace".into(),
            content: vec![0],
        },
    };
    let of_run = vec![
        Event::RunStarted {
            version: "0.1.0".into(),
            protocol_version: 1,
            seed: 7,
            accel: "tcg".into(),
            host: "Linux 6.1".into(),
        },
        retried("flaky"),
        passed("flaky"),
        retried("fails"),
        attached,
        failed("fails"),
        Event::TestSkipped {
            path: path(),
            name: "skipped".into(),
            reason: "no".into(),
            meta: meta(),
            duration_ns: 0,
            details: Details::default(),
        },
        Event::TestInterrupted {
            path: path(),
            name: "interrupted".into(),
            duration_ns: 1,
            meta: meta(),
            details: Details::default(),
        },
        Event::TestNotRun {
            path: path(),
            name: "not run".into(),
            reason: "interrupted".into(),
        },
        Event::FileCompleted {
            path: path(),
            status: FileStatus::TimedOut,
            duration_ns: 3_723_000_000_000,
            error: Some(FileError {
                message: "too long".into(),
                location: location(),
                traceback: Vec::new(),
            }),
        },
    ];
    [of_run.clone(), of_run].concat()
}

fn document() -> String {
    let mut report = JUnit::new("report.xml.attachments");
    for event in events() {
        report.event(&event);
    }
    String::from_utf8(report.finish().unwrap().0).unwrap()
}

#[test]
fn the_report_is_valid_for_jenkins() {
    let document = document();
    assert_eq!(violations(&document), Vec::<String>::new(), "{document}");
}

#[test]
fn the_check_finds_what_the_schema_refuses() {
    let testcase = |inner: &str| {
        format!(
            "<testsuites><testsuite name=\"a\" tests=\"1\" failures=\"0\" errors=\"0\">{inner}</testsuite></testsuites>"
        )
    };
    for (document, violation) in [
        (
            "<testsuites skipped=\"0\"/>".to_owned(),
            "skipped of testsuites",
        ),
        (
            testcase("<testcase name=\"a\" file=\"f\"/>"),
            "file of testcase",
        ),
        (testcase("<testcase/>"), "testcase without name"),
        (
            testcase("<testcase name=\"a\"><properties/></testcase>"),
            "properties in testcase",
        ),
        (
            testcase("<testcase name=\"a\">x</testcase>"),
            "text in testcase",
        ),
    ] {
        assert_eq!(violations(&document), [violation], "{document}");
    }
}

/// GitLab drops a test whose class and name another one has.
#[test]
fn tests_of_several_runs_are_distinguished() {
    let document = document();
    let tag = "<testcase name=\"fails\" classname=\"a.test.lua";
    assert_eq!(document.matches(tag).count(), 2);
    assert_eq!(
        document.matches(&format!("{tag}\"")).count(),
        1,
        "{document}"
    );
}
