//! What runs report and how they are repeated, where no guest is needed.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

mod project;

use project::{FAILING, Project, RunOutput, redacted};

const COUNTED: &str = "test('one', function() end)\ntest('two', function() end)\n";

#[test]
fn tests_of_a_file_that_fails_before_they_start_are_not_run() {
    let top_level = format!("test('first', function() end)\nerror('no database')\n{COUNTED}");
    let boots = format!("provium:vm('v', 'default'):boot()\n{COUNTED}");
    let project = Project::new(&[("a.test.lua", &top_level), ("b.test.lua", &boots)]);
    let ran = project.run(&["--accel", "tcg", "b.test.lua"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert!(
        ran.stdout.contains("FAIL b.test.lua (1 failed, 2 not run)"),
        "{}",
        ran.all()
    );
    let line = "  b.test.lua::two: its file failed before\n";
    assert!(ran.stdout.contains(line), "{}", ran.all());
    let ran = project.run(&["--accel", "tcg", "--json", "b.test.lua"]);
    let line: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(line["tests"][1]["status"], "not_run");
    assert_eq!(line["tests"][1]["message"], "its file failed before");
}

#[test]
fn names_of_files_can_be_given_to_the_next_run() {
    let project = Project::new(&[
        ("provium.toml", "[provium]\nroots = [\"tests\"]\n"),
        ("tests/b.test.lua", FAILING),
        (
            "tests/helpers/guard.lua",
            "return function() error('guarded') end\n",
        ),
        (
            "tests/c.test.lua",
            "local guard = require 'helpers.guard'\ntest('c', function() guard() end)\n",
        ),
    ]);
    let ran = project.run(&["--accel", "tcg"]);
    for text in [
        "fail tests/b.test.lua::fails ",
        "--> tests/b.test.lua:3:3",
        "--> tests/helpers/guard.lua:1:",
        "  tests/b.test.lua::fails\n    tests/b.test.lua:3: ",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.all());
    }
    for (pasted, counts) in [
        ("tests/b.test.lua:3:3", None),
        ("tests/b.test.lua:7:12", Some("(1 failed)")),
        ("tests/b.test.lua::works", Some("(1 passed)")),
    ] {
        let ran = project.run(&["--accel", "tcg", pasted]);
        let expected = counts.unwrap_or("no test is declared around line 3");
        assert!(ran.stdout.contains(expected), "{pasted}: {}", ran.all());
    }
    // The random numbers of a test do not depend on where the run was started.
    std::fs::write(
        project.path().join("tests/r.test.lua"),
        "test('r', function(t) t:log(math.random(1 << 40)) end)\n",
    )
    .unwrap();
    let numbers = |folder: &str| {
        let arguments = ["--accel", "tcg", "--seed", "7", "--json", "r.test.lua"];
        let mut command = project.command(&arguments);
        if folder == "." {
            command = project.command(&[&arguments[..5], &["tests/r.test.lua"]].concat());
        }
        let ran = RunOutput::of(
            command
                .current_dir(project.path().join(folder))
                .output()
                .unwrap(),
        );
        let line: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        line["tests"][0]["log"][0].as_str().unwrap().to_owned()
    };
    assert_eq!(numbers("."), numbers("tests"));
}

#[test]
fn the_seed_is_shown_where_it_matters() {
    let project = Project::new(&[
        ("a.test.lua", "test('a', function() error('x') end)\n"),
        (
            "b.test.lua",
            "test('b', function() error(math.random(9)) end)\n",
        ),
    ]);
    let ran = project.run(&["--accel", "tcg", "--seed", "7", "a.test.lua"]);
    assert!(!ran.stdout.contains("--seed"), "{}", ran.all());
    let ran = project.run(&["--accel", "tcg", "--seed", "7", "b.test.lua"]);
    assert!(
        ran.stdout.contains("repeat with --seed 7\n"),
        "{}",
        ran.all()
    );
}

/// Fails at its first attempts, as often as the file `left` in the current folder says.
const FLAKY: &str = r#"
test("flaky", function(t)
  local file = io.open("left")
  local left = file and tonumber(file:read("a")) or 0
  if file then file:close() end
  if left > 0 then
    file = io.open("left", "w"); file:write(left - 1); file:close()
    error("not yet: " .. left)
  end
end)
"#;

fn flaky(fails: u32) -> Project {
    let project = Project::new(&[("provium.toml", ""), ("a.test.lua", FLAKY)]);
    fails_next(&project, fails);
    project
}

fn fails_next(project: &Project, times: u32) {
    std::fs::write(project.path().join("left"), times.to_string()).unwrap();
}

#[test]
fn a_retried_test_is_flaky_and_each_failure_is_shown() {
    let project = flaky(2);
    let ran = project.run(&["--accel", "tcg", "--retries", "1"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    let attempts = "attempt 1 failed";
    assert!(
        ran.stdout.contains(attempts) && ran.stdout.contains("not yet: 1"),
        "{}",
        ran.all()
    );
    fails_next(&project, 2);
    let ran = project.run(&["--accel", "tcg", "--retries", "2"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    for text in [
        "flaky a.test.lua::flaky ",
        ", 3 attempts\n",
        "flaky:\n  a.test.lua::flaky passed at attempt 3\n    attempt 1: a.test.lua:8: not yet: 2\n",
        "    attempt 2: a.test.lua:8: not yet: 1\n",
        "1 file: 1 passed (1 flaky); ",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.all());
    }
    fails_next(&project, 1);
    let ran = project.run(&["--accel", "tcg", "--retries", "2", "--fail-flaky"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
}

#[test]
fn failed_tests_are_run_again() {
    let passes = "test('one', function() end)\n";
    let broken = format!("error('broken')\n{passes}");
    let project = Project::new(&[
        ("provium.toml", ""),
        ("a.test.lua", FAILING),
        ("b.test.lua", passes),
        ("c.test.lua", &broken),
    ]);
    let ran = project.run(&["--accel", "tcg", "--rerun-failed"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert!(ran.stderr.contains("nothing to run again"), "{}", ran.all());

    assert_eq!(project.run(&["--accel", "tcg"]).code, Some(1));
    for _ in 0..2 {
        let ran = project.run(&["--accel", "tcg", "--rerun-failed"]);
        assert_eq!(ran.code, Some(1), "{}", ran.all());
        assert!(ran.stdout.contains("2 files: 2 failed; "), "{}", ran.all());
        assert!(!ran.stdout.contains("::works"), "{}", ran.all());
    }
    // They pass now; what is recorded stays until something fails.
    for (name, text) in [("a", "test('fails', function() end)\n"), ("c", passes)] {
        std::fs::write(project.path().join(format!("{name}.test.lua")), text).unwrap();
    }
    for _ in 0..2 {
        let ran = project.run(&["--accel", "tcg", "--rerun-failed"]);
        assert_eq!(ran.code, Some(0), "{}", ran.all());
        assert!(ran.stdout.contains("2 files: 2 passed; "), "{}", ran.all());
    }
    // Another file has nothing recorded.
    let mut command = project.command(&["--accel", "tcg", "--rerun-failed"]);
    let ran = RunOutput::of(
        command
            .env("PROVIUM_RERUN_STATE", "state.json")
            .output()
            .unwrap(),
    );
    assert!(ran.stderr.contains("nothing to run again"), "{}", ran.all());
}

#[test]
fn runs_are_repeated_until_one_fails() {
    let project = flaky(0);
    let ran = project.run(&["--accel", "tcg", "--repeat", "3", "--seed", "7", "-v"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    assert_eq!(
        ran.stdout.matches("pass a.test.lua::flaky").count(),
        3,
        "{}",
        ran.all()
    );
    for text in [
        "run 3\n",
        "--seed 7\n",
        "--seed 9\n",
        "\n3 runs: 3 passed; ",
    ] {
        assert!(ran.stdout.contains(text), "{text}: {}", ran.all());
    }
    let counts = "test('third', function()\n\
        local f = io.open('n', 'a'); f:write('x'); f:close()\n\
        f = io.open('n'); local n = #f:read('a'); f:close()\n\
        assert(n < 3, 'the third time')\nend)\n";
    let project = Project::new(&[("provium.toml", ""), ("a.test.lua", counts)]);
    let ran = project.run(&["--accel", "tcg", "--until-fail"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert!(
        ran.stdout.contains("3 runs: 2 passed, 1 failed; "),
        "{}",
        ran.all()
    );
}

#[test]
fn a_shuffled_order_depends_on_its_seed() {
    let tests: String = (0..8)
        .map(|n| format!("test('test {n}', function() end)\n"))
        .collect();
    let project = Project::new(&[("a.test.lua", &tests)]);
    let order = |flag: &str| {
        let ran = project.run(&["--accel", "tcg", flag]);
        assert_eq!(ran.code, Some(0), "{}", ran.all());
        let lines = ran
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("pass "));
        let names = lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, _)| name.to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(order("--shuffle=1"), order("--shuffle=1"));
    assert_ne!(order("--shuffle=1"), order("--shuffle=2"));
    assert_eq!(order("--shuffle").len(), 8);
    let failing = Project::new(&[("a.test.lua", FAILING)]);
    let ran = failing.run(&["--accel", "tcg", "--shuffle=5"]);
    assert!(
        ran.stdout.contains("repeat with --shuffle=5\n"),
        "{}",
        ran.all()
    );
}

/// Compares two tables, of whose differences a message shows a part.
const DIFFERS: &str = r#"
test("differs", function(t)
  local one, other = {}, {}
  for i = 1, 300 do one[i], other[i] = i, -i end
  t:assert_same(one, other)
end)
"#;

#[test]
fn all_differences_of_tables_are_kept_in_a_file() {
    let project = Project::new(&[("provium.toml", ""), ("a.test.lua", DIFFERS)]);
    let ran = project.run(&["--accel", "tcg"]);
    let named = regex::Regex::new(r"… and 280 more; all are in (\S+)\n").unwrap();
    let file = named
        .captures(&ran.stdout)
        .unwrap_or_else(|| panic!("{}", ran.all()));
    let text = std::fs::read_to_string(project.path().join(&file[1])).unwrap();
    assert_eq!(text.lines().count(), 300);
    assert!(text.starts_with("[1]: 1 ~= -1\n") && text.ends_with("[300]: 300 ~= -300\n"));
}

/// Compares two texts, of which a message shows a part.
const COMPARES: &str = r#"
local function text(last)
  local lines = {}
  for i = 1, 300 do lines[i] = "key" .. i end
  return table.concat(lines, "\n") .. "\n" .. last .. "\n"
end
test("compares", function(t)
  pcall(t.assert_eq, t, text("caught"), "")
  t:assert_eq(text("actual"), text("expected"))
end)
test("passes", function(t) t:assert_raises(function() t:assert_eq(text("a"), text("b")) end) end)
"#;

#[test]
fn what_a_message_cuts_is_kept_in_files() {
    let project = Project::new(&[("provium.toml", ""), ("a.test.lua", COMPARES)]);
    let named = regex::Regex::new(r"is whole in (\S+) ").unwrap();
    let kept = |ran: &RunOutput| -> Vec<String> {
        let paths = named
            .captures_iter(&ran.stdout)
            .map(|found| found[1].to_owned());
        let read = paths.map(|path| std::fs::read_to_string(project.path().join(path)).unwrap());
        read.collect()
    };
    let is_whole = |text: &str, last: &str| {
        assert!(text.starts_with("key1\n") && text.ends_with(last), "{text}");
    };
    let count = |folder: &str| {
        std::fs::read_dir(project.path().join(folder))
            .unwrap()
            .count()
    };
    let ran = project.run(&["--accel", "tcg"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    let texts = kept(&ran);
    // The assertion that was caught failed the test first.
    is_whole(&texts[0], "key300\ncaught\n");
    is_whole(&texts[1], "key300\nactual\n");
    is_whole(&texts[2], "key300\nexpected\n");
    let folder = "home/.cache/provium/output";
    assert!(
        ran.stdout.contains(&format!(" {folder}/1/")),
        "{}",
        ran.all()
    );
    assert_eq!((count(folder), count(&format!("{folder}/1"))), (1, 3));

    // Nothing is left of a run that passes.
    let ran = project.run(&["--accel", "tcg", "a.test.lua::passes"]);
    assert_eq!((ran.code, count(folder)), (Some(0), 1), "{}", ran.all());

    let ran = project.run(&["--accel", "tcg", "--junit", "out.xml"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert_eq!((kept(&ran), count(folder)), (texts, 1));
    let document = std::fs::read_to_string(project.path().join("out.xml")).unwrap();
    let reference = "[[ATTACHMENT|out.xml.attachments/output/";
    assert_eq!(document.matches(reference).count(), 3, "{document}");
}

#[test]
fn a_junit_report_is_written_with_its_attachments() {
    let source = format!(
        "{FAILING}\ntest('attaches', {{spec = '4.2'}}, function(t) t:attach('a/b.txt', 'kept') end)\n"
    );
    let project = Project::new(&[
        ("provium.toml", ""),
        ("a.test.lua", &source),
        ("b.test.lua", "error('no')\n"),
    ]);
    let ran = project.run(&[
        "--accel", "tcg", "--cpus", "1", "--seed", "7", "--junit", "out.xml",
    ]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    let read = |name: &str| std::fs::read_to_string(project.path().join(name)).unwrap();
    let times = regex::Regex::new(r#"time="[0-9.]+""#).unwrap();
    let hosts = regex::Regex::new(r#"name="host" value="[^"]*""#).unwrap();
    let document = read("out.xml");
    let document = times.replace_all(&document, "time=\"[time]\"");
    insta::assert_snapshot!(hosts.replace_all(&document, "name=\"host\" value=\"[host]\""));
    assert_eq!(read("out.xml.attachments/1-a_b.txt"), "kept");
    // Attachments of an older report do not stay.
    let ran = project.run(&["--accel", "tcg", "--junit", "out.xml", "b.test.lua"]);
    assert_eq!(ran.code, Some(1), "{}", ran.all());
    assert!(!project.path().join("out.xml.attachments").exists());

    let ran = project.run(&["--accel", "tcg", "--junit", "no/such/folder.xml"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    assert!(
        ran.stderr.contains("cannot write the report to"),
        "{}",
        ran.all()
    );
    assert!(ran.stdout.is_empty(), "nothing ran: {}", ran.all());
}

#[test]
fn dropped_frames_are_reported_with_their_reasons_where_all_is_wanted() {
    let script = r"local lan = provium:bridge('lan')
local a, b = lan:port('a'), lan:port('b')
local frame = string.rep('\xff', 6) .. '\x02' .. string.rep('\0', 5) .. '\x88\xb5hello'
test('cut', function() lan:partition(a, b); a:send(frame); a:send(frame) end)
test('whole', function() lan:reset(); a:send(frame) end)
";
    let project = Project::new(&[("a.test.lua", script)]);
    let ran = project.run(&["--accel", "tcg", "-v"]);
    assert_eq!(ran.code, Some(0), "{}", ran.all());
    let line = "bridge `lan`: a → b: 2 dropped: partition\n";
    assert_eq!(ran.stdout.matches(line).count(), 1, "{}", ran.all());
    let ran = project.run(&["--accel", "tcg"]);
    assert!(!ran.stdout.contains("dropped"), "{}", ran.all());
}

#[test]
fn a_word_that_is_not_a_command_is_answered_with_the_commands() {
    let project = Project::new(&[]);
    let ran = project.run(&["lst"]);
    assert_eq!(ran.code, Some(2), "{}", ran.all());
    for text in [
        "no command and no path is named `lst`",
        "did you mean `list`?",
        "doctor",
    ] {
        assert!(ran.stderr.contains(text), "{text}: {}", ran.all());
    }
    for (arguments, planned) in [
        (&["repl", "--help"][..], "`repl` is not in this version"),
        (&["--watch"], "`--watch` is not in this version"),
        (&["--shard=1/2"], "`--shard` is not in this version"),
        (&["--vmm", "local"], "`--vmm local` is not in this version"),
    ] {
        let ran = project.run(arguments);
        assert_eq!(ran.code, Some(2), "{}", ran.all());
        assert!(ran.stderr.contains(planned), "{arguments:?}: {}", ran.all());
    }
    for arguments in [&["help"][..], &["help", "fixture", "build"]] {
        let ran = project.run(arguments);
        assert_eq!(ran.code, Some(0), "{}", ran.all());
        assert!(ran.stdout.contains("Usage: provium"), "{}", ran.all());
    }
}

#[test]
fn a_run_is_reported_whole() {
    let project = Project::new(&[
        ("a.test.lua", FAILING),
        (
            "b.test.lua",
            "test('known', {expect_fail = 'bug 7'}, function() error('x') end)\n\
          test('later', {skip = 'no device'}, function() end)\n",
        ),
    ]);
    let ran = project.run(&["--accel", "tcg", "--cpus", "1"]);
    insta::assert_snapshot!(redacted(&ran.all()));
}
