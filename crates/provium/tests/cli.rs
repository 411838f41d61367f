//! What the executable prints and how it exits, where no guest is needed.
//!
//! Long because all of it runs in the same small projects, beside the same stand-in for QEMU.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the executable is started as a user would"
)]

mod project;

use project::{FAILING, Project, RunOutput, redacted};
use std::path::PathBuf;
use std::process::{Command, Stdio};

const TESTS: &str = r#"
test("adds", {tags = {"fast", "sum"}, spec = "4.2"}, function(t)
  t:log("adding")
  t:assert_eq(1 + 1, 2)
end)

test("sleeps", {slow = true}, function(t) end)
"#;

#[test]
fn help_lists_commands_and_options() {
    let ran = Project::new(&[])
        .command(&["--help"])
        .env("COLUMNS", "100")
        .output()
        .unwrap();
    insta::assert_snapshot!(RunOutput::of(ran).all());
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    let ran = Project::new(&[]).run(&["--fitler", "x"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("--filter"), "{}", ran.stderr);
    // Flags of later versions are not passed over in silence.
    for flag in ["--watch", "--html=x", "--vmm=local"] {
        assert_eq!(Project::new(&[]).run(&[flag]).code, Some(2), "{flag}");
    }
}

#[test]
fn a_bad_configuration_shows_the_place() {
    let project = Project::new(&[
        (
            "provium.toml",
            "[profiles.peios]\nguest = \"default\"\nmemroy = \"1G\"\n",
        ),
        ("a.test.lua", TESTS),
    ]);
    insta::assert_snapshot!(project.run(&[]).all());
}

#[test]
fn a_missing_path_is_an_error() {
    insta::assert_snapshot!(Project::new(&[]).run(&["gone.test.lua"]).all());
}

#[test]
fn a_run_without_a_test_exits_with_4() {
    let empty = Project::new(&[("readme", "")]);
    let ran = empty.run(&[]);
    assert_eq!(ran.code, Some(4), "{}", ran.all());
    assert!(
        ran.stdout.starts_with("0 files: no tests; "),
        "{}",
        ran.stdout
    );
    assert!(ran.stderr.contains("no test files"), "{}", ran.stderr);
    assert_eq!(empty.run(&["--no-tests=pass"]).code, Some(0));

    let without = Project::new(&[("a.test.lua", "local x = 1\n")]);
    let ran = without.run(&["--accel", "tcg"]);
    assert_eq!(ran.code, Some(4), "{}", ran.all());
    assert!(ran.stdout.starts_with("NONE a.test.lua"), "{}", ran.stdout);
    assert!(ran.stderr.contains("declare no tests"), "{}", ran.stderr);
}

#[test]
fn a_file_without_a_selected_test_is_not_run() {
    // Its boot would fail: QEMU is a stand-in here.
    let boots =
        "provium:vm('v', 'default'):boot()\ntest('one', {tags = {'net'}}, function() end)\n";
    let project = Project::new(&[
        ("a.test.lua", boots),
        ("b.test.lua", "test('two', function() end)"),
    ]);
    let ran = project.run(&["--accel", "tcg", "--test", "^two$"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(!ran.stdout.contains("a.test.lua"), "{}", ran.stdout);
    let ran = project.run(&["--accel", "tcg", "--tag", "net"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert!(ran.stdout.contains("FAIL a.test.lua"), "{}", ran.stdout);
}

#[test]
fn tests_are_listed() {
    let project = Project::new(&[("a.test.lua", TESTS), ("bad.test.lua", "tset('x')\n")]);
    let ran = project.run(&["list"]);
    insta::assert_snapshot!(ran.all());
    let ran = project.run(&["list", "a.test.lua", "--tag", "sum", "--json"]);
    insta::assert_snapshot!(ran.all());
}

#[test]
fn a_run_without_guests_passes_and_fails_as_it_should() {
    let project = Project::new(&[("a.test.lua", TESTS), ("b.test.lua", FAILING)]);
    let ran = project.run(&["--accel", "tcg", "a.test.lua"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let line = "\nPASS a.test.lua (1 passed, 1 skipped) ";
    assert!(ran.stdout.contains(line), "{}", ran.stdout);
    assert!(!ran.stdout.contains("--seed"), "{}", ran.stdout);

    // One after the other, so that they end in this order: the one that never ran comes first.
    let ran = project.run(&["--accel", "tcg", "--cpus", "1", "--seed", "7"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    insta::assert_snapshot!(redacted(&ran.all()));

    let ran = project.run(&["--accel", "tcg", "--json", "a.test.lua", "--test", "^adds$"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let line: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(line["path"], "a.test.lua");
    assert_eq!(line["timeout"], "in_time");
    assert_eq!(line["passed"], true);
    assert_eq!(line["tests"][0]["log"][0], "adding");
    assert_eq!(line["tests"][0]["meta"]["spec"], "4.2");
    assert_eq!(line["tests"].as_array().map(Vec::len), Some(1));
}

#[test]
fn events_are_saved_and_streamed_alike() {
    use provium_events::{Decoder, Event};
    let project = Project::new(&[("a.test.lua", TESTS)]);
    let arguments = [
        "--accel",
        "tcg",
        "--seed",
        "7",
        "--save-events",
        "events",
        "--events-stdout",
    ];
    let output = project.command(&arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stderr).contains("PASS a.test.lua"));
    let saved = std::fs::read(project.path().join("events")).unwrap();
    assert_eq!(saved, output.stdout);

    let mut decoder = Decoder::new();
    decoder.feed(&saved);
    let mut events = Vec::new();
    while let Some(stamped) = decoder.next_event().unwrap() {
        events.push(stamped.event);
    }
    assert!(decoder.is_between_frames());
    let Some(Event::RunStarted { seed: 7, accel, .. }) = events.first() else {
        panic!("{events:?}")
    };
    assert_eq!(accel, "tcg");
    assert!(matches!(
        events.last(),
        Some(Event::RunCompleted {
            passed: 1,
            skipped: 1,
            ..
        })
    ));
}

#[test]
fn profiles_of_one_build_share_its_run() {
    let profile = |name: &str, word: &str| {
        format!("[profiles.{name}]\nbuild = \"echo {word} >> log; touch k\"\nkernel = \"k\"\n")
    };
    let config = [
        profile("one", "same"),
        profile("two", "same"),
        profile("three", "other"),
        "from_dir = \"profiles\"".to_owned(),
    ];
    let config = config
        .join("\n")
        .replace("from_dir", "[profiles]\nfrom_dir");
    let far = "build = \"echo same >> log; touch k\"\nkernel = \"k\"\n";
    let names = "-- one two three far\n";
    let project = Project::new(&[
        ("provium.toml", &config),
        ("profiles/far/profile.provium.toml", far),
        ("a.test.lua", &format!("{names}{TESTS}")),
    ]);
    let ran = project.run(&["--accel", "tcg"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let log = |path: &str| std::fs::read_to_string(project.path().join(path)).unwrap();
    let mut lines: Vec<String> = log("log").lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["other", "same"]);
    // The same words in another folder are another command.
    assert_eq!(log("profiles/far/log"), "same\n");
    assert_eq!(ran.stderr.matches("building profile").count(), 3);
}

#[test]
fn a_profile_without_its_kernel_ends_a_run_of_files_that_name_it() {
    let config = "[profiles.hw]\nkernel = \"gone/bzImage\"\nagent_overlay_path = \"a\"\n\
                  [profiles.other]\nguest = \"default\"\nagent_overlay_path = \"a\"\n";
    let boots = "test(\"boots\", function(t) provium:vm(\"v\", \"hw\"):boot() end)\n";
    let project = Project::new(&[
        ("provium.toml", config),
        ("a.test.lua", "test(\"passes\", function(t) end)\n"),
        ("b.test.lua", boots),
    ]);
    let missing = "provium.toml:2:10: `kernel`: file `";

    let ran = project.run(&["a.test.lua"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert_eq!(ran.stderr.matches(missing).count(), 1, "{}", ran.all());
    assert!(
        ran.stderr.contains("profile `hw` cannot be booted"),
        "{}",
        ran.all()
    );
    let without_use = "provium.toml:3:1: `agent_overlay_path` has no effect";
    assert_eq!(ran.stderr.matches(without_use).count(), 1, "{}", ran.all());
    assert_eq!(
        ran.stderr.matches("agent_overlay_path").count(),
        1,
        "{}",
        ran.all()
    );

    // No test is run, also none of another file.
    let ran = project.run(&[]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(2), ""),
        "{}",
        ran.all()
    );
    for text in [
        "error: `kernel`: file `",
        "--> provium.toml:2:10",
        "`b.test.lua` names the profile",
    ] {
        assert_eq!(ran.stderr.matches(text).count(), 1, "{text}: {}", ran.all());
    }
    assert!(!ran.stderr.contains("cannot be booted"), "{}", ran.all());

    let ran = project.run(&["prepare", "hw"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains(missing), "{}", ran.all());
}

#[test]
fn a_failed_build_stops_the_run_and_shows_why() {
    let config = "[profiles.x]\nbuild = \"echo to {out}; echo oh no >&2; exit 3\"\n\
                  build_out = \"o\"\nkernel = \"{out}/k\"\n";
    let test = "local name = \"x\"\ntest(\"a\", function(t) end)\n";
    let project = Project::new(&[("provium.toml", config), ("a.test.lua", test)]);
    let ran = project.run(&["--accel", "tcg"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(ran.stderr.contains("oh no"), "{}", ran.stderr);
    // No file uses the profile: nothing is built.
    std::fs::write(
        project.path().join("a.test.lua"),
        "test(\"a\", function(t) end)\n",
    )
    .unwrap();
    let ran = project.run(&["--accel", "tcg"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
}

#[test]
fn without_a_fit_qemu_nothing_runs_and_the_words_say_what_to_do() {
    let project = Project::new(&[("a.test.lua", TESTS)]);
    project.write_qemu("echo QEMU emulator version 5.2.0");
    let ran = project.run(&[]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(
        ran.stderr.contains("5.2.0") && ran.stderr.contains("provium doctor"),
        "{}",
        ran.stderr
    );
    assert!(ran.stdout.is_empty());
}

#[test]
fn a_qemu_that_runs_no_guest_is_reported_before_any_test() {
    let project = Project::new(&[("a.test.lua", TESTS)]);
    project.write_qemu(
        "case $1 in --version) echo QEMU emulator version 9.0.0 ;; *) echo no accelerator >&2; exit 1 ;; esac",
    );
    for accel in ["auto", "tcg", "kvm"] {
        let ran = project.run(&["--accel", accel]);
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert!(ran.stdout.is_empty(), "{}", ran.all());
        let what = if accel == "kvm" {
            "KVM was requested"
        } else {
            "neither accelerator runs a guest"
        };
        for part in [what, "provium doctor"] {
            assert!(ran.stderr.contains(part), "{}", ran.all());
        }
    }
    let ran = project.run(&["--accel", "tcg"]);
    let how = "TCG was asked for; TCG fails: QEMU exited with status 1: no accelerator";
    assert!(ran.stderr.contains(how), "{}", ran.all());
}

#[test]
fn completions_are_printed() {
    let ran = Project::new(&[]).run(&["completions", "bash"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.contains("complete -F _provium"));
}

#[test]
fn the_agent_inside_is_named() {
    let ran = Project::new(&[]).run(&["agent-info"]);
    assert_eq!(ran.code, Some(0));
    assert!(ran.stdout.starts_with("build "), "{}", ran.stdout);
}

#[test]
fn the_agent_is_written_as_an_executable_file() {
    let project = Project::new(&[]);
    let ran = project.run(&["agent", "init"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    // It runs on any Linux, as far as to say what it is for.
    let output = Command::new(project.path().join("init"))
        .arg("--bogus")
        .output()
        .unwrap();
    let ran = RunOutput::of(output);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(
        ran.stderr.starts_with("usage: provium-agent"),
        "{}",
        ran.all()
    );

    let ran = project.run(&["agent", "no/such/place"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(
        ran.stderr
            .contains("cannot write the agent to `no/such/place`"),
        "{}",
        ran.all()
    );
}

#[test]
fn a_reader_that_closes_its_end_does_not_crash_the_run() {
    let project = Project::new(&[("a.test.lua", TESTS)]);
    let mut command = project.command(&["--accel", "tcg"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

const ENDLESS: &str = "test(\"sleeps\", function(t) host.sleep(600) end)\n";

#[test]
fn a_file_that_takes_too_long_is_ended() {
    let source = format!("{ENDLESS}test('comes later', function() end)\n");
    let project = Project::new(&[("a.test.lua", &source)]);
    let ran = project.run(&["--accel", "tcg", "--timeout", "300ms"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert!(
        ran.stdout.contains("TIME a.test.lua (1 failed, 1 not run)"),
        "{}",
        ran.stdout
    );
    let not_run = "not run:\n  a.test.lua::comes later: its file timed out\n";
    assert!(ran.stdout.contains(not_run), "{}", ran.stdout);
    assert!(ran.stdout.contains("\n1 file: 1 failed, 1 not run; "));
}

#[test]
fn one_interrupt_ends_a_run_in_good_order() {
    use provium_events::{Decoder, Event};
    use std::io::Read as _;
    let project = Project::new(&[("a.test.lua", ENDLESS), ("b.test.lua", ENDLESS)]);
    let mut command = project.command(&["--accel", "tcg", "--cpus", "1", "--events-stdout"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let (mut decoder, mut events) = (Decoder::new(), Vec::new());
    let mut buffer = [0; 4096];
    loop {
        let count = stdout.read(&mut buffer).unwrap();
        decoder.feed(&buffer[..count]);
        let before = events.len();
        while let Some(stamped) = decoder.next_event().unwrap() {
            events.push(stamped.event);
        }
        if events[before..]
            .iter()
            .any(|event| matches!(event, Event::TestStarted { .. }))
        {
            let id = child.id().to_string();
            assert!(
                Command::new("kill")
                    .args(["-INT", &id])
                    .status()
                    .unwrap()
                    .success()
            );
        }
        if count == 0 {
            break;
        }
    }
    let ran = RunOutput::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(130), "{}", ran.all());
    assert!(ran.stderr.contains("stopping"), "{}", ran.stderr);
    for text in [
        "INTR a.test.lua (1 interrupted)",
        "not run:\n  b.test.lua::sleeps: the run was interrupted\n",
        "interrupted:\n  a.test.lua::sleeps\n",
        "\n1 file: 1 interrupted, 1 not run; ",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.stderr);
    }
    let completed = events
        .iter()
        .filter(|event| matches!(event, Event::FileCompleted { .. }));
    assert_eq!(completed.count(), 2);
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })));
}

#[test]
fn a_line_or_a_name_picks_tests() {
    let project = Project::new(&[("a.test.lua", TESTS), ("b.test.lua", FAILING)]);
    let ran = project.run(&["--accel", "tcg", "b.test.lua::works"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(ran.stdout.contains("(1 passed)"), "{}", ran.stdout);
    let ran = project.run(&["--accel", "tcg", "a.test.lua:7"]);
    assert!(ran.stdout.contains("(1 passed)"), "{}", ran.stdout);
    for (asked, expected) in [
        (
            "b.test.lua::wroks",
            "this file has no test `wroks`; did you mean `works`?",
        ),
        ("b.test.lua:999", "no test is declared around line 999"),
    ] {
        let ran = project.run(&["--accel", "tcg", asked]);
        assert_eq!(ran.code, Some(1), "{}", ran.all());
        assert!(ran.stdout.contains(expected), "{}", ran.all());
    }
}

const CHOICE: &str = r#"
test("one", {tags = {"net", "quick"}, spec = {"4.1", "4.2"}}, function() end)
test("two", {tags = "net", spec = "9", owner = "me"}, function() end)
test("three", {slow = true, tags = {"disk"}}, function() end)
test("four", {skip = "later"}, function() end)
"#;

/// The names of the tests that passed and were skipped, by the lines of `--json`.
fn ran(project: &Project, arguments: &[&str]) -> (String, String) {
    let ran = project.run(&[&["--accel", "tcg", "--json", "--no-tests=pass"], arguments].concat());
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let (mut passed, mut skipped) = (Vec::new(), Vec::new());
    for line in ran.stdout.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for test in line["tests"].as_array().unwrap() {
            let name = test["name"].as_str().unwrap().to_owned();
            match test["status"].as_str().unwrap() {
                "passed" => passed.push(name),
                "skipped" => skipped.push(name),
                other => panic!("{name}: {other}"),
            }
        }
    }
    passed.sort();
    (passed.join(" "), skipped.join(" "))
}

#[test]
fn every_flag_of_selection_chooses() {
    let project = Project::new(&[
        ("provium.toml", "[provium]\nroots = [\"tests\"]\n"),
        ("tests/net/a.test.lua", CHOICE),
        ("tests/b.test.lua", "test('other', function() end)"),
        ("tests/helper.lua", "error('no test file')"),
        ("elsewhere/c.test.lua", "error('not in a root')"),
    ]);
    for (arguments, passed, skipped) in [
        (&[][..], "one other two", "three four"),
        (&["--filter", "net/"], "one two", "three four"),
        (&["--filter", "b.test"], "other", ""),
        (&["tests/b.test.lua"], "other", ""),
        (&["tests/net"], "one two", "three four"),
        (&["--include-slow"], "one other three two", "four"),
        (&["tests/net/a.test.lua::three"], "three", ""),
        (&["--test", "^t"], "two", "three"),
        (&["--tag", "quick", "--tag", "disk"], "one", "three"),
        (&["--tag", "net", "--no-tag", "quick"], "two", ""),
        (
            &["--tag-meta", "spec=4.2", "--tag-meta", "spec=9"],
            "one two",
            "",
        ),
        (
            &["--tag-meta", "spec=9", "--tag-meta", "owner=me"],
            "two",
            "",
        ),
        (
            &["--tag-meta", "spec=4.1", "--tag-meta", "owner=me"],
            "",
            "",
        ),
        (
            &["--no-tag-meta", "owner=me", "--filter", "a.test"],
            "one",
            "three four",
        ),
    ] {
        let got = ran(&project, arguments);
        assert_eq!(
            got,
            (passed.to_owned(), skipped.to_owned()),
            "{arguments:?}"
        );
    }
    let none = project.run(&["--accel", "tcg", "--tag", "nosuch"]);
    assert_eq!(none.code, Some(4), "{}", none.all());
    assert!(none.stderr.contains("no test matches"), "{}", none.all());
    assert!(
        none.stdout.starts_with("0 files: no tests"),
        "no file ran: {}",
        none.all()
    );
    let none = project.run(&["--tag", "nosuch", "--no-tests", "pass"]);
    assert_eq!(none.code, Some(0), "{}", none.all());
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_runs() {
    let project = Project::new(&[("a.test.lua", TESTS)]);
    for (arguments, expected) in [
        (&["--test", "("][..], "regex"),
        (&["--tag-meta", "spec"], "`spec` is not KEY=VALUE"),
        (&["--timeout", "soon"], "`soon` is not a duration"),
        (&["--mem", "lots"], "`lots` is not a size"),
        (&["--cpus", "0"], "0 is not in 1"),
        (&["--accel", "fast"], "possible values: auto, kvm, tcg"),
        (&["--vmm", "xen"], "possible values"),
        (&["-v", "-q"], "cannot be used with"),
        (&["--json", "--events-stdout"], "cannot be used with"),
        (&["--config", "none.toml"], "`none.toml` cannot be read"),
        (
            &["provium.test"],
            "no such file or directory: `provium.test`",
        ),
        (&["home/qemu"], "not a test file"),
    ] {
        let ran = project.run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.all());
        assert!(
            ran.stderr.contains(expected),
            "{arguments:?}: {}",
            ran.all()
        );
        assert!(ran.stdout.is_empty(), "{arguments:?}: {}", ran.all());
    }
}

#[test]
fn fail_fast_starts_no_further_file_and_quiet_prints_only_failures() {
    let project = Project::new(&[
        ("a.test.lua", FAILING),
        ("b.test.lua", TESTS),
        ("c.test.lua", TESTS),
    ]);
    let quiet = project.run(&["--accel", "tcg", "-q"]);
    assert_eq!(quiet.code, Some(1), "{}", quiet.all());
    for (text, is_there) in [
        ("FAIL a.test.lua", true),
        ("PASS", false),
        ("3 files: ", true),
    ] {
        assert_eq!(
            quiet.stdout.contains(text),
            is_there,
            "{text}: {}",
            quiet.all()
        );
    }
    let verbose = project.run(&["--accel", "tcg", "-v", "b.test.lua"]);
    for text in [
        "pass b.test.lua::adds",
        "adding",
        "skip b.test.lua::sleeps: slow; --include-slow runs it",
        "--seed ",
    ] {
        assert!(verbose.stdout.contains(text), "{text}: {}", verbose.all());
    }
    // One after the other, in the order of their names: a first run knows of nothing else.
    let fresh = Project::new(&[
        ("a.test.lua", FAILING),
        ("b.test.lua", TESTS),
        ("c.test.lua", TESTS),
    ]);
    let fast = fresh.run(&["--accel", "tcg", "--fail-fast", "--cpus", "1"]);
    assert_eq!(fast.code, Some(1), "{}", fast.all());
    assert!(fast.stdout.contains("FAIL a.test.lua"), "{}", fast.all());
    assert!(!fast.stdout.contains("PASS"), "{}", fast.all());
    let not_run = "b.test.lua::adds: a test failed before (--fail-fast)";
    assert!(fast.stdout.contains(not_run), "{}", fast.all());
    assert!(
        fast.stdout
            .contains("1 file: 1 passed, 1 failed, 4 not run; "),
        "{}",
        fast.all()
    );

    // Within a file, too.
    let first = Project::new(&[(
        "a.test.lua",
        "test('fails', function() error('x') end)\ntest('later', function() end)\n",
    )]);
    let fast = first.run(&["--accel", "tcg", "--fail-fast"]);
    assert!(
        fast.stdout
            .contains("FAIL a.test.lua (1 failed, 1 not run)"),
        "{}",
        fast.all()
    );
}

#[test]
fn the_pool_is_as_large_as_requested() {
    let boots = "test('boots', function() provium:vm('v', 'default', {memory = '1G', cpus = 3}):boot() end)";
    let project = Project::new(&[("a.test.lua", boots)]);
    let ran = project.run(&["--accel", "tcg", "--mem", "512M", "--cpus", "2"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    let expected = "needs 1124 MiB and 3 vCPUs, but the pool has 512 MiB and 2 vCPUs in all";
    assert!(ran.stdout.contains(expected), "{}", ran.all());
    let ran = project.run(&[
        "--accel",
        "tcg",
        "--mem",
        "4G",
        "--cpus",
        "2",
        "--cpu-overcommit",
        "0.5",
    ]);
    assert!(
        ran.stdout
            .contains("needs 3 vCPUs, but the pool has 1 vCPU in all"),
        "{}",
        ran.all()
    );
}

#[test]
fn nothing_is_left_in_the_project() {
    let project = Project::new(&[("a.test.lua", TESTS)]);
    assert_eq!(project.run(&["--accel", "tcg"]).code, Some(0));
    let mut left: Vec<PathBuf> = std::fs::read_dir(project.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    left.retain(|path| !path.ends_with("a.test.lua") && !path.ends_with("home"));
    assert!(left.is_empty(), "{left:?}");
}
