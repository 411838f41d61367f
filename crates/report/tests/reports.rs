//! What people and machines read, from lists of events.
//!
//! Long because all reports are made from the same run.

use provium_events::{
    Attachment, BootKind, BuildStatus, ConsoleExcerpt, Details, Event, FileError, FileStatus,
    Location, Notice, NoticeSubject, Resources, Step, Value,
};
use provium_report::{Human, HumanOptions, JUnit, JsonLines, Verbosity, notice_line};

const SOURCE: &str =
    "test(\"adds\", function(t)\n\tlocal sum = 1 + 1\n\tt:assert_eq(sum, 3)\nend)\n";

fn path() -> String {
    "net/sum.test.lua".to_owned()
}

fn location(line: u32) -> Option<Location> {
    Some(Location {
        file: path(),
        line,
        column: None,
    })
}

fn dispatched(path: &str) -> Event {
    Event::FileDispatched {
        path: path.to_owned(),
        reservation: Resources::default(),
    }
}

fn completed(path: &str, status: FileStatus, error: Option<FileError>) -> Event {
    let path = path.to_owned();
    Event::FileCompleted {
        path,
        status,
        duration_ns: 1_240_000_000,
        error,
    }
}

fn passed(name: &str, attempts: u32) -> Event {
    Event::TestPassed {
        path: path(),
        name: name.to_owned(),
        duration_ns: 310_000_000,
        meta: Value::Map(vec![("spec".into(), "§4.2".into())]),
        details: Details {
            attempts,
            ..Details::default()
        },
    }
}

fn console(vm: &str, text: &str) -> ConsoleExcerpt {
    ConsoleExcerpt {
        vm: vm.into(),
        text: text.into(),
        in_reason: false,
        more_lines: 0,
        file: None,
    }
}

fn failed() -> Event {
    Event::TestFailed {
        path: path(),
        name: "adds".into(),
        duration_ns: 500_000_000,
        meta: Value::Map(vec![]),
        reason: "net/sum.test.lua:3: the sum: 2 ~= 3\nas numbers".into(),
        console_excerpt: None,
        consoles: vec![
            console(
                "web",
                "booting\r\n\x1b[32mok\x1b[0m\r\nconsole of vm `db`:\r\nlogin:",
            ),
            ConsoleExcerpt {
                in_reason: true,
                more_lines: 0,
                file: None,
                ..console("dead", "is in the reason")
            },
        ],
        details: Details {
            location: location(3),
            traceback: vec![
                "net/sum.test.lua:3: in check".into(),
                "net/sum.test.lua:9".into(),
            ],
            log: vec!["adding".into(), "two\nlines".into()],
            notes: Vec::new(),
            steps: vec![Step {
                name: "write".into(),
                duration_ns: 20_000_000,
                passed: true,
            }],
            attempts: 1,
            expected_failure: None,
            files: vec!["out/1-stdout.txt".into()],
        },
    }
}

fn skipped() -> Event {
    Event::TestSkipped {
        path: path(),
        name: "divides".into(),
        reason: "todo".into(),
        meta: Value::Nil,
        duration_ns: 0,
        details: Details::default(),
    }
}

fn retried(name: &str, attempt: u32) -> Event {
    Event::TestRetried {
        path: path(),
        name: name.into(),
        attempt,
        reason: "net/sum.test.lua:2: not yet\nreally".into(),
        duration_ns: 100_000_000,
        location: location(2),
    }
}

fn not_run(file: &str, name: &str, reason: &str) -> Event {
    Event::TestNotRun {
        path: file.into(),
        name: name.into(),
        reason: reason.into(),
    }
}

fn rebuilt(file: &str) -> Event {
    let text = "a boot template in `t` was damaged (short): it is removed and rebuilt";
    Event::Notice(Notice::warning(NoticeSubject::Template, text).for_file(file))
}

