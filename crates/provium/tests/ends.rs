//! How a run ends: by signals, under limits of the host, with output that is not read, and where it was
//! started. No guest is needed.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]
#![expect(
    clippy::disallowed_methods,
    reason = "the executable is started as a user would"
)]

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A stand-in that runs the trial guest and nothing else.
const QEMU: &str = r#"#!/bin/sh
case "$*" in
  *--version*) echo QEMU emulator version 9.0.0 ;;
  *"-accel tcg"*) printf 'work\n70b20001 done\n' ;;
  *) echo no machine >&2; exit 1 ;;
esac
"#;

/// Longer than anything takes here on a busy host.
const SOON: Duration = Duration::from_secs(60);

struct Project(tempfile::TempDir);

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let project = Self(tempfile::tempdir().unwrap());
        for (path, text) in files.iter().chain(&[("home/qemu", QEMU)]) {
            let path = project.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(project.path().join("home/qemu"), executable).unwrap();
        project
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// A shell that runs `script`, in which `$provium` is the executable.
    fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).current_dir(self.path());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.path().join("home"))
            .env("PROVIUM_QEMU", self.path().join("home/qemu"))
            .env("provium", env!("CARGO_BIN_EXE_provium"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, script: &str) -> Output {
        self.shell(script).output().unwrap()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn await_that(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn signal(process: u32, name: &str) {
    let sent = Command::new("kill")
        .args([&format!("-{name}"), &process.to_string()])
        .status();
    assert!(sent.unwrap().success());
}

/// The exit code of a child that ends soon.
fn ends(mut child: Child) -> Option<i32> {
    let mut code = None;
    await_that("the end of the run", || {
        code = child.try_wait().unwrap();
        code.is_some()
    });
    code.unwrap().code()
}

fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next();
    state.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

const PASSES: &str = "test('passes', function() end)\n";
const WAITS: &str = "test('waits', function() host.sleep(600) end)\n";

#[test]
fn two_signals_end_a_run_whose_output_is_not_read() {
    let project = Project::new(&[
        (
            "a.test.lua",
            "test('says a lot', function(t) t:fail(('x\\n'):rep(200 * 1024)) end)\n",
        ),
        ("b.test.lua", WAITS),
    ]);
    for (flags, name) in [("", "INT"), ("--json", "TERM"), ("--events-stdout", "HUP")] {
        let script = format!("exec \"$provium\" --accel tcg {flags} 2>/dev/null");
        let mut child = project
            .shell(&script)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // The first byte is there, and the rest does not fit into the pipe.
        let mut unread = child.stdout.take().unwrap();
        unread.read_exact(&mut [0]).unwrap();
        await_that("a writer that waits", || is_writing(child.id()));
        for _ in 0..2 {
            signal(child.id(), name);
            std::thread::sleep(Duration::from_millis(200));
        }
        assert_eq!(ends(child), Some(130), "{name} {flags}");
        drop(unread);
    }
}

/// Whether the thread that writes the output waits in a write to a pipe.
fn is_writing(process: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    tasks.into_iter().flatten().flatten().any(|task| {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        read("comm").trim() == "output" && read("syscall").starts_with("1 0x1 ")
    })
}

#[test]
fn the_end_of_the_terminal_ends_a_run_unless_it_is_ignored() {
    let project = Project::new(&[("a.test.lua", WAITS)]);
    for (ignored, name, code) in [("", "HUP", Some(130)), ("trap '' HUP;", "HUP", None)] {
        let script = format!("{ignored} exec \"$provium\" --accel tcg --save-events e 2>err");
        let _ = std::fs::remove_file(project.file("e"));
        let child = project
            .shell(&script)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        await_that("a test that runs", || {
            let saved = std::fs::read(project.file("e")).unwrap_or_default();
            text(&saved).contains("test_started")
        });
        let process = child.id();
        signal(process, name);
        if code.is_none() {
            // It would have said so at once; the next signal is answered, this one was not.
            signal(process, "TERM");
            assert_eq!(ends(child), Some(130));
            let said = std::fs::read_to_string(project.file("err")).unwrap();
            assert_eq!(said.matches("stopping").count(), 1, "{said}");
            assert!(!said.contains("at once\nprovium: stopped"), "{said}");
        } else {
            assert_eq!(ends(child), code);
        }
    }
}

#[test]
fn a_run_that_is_interrupted_while_it_builds_reports_its_tests() {
    let build = "touch begun; exec sleep 600";
    let config = format!("[profiles.b]\nguest = \"default\"\nbuild = \"{build}\"\n");
    let boots = "local vm = provium:vm('v', 'b')\ntest('boots', function() vm:boot() end)\n";
    let project = Project::new(&[
        ("provium.toml", &config),
        ("a.test.lua", PASSES),
        ("b.test.lua", boots),
    ]);
    let script = "exec \"$provium\" --accel tcg --save-events e >out 2>err";
    let child = project.shell(script).spawn().unwrap();
    await_that("the build", || project.file("begun").exists());
    signal(child.id(), "INT");
    assert_eq!(ends(child), Some(130));
    let read = |name| text(&std::fs::read(project.file(name)).unwrap());
    let report = read("out");
    for line in [
        "  a.test.lua::passes: the run was interrupted\n",
        "  b.test.lua::boots: the run was interrupted\n",
        "\n0 files: 2 not run; ",
    ] {
        assert!(report.contains(line), "{line}: {report}{}", read("err"));
    }
    assert!(read("e").contains("run_completed"));
}

#[test]
fn however_a_run_ends_what_a_build_command_started_ends() {
    let build = "sh -c 'echo $$ > pid; exec sleep 600' & setsid sh -c 'echo $$ > far; exec sleep 600' & sleep 600";
    let project = Project::new(&[
        (
            "provium.toml",
            &format!("[profiles.b]\nguest = \"default\"\nbuild = \"{build}\"\n"),
        ),
        ("b.test.lua", "provium:vm('v', 'b'):boot()\n"),
        (
            "e.test.lua",
            &format!("test('t', function() os.execute(\"{build}\") end)\n"),
        ),
    ]);
    for file in ["b", "e"] {
        for name in ["INT", "KILL"] {
            let pids = ["pid", "far"].map(|name| project.file(name));
            for pid in &pids {
                let _ = std::fs::remove_file(pid);
            }
            let script = format!("exec \"$provium\" --accel tcg {file}.test.lua >out 2>&1");
            let child = project.shell(&script).spawn().unwrap();
            let mut started = Vec::new();
            await_that("what the command starts", || {
                let read = |path| std::fs::read_to_string(path).unwrap_or_default();
                started = pids.iter().map(read).collect();
                started.iter().all(|pid| pid.ends_with('\n'))
            });
            signal(child.id(), name);
            ends(child);
            for pid in started {
                await_that("the end of what was started", || !runs(pid.trim()));
            }
        }
    }
}

#[test]
fn lost_output_fails_the_run() {
    let project = Project::new(&[("a.test.lua", PASSES)]);
    for command in ["", "--json", "--events-stdout", "list", "list --json"] {
        let ran = project.run(&format!("exec \"$provium\" {command} >/dev/full"));
        let said = text(&ran.stderr);
        assert_eq!(ran.status.code(), Some(2), "{command}: {said}");
        assert!(said.contains("cannot write to standard output"), "{said}");
    }
    // Who reads may go away.
    let ran = project.run("\"$provium\" list --json | true; exec \"$provium\" list --json >&-");
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    let ran = project.run("exec \"$provium\" --accel tcg --save-events /dev/full");
    let said = text(&ran.stdout);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("PASS a.test.lua (1 passed"), "{said}");
    assert!(text(&ran.stderr).contains("cannot write events to `/dev/full`"));
}

#[test]
fn low_limits_are_named_and_soft_ones_raised() {
    let project = Project::new(&[("a.test.lua", PASSES)]);
    let ran = project.run("ulimit -n 7; exec \"$provium\" --accel tcg");
    let said = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("64 open files, but the limit is 7"), "{said}");
    let ran = project.run("ulimit -v 500000; exec \"$provium\" --accel tcg");
    let said = text(&ran.stderr);
    assert_eq!(ran.status.code(), Some(2), "{said}");
    assert!(said.contains("address space"), "{said}");
    // The command of a test has the limit that the caller set.
    let limits = "test('t', function(t)\n\
        local f = io.open('/proc/self/limits'); local own = f:read('a'); f:close()\n\
        os.execute('ulimit -n > limit')\n\
        t:assert(not own:find('Max open files%s+40 '), own)\nend)\n";
    let project = Project::new(&[("a.test.lua", limits)]);
    let ran = project.run("ulimit -S -n 40; exec \"$provium\" --accel tcg");
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stdout));
    assert_eq!(
        std::fs::read_to_string(project.file("limit")).unwrap(),
        "40\n"
    );
}

#[test]
fn any_time_limit_is_borne() {
    let project = Project::new(&[("a.test.lua", PASSES)]);
    for limit in ["9223372036854775807", "1.8e19"] {
        let ran = project.run(&format!("exec \"$provium\" --accel tcg --timeout {limit}"));
        assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stdout));
    }
}

#[test]
fn common_flags_may_come_first_and_others_say_where_they_belong() {
    let project = Project::new(&[("c.toml", ""), ("a.test.lua", PASSES)]);
    let ran = project.run("exec \"$provium\" --config c.toml --color never list --json");
    assert_eq!(ran.status.code(), Some(0), "{}", text(&ran.stderr));
    assert!(text(&ran.stdout).contains("\"passes\""));
    let ran = project.run("exec \"$provium\" -v list");
    assert_eq!(ran.status.code(), Some(2));
    let said = text(&ran.stderr);
    assert!(
        said.contains("`list` is a command; it comes first"),
        "{said}"
    );
}

#[test]
fn a_file_finds_its_configuration_whose_folder_is_the_current_one() {
    let look = "test('t', function(t)\n\
        local f = assert(io.open('data.txt')); t:assert_eq(f:read('a'), 'here'); f:close()\nend)\n";
    let project = Project::new(&[
        ("project/provium.toml", "[provium]\nroots = [\"tests\"]\n"),
        ("project/data.txt", "here"),
        ("project/tests/a.test.lua", look),
        ("elsewhere/b.test.lua", PASSES),
    ]);
    for (folder, path) in [
        ("elsewhere", "../project/tests/a.test.lua"),
        ("elsewhere", "../project/tests/a.test.lua::t"),
        ("project/tests", ""),
        ("elsewhere", "--config ../project/provium.toml"),
    ] {
        let ran = project.run(&format!(
            "cd {folder} && exec \"$provium\" --accel tcg --save-events events {path}"
        ));
        assert_eq!(ran.status.code(), Some(0), "{path}: {}", text(&ran.stdout));
        // What was typed is meant where it was typed.
        std::fs::remove_file(project.file(folder).join("events")).unwrap();
    }
}