fn a_run() -> Vec<Event> {
    vec![
        Event::RunStarted {
            version: "0.1.0".into(),
            protocol_version: 1,
            seed: 42,
            accel: "tcg".into(),
            host: "Linux 6.1".into(),
        },
        dispatched(&path()),
        dispatched("ok.test.lua"),
        Event::VmSpawned {
            file: path(),
            vm_name: "web".into(),
            profile: "default".into(),
            memory_bytes: 256 << 20,
            cid: 3,
            boot: BootKind::Cold,
            boot_ns: 1_700_000_000,
        },
        retried("subtracts", 1),
        retried("subtracts", 2),
        passed("subtracts", 3),
        rebuilt("ok.test.lua"),
        completed("ok.test.lua", FileStatus::Passed, None),
        Event::SeedUsed { path: path() },
        Event::TestAttachment {
            path: path(),
            name: "adds".into(),
            attachment: Attachment {
                name: "trace.txt".into(),
                content: b"one\ntwo".to_vec(),
            },
        },
        failed(),
        skipped(),
        rebuilt(&path()),
        completed(&path(), FileStatus::Failed, None),
        dispatched("bad.test.lua"),
        completed(
            "bad.test.lua",
            FileStatus::Failed,
            Some(FileError {
                message: "attempt to call a nil value (global 'tset')".into(),
                location: Some(Location {
                    file: "bad.test.lua".into(),
                    line: 1,
                    column: None,
                }),
                traceback: vec!["bad.test.lua:1".into()],
            }),
        ),
        dispatched("slow.test.lua"),
        not_run("slow.test.lua", "third", "its file timed out"),
        completed(
            "slow.test.lua",
            FileStatus::TimedOut,
            Some(FileError {
                message: "timed out after 300s in vm:run(\"sleep 1000\")".into(),
                location: None,
                traceback: vec![],
            }),
        ),
        dispatched("crash.test.lua"),
        completed("crash.test.lua", FileStatus::Crashed, None),
        dispatched("ended.test.lua"),
        Event::TestInterrupted {
            path: "ended.test.lua".into(),
            name: "waits".into(),
            duration_ns: 12_000_000_000,
            meta: Value::Nil,
            details: Details::default(),
        },
        completed("ended.test.lua", FileStatus::Interrupted, None),
        not_run("late.test.lua", "waits too", "the run was interrupted"),
        completed("late.test.lua", FileStatus::NotRun, None),
        Event::RunCompleted {
            passed: 1,
            failed: 4,
            skipped: 1,
            interrupted: 1,
            not_run: 2,
            flaky: 1,
            duration_ns: 3_420_000_000,
        },
    ]
}

fn sources(file: &str) -> Option<String> {
    (file == "net/sum.test.lua").then(|| SOURCE.to_owned())
}

fn options(verbosity: Verbosity) -> HumanOptions {
    HumanOptions {
        verbosity,
        each_test: true,
        ..HumanOptions::default()
    }
}

fn human(verbosity: Verbosity, colour: bool) -> String {
    let options = HumanOptions {
        colour,
        ..options(verbosity)
    };
    let mut report = Human::new(options, sources);
    a_run().iter().map(|event| report.event(event)).collect()
}

#[test]
fn for_people() {
    insta::assert_snapshot!(human(Verbosity::Normal, false));
}

#[test]
fn for_people_who_want_everything() {
    insta::assert_snapshot!(human(Verbosity::Verbose, false));
}