#[test]
fn nothing_printed_is_a_command_or_a_forged_line() {
    let name = r"x\nPASS forged.test.lua (9 passed)\27]0;title\7";
    let source = format!(
        "provium.retries = 1\nlocal n = 0\n\
         test(\"{name}\", function(t) n = n + 1; t:assert_eq(n, 2) end)\n\
         test(\"skipped\", {{skip = \"{name}\"}}, function() end)\n\
         test(\"fails\", function() error(\"{name}\") end)\n"
    );
    let project = Project::new(&[("a.test.lua", &source), ("b.test.lua", PASSES)]);
    std::fs::rename(
        project.file("b.test.lua"),
        project.file("b\u{1b}]0;title\u{7}.test.lua"),
    )
    .unwrap();
    for command in [
        "-v --accel tcg",
        "list",
        "--accel tcg --json",
        "list --json",
        "gone\u{1b}[2J",
    ] {
        let ran = project.run(&format!("exec \"$provium\" --color always {command}"));
        let printed = text(&ran.stdout) + &text(&ran.stderr);
        assert!(!printed.contains("\nPASS forged"), "{command}: {printed}");
        let left = printed.replace("\u{1b}[", "");
        let commands = left.contains(|c: char| c.is_control() && c != '\n');
        assert!(
            !commands && !printed.contains("\u{1b}[2J"),
            "{command}: {printed:?}"
        );
    }
}

#[test]
fn a_test_that_is_expected_to_fail_is_not_tried_again() {
    let project = Project::new(&[(
        "a.test.lua",
        "provium.retries = 3\ntest('known', {expect_fail = 'a bug'}, function(t) t:fail('it') end)\n",
    )]);
    let ran = project.run("exec \"$provium\" --accel tcg --json");
    assert_eq!(ran.status.code(), Some(0));
    let line: serde_json::Value = serde_json::from_slice(&ran.stdout).unwrap();
    assert_eq!(line["tests"][0]["status"], "passed");
    assert_eq!(line["tests"][0]["attempts"], 1);
}

/// Hangs in a function of Lua that cannot be interrupted.
const HANGS: &str = "local endless = setmetatable({}, {__len = function() return math.maxinteger - 1 end})\n\
    test('ends', function() end)\n\
    test('hangs', function() table.remove(endless, 1) end)\n\
    test('comes later', function() end)\n";

#[test]
fn a_run_that_is_ended_at_once_reports_what_there_is() {
    let project = Project::new(&[("a.test.lua", HANGS)]);
    let script = "exec \"$provium\" --accel tcg --save-events events --junit out.xml >out 2>err";
    let child = project.shell(script).spawn().unwrap();
    let read = |name: &str| {
        let bytes = std::fs::read(project.file(name)).unwrap_or_default();
        text(&bytes)
    };
    await_that("a test that hangs", || {
        read("events").matches("test_started").count() == 2
    });
    signal(child.id(), "INT");
    await_that("the first answer", || read("err").contains("stopping"));
    signal(child.id(), "INT");
    assert_eq!(ends(child), Some(130));
    let out = read("out");
    for part in [
        "INTR a.test.lua (1 passed, 1 interrupted, 1 not run) ",
        "not run:\n  a.test.lua::comes later: the run was interrupted\n",
        "interrupted:\n  a.test.lua::hangs\n",
        "1 file: 1 passed, 1 interrupted, 1 not run; ",
    ] {
        assert!(out.contains(part), "{part}: {out}{}", read("err"));
    }
    assert!(read("events").contains("run_completed"));
    assert!(read("out.xml").contains("type=\"interrupted\""));
}