#[test]
fn for_people_who_want_little() {
    let mut report = Human::new(options(Verbosity::Quiet), sources);
    let text: String = [
        dispatched("ok.test.lua"),
        completed("ok.test.lua", FileStatus::Passed, None),
    ]
    .iter()
    .map(|event| report.event(event))
    .collect();
    assert_eq!(text, "");
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = human(Verbosity::Normal, true);
    assert!(coloured.contains('\x1b'));
    let mut plain = String::new();
    let mut rest = coloured.as_str();
    while let Some((before, after)) = rest.split_once("\x1b[") {
        plain.push_str(before);
        rest = after.split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    assert_eq!(plain, human(Verbosity::Normal, false));
}

#[test]
fn for_machines() {
    let mut report = JsonLines::new();
    let lines: String = a_run().iter().map(|event| report.event(event)).collect();
    insta::assert_snapshot!(lines);
}

#[test]
fn a_location_beyond_the_file_still_shows_where() {
    let mut report = Human::new(HumanOptions::default(), sources);
    report.event(&dispatched(&path()));
    let error = FileError {
        message: "odd".into(),
        location: location(99),
        traceback: vec![],
    };
    let text = report.event(&completed(&path(), FileStatus::Failed, Some(error)));
    assert!(text.contains("--> net/sum.test.lua:99"), "{text}");
}

#[test]
fn tests_side_by_side_are_listed_in_the_order_they_began() {
    let mut report = JsonLines::new();
    let started = |name: &str| Event::TestStarted {
        path: path(),
        name: name.to_owned(),
        meta: Value::Nil,
    };
    let events = [
        dispatched(&path()),
        started("first"),
        started("second"),
        started("divides"),
        skipped(),
        passed("second", 1),
        passed("first", 1),
        completed(&path(), FileStatus::Passed, None),
    ];
    let text: String = events.iter().map(|event| report.event(event)).collect();
    let names = text.split("{\"name\":\"").skip(1);
    let names = names.map(|rest| rest.split('"').next().unwrap_or_default());
    assert_eq!(names.collect::<Vec<_>>(), ["first", "second", "divides"]);
}

#[test]
fn a_test_is_shown_as_it_ends() {
    let mut report = Human::new(options(Verbosity::Normal), sources);
    report.event(&dispatched(&path()));
    assert_eq!(
        report.event(&passed("subtracts", 1)),
        "pass net/sum.test.lua::subtracts 0.31s\n"
    );
    assert!(
        report
            .event(&failed())
            .starts_with("fail net/sum.test.lua::adds 0.50s\n  the sum")
    );
    let mut on_a_terminal = Human::new(HumanOptions::default(), sources);
    assert_eq!(on_a_terminal.event(&passed("subtracts", 1)), "");
    assert!(on_a_terminal.event(&failed()).starts_with("fail "));
}

#[test]
fn nothing_is_repeated_of_a_run_that_passed() {
    let mut report = Human::new(options(Verbosity::Normal), sources);
    report.event(&passed("subtracts", 1));
    report.event(&completed(&path(), FileStatus::Passed, None));
    let over = Event::RunCompleted {
        passed: 1,
        failed: 0,
        skipped: 0,
        interrupted: 0,
        not_run: 0,
        flaky: 0,
        duration_ns: 400_000_000,
    };
    assert_eq!(report.event(&over), "1 file: 1 passed; 0.40s\n");
}

#[test]
fn an_expected_failure_has_its_own_word() {
    let mut report = Human::new(options(Verbosity::Normal), sources);
    let Event::TestPassed {
        path,
        name,
        duration_ns,
        meta,
        mut details,
    } = passed("works", 1)
    else {
        unreachable!()
    };
    details.expected_failure = Some("bug 7".into());
    let event = Event::TestPassed {
        path,
        name,
        duration_ns,
        meta,
        details,
    };
    assert_eq!(
        report.event(&event),
        "xfail net/sum.test.lua::works 0.31s: bug 7\n"
    );
}

#[test]
fn a_console_that_is_cut_names_its_file() {
    let lines: String = (1..=12).map(|line| format!("line {line}\n")).collect();
    let mut console = console("web", &lines);
    console.more_lines = 40;
    console.file = Some("out/2-console.txt".into());
    let event = |in_reason| Event::TestFailed {
        path: "a.test.lua".into(),
        name: "works".into(),
        duration_ns: 1,
        meta: Value::Nil,
        reason: "no".into(),
        console_excerpt: None,
        consoles: vec![ConsoleExcerpt {
            in_reason,
            ..console.clone()
        }],
        details: Details::default(),
    };
    let mut report = Human::new(options(Verbosity::Normal), |_: &str| None);
    let text = report.event(&event(false));
    let start = "  console of vm `web`:\n    … 42 more lines in out/2-console.txt\n    line 3\n";
    assert!(text.contains(start), "{text}");
    let text = report.event(&event(true));
    let whole = "  console of vm `web`: all of it in out/2-console.txt\n";
    assert!(text.contains(whole) && !text.contains("line 3"), "{text}");
}

#[test]
fn for_ci_servers() {
    let mut report = JUnit::new("report.xml.attachments");
    for event in a_run() {
        report.event(&event);
    }
    let (document, files) = report.finish().unwrap();
    insta::assert_snapshot!(String::from_utf8(document).unwrap());
    assert_eq!(files.len(), 1);
    assert_eq!(
        (files[0].name.as_str(), &files[0].content[..]),
        ("1-trace.txt", &b"one\ntwo"[..])
    );
}

#[test]
fn no_name_and_no_guest_writes_a_line_or_a_command() {
    let forged = "x\nPASS forged.test.lua (9 passed)\x1b]0;title\x07";
    let options = options(Verbosity::Verbose);
    let mut report = Human::new(options, |_: &str| None);
    let path = || forged.to_owned();
    let failed = Event::TestFailed {
        path: path(),
        name: forged.into(),
        duration_ns: 1,
        meta: Value::Nil,
        reason: "why".into(),
        console_excerpt: None,
        consoles: vec![console(forged, forged)],
        details: Details {
            location: Some(Location {
                file: path(),
                line: 1,
                column: None,
            }),
            steps: vec![Step {
                name: forged.into(),
                duration_ns: 1,
                passed: true,
            }],
            ..Details::default()
        },
    };
    let flaky = Event::TestPassed {
        path: path(),
        name: forged.into(),
        duration_ns: 1,
        meta: Value::Nil,
        details: Details {
            attempts: 2,
            ..Details::default()
        },
    };
    let skipped = Event::TestSkipped {
        path: path(),
        name: forged.into(),
        reason: forged.into(),
        meta: Value::Nil,
        duration_ns: 0,
        details: Details::default(),
    };
    let boot = Event::VmSpawned {
        file: path(),
        vm_name: forged.into(),
        profile: forged.into(),
        memory_bytes: 1,
        cid: 3,
        boot: BootKind::Cold,
        boot_ns: 1,
    };
    let done = Event::RunCompleted {
        passed: 1,
        failed: 1,
        skipped: 1,
        interrupted: 0,
        not_run: 0,
        flaky: 1,
        duration_ns: 1,
    };
    let hit = Event::FixtureCacheHit { path: path() };
    let events = [
        dispatched(forged),
        hit,
        boot,
        failed,
        flaky,
        skipped,
        completed(forged, FileStatus::Failed, None),
        done,
    ];
    let text: String = events.iter().map(|event| report.event(event)).collect();
    assert!(!text.contains("\nPASS"), "{text}");
    assert!(!text.contains(['\x1b', '\x07']), "{text:?}");
}

#[test]
fn an_error_that_was_raised_again_shows_where_it_was_raised_first() {
    let mut report = Human::new(HumanOptions::default(), sources);
    let mut again = |message: &str| {
        report.event(&dispatched("other.test.lua"));
        let error = FileError {
            message: message.into(),
            location: Some(Location {
                file: "helpers/guard.lua".into(),
                line: 9,
                column: None,
            }),
            traceback: vec![],
        };
        report.event(&completed(
            "other.test.lua",
            FileStatus::Failed,
            Some(error),
        ))
    };
    let text = again("net/sum.test.lua:3: 2 ~= 3");
    assert!(text.contains("net/sum.test.lua:3"), "{text}");
    assert!(text.contains("t:assert_eq(sum, 3)"), "{text}");
    // Not a file of the author's, and a line that it does not have.
    for message in ["[provium]:61: x", "net/sum.test.lua:99: x", "1: 2: x"] {
        let text = again(message);
        assert!(text.contains("--> helpers/guard.lua:9"), "{text}");
    }
}

#[test]
fn a_long_wait_for_the_pool_has_its_line() {
    let mut report = Human::new(HumanOptions::default(), sources);
    report.event(&dispatched(&path()));
    for waited_ns in [186_000_000_000, 200_000_000] {
        report.event(&Event::FileUnblocked {
            path: path(),
            amount: Resources {
                memory_bytes: 0,
                cpus: 1,
            },
            waited_ns,
        });
    }
    let text = report.event(&completed(&path(), FileStatus::Passed, None));
    assert_eq!(text.matches("waited").count(), 1, "{text}");
    assert!(text.contains("  waited 186.0s for 1 vCPU\n"), "{text}");
    report.event(&dispatched(&path()));
    for seconds in [2, 5, 3] {
        report.event(&Event::FileUnblocked {
            path: path(),
            amount: Resources {
                memory_bytes: 1 << 20,
                cpus: 1,
            },
            waited_ns: seconds * 1_000_000_000,
        });
    }
    let text = report.event(&completed(&path(), FileStatus::Passed, None));
    let line = "  waited 10.0s in 3 boots; longest 5.0s for 1 MiB and 1 vCPU\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn the_cost_of_a_file_grows_with_its_tests_and_not_with_their_square() {
    let source: String = (0..20_000).map(|line| format!("line {line}\n")).collect();
    let mut report = Human::new(HumanOptions::default(), move |file: &str| {
        (file == "net/sum.test.lua").then(|| source.clone())
    });
    let begun = std::time::Instant::now();
    report.event(&dispatched(&path()));
    let mut text = String::new();
    for test in 0..20_000_u32 {
        let name = format!("test {test}");
        report.event(&Event::TestStarted {
            path: path(),
            name: name.clone(),
            meta: Value::Nil,
        });
        text = report.event(&Event::TestFailed {
            path: path(),
            name,
            duration_ns: 1,
            meta: Value::Nil,
            reason: "no".into(),
            console_excerpt: None,
            consoles: vec![],
            details: Details {
                location: location(test + 1),
                ..Details::default()
            },
        });
    }
    report.event(&completed(&path(), FileStatus::Failed, None));
    assert!(text.contains("line 19999"), "the last one is shown");
    // Linear: 1 s without optimisation. Each failure for itself read and cleaned the source: minutes.
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
}

#[test]
fn a_notice_is_one_line_at_once() {
    let warning = Notice::warning(NoticeSubject::Template, "damaged\nPASS forged");
    assert_eq!(
        notice_line(&warning),
        "provium: warning: damaged\\nPASS forged\n"
    );
    let info = Notice::info(NoticeSubject::Image, "packing `a`");
    assert_eq!(notice_line(&info), "provium: packing `a`\n");
}

#[test]
fn what_came_of_a_build_is_shown_where_everything_is_wanted() {
    let options = options(Verbosity::Verbose);
    let mut report = Human::new(options, |_: &str| None);
    let mut line = |status, snapshot_bytes| {
        report.event(&Event::FixtureBuildDone {
            path: "web.fixture.lua".into(),
            duration_ns: 1_500_000_000,
            status,
            snapshot_bytes,
        })
    };
    let lines = [
        line(BuildStatus::Built, 1 << 20),
        line(BuildStatus::Failed, 0),
        line(BuildStatus::Interrupted, 0),
    ];
    insta::assert_snapshot!(lines.concat(), @r"
    fixture web.fixture.lua: built in 1.50s, 1M
    fixture web.fixture.lua: build failed after 1.50s
    fixture web.fixture.lua: build interrupted after 1.50s
    ");
}
