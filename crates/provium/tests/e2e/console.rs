//! `provium console`, with pipes and on a terminal, and the failures that it enters.

use crate::process::{children, is_gone, send_signal, wait_for, wait_until};
use crate::project::{Project, provium};
use rustix::termios::{InputModes, LocalModes, OutputModes, tcgetattr};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Output, Stdio};
use std::sync::{Arc, Mutex};

/// A command of the executable on a terminal of 30 lines and 100 columns.
struct Terminal {
    pty: pty_process::blocking::Pty,
    child: Child,
    /// Everything that was printed.
    printed: Arc<Mutex<Vec<u8>>>,
    /// How much of it was awaited.
    awaited: usize,
}

impl Terminal {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let (pty, pts) = pty_process::blocking::open().unwrap();
        pty.resize(pty_process::Size::new(30, 100)).unwrap();
        let like = project.command(provium());
        let mut command = pty_process::blocking::Command::new(provium())
            .args(arguments)
            .current_dir(project.path())
            .env("TERM", "vt100");
        for (name, value) in like.get_envs() {
            command = match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let child = command.spawn(pts).unwrap();
        let printed = Arc::<Mutex<Vec<u8>>>::default();
        let mut reader = File::from(pty.as_fd().try_clone_to_owned().unwrap());
        let bytes = Arc::clone(&printed);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            // EIO when no process has the terminal any more.
            while let Ok(count @ 1..) = reader.read(&mut piece) {
                bytes.lock().unwrap().extend_from_slice(&piece[..count]);
            }
        });
        Self {
            pty,
            child,
            printed,
            awaited: 0,
        }
    }

    fn keys(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.pty
            .resize(pty_process::Size::new(rows, columns))
            .unwrap();
    }

    fn screen(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap()).into_owned()
    }

    /// Waits until `text` is printed, after what was awaited before.
    fn wait_for(&mut self, text: &str) {
        let (printed, from) = (Arc::clone(&self.printed), self.awaited);
        let end = || {
            let printed = printed.lock().unwrap();
            let rest = &printed[from..];
            let at = rest
                .windows(text.len())
                .position(|it| it == text.as_bytes());
            at.map(|at| from + at + text.len())
        };
        let failed = || self.screen();
        wait_until(&format!("{text:?}"), || end().is_some(), failed);
        self.awaited = end().unwrap();
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.pty).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG)
    }

    fn modes(&self) -> (LocalModes, InputModes, OutputModes) {
        let termios = tcgetattr(&self.pty).unwrap();
        (
            termios.local_modes,
            termios.input_modes,
            termios.output_modes,
        )
    }

    fn machines(&self) -> Vec<u32> {
        children(self.child.id())
    }

    /// Waits for the end, which must leave no machine and the terminal as it was.
    fn ends_with(mut self, code: i32) {
        let machines = self.machines();
        let mut status = None;
        let (child, printed) = (&mut self.child, &self.printed);
        let ended = || {
            status = child.try_wait().unwrap();
            status.is_some()
        };
        let failed = || String::from_utf8_lossy(&printed.lock().unwrap()).into_owned();
        wait_until("the end of the console", ended, failed);
        assert_eq!(status.unwrap().code(), Some(code), "{}", self.screen());
        assert!(!self.is_raw(), "the terminal is still in raw mode");
        for machine in machines {
            wait_for("the end of the machine", || is_gone(machine));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the executable with this standard input.
fn fed(project: &Project, arguments: &[&str], input: &str) -> Output {
    project.write("input", input);
    let mut command = project.command(provium());
    command.args(arguments);
    let input = File::open(project.file("input")).unwrap();
    command.stdin(Stdio::from(input)).output().unwrap()
}

#[test]
#[ignore = "boots guests"]
fn a_shell_has_the_users_terminal() {
    let project = Project::new(&[]);
    let mut terminal = Terminal::start(&project, &["console", "--name", "box"]);
    assert!(!terminal.is_raw());
    terminal.wait_for("vm `box`, ready in");
    terminal.wait_for("# ");
    assert!(terminal.is_raw());
    // What is awaited is not in the line that the shell echoes.
    terminal.keys("echo host-$(hostname) home-$PWD term-$TERM\r");
    terminal.wait_for("host-box home-/root term-vt100");
    terminal.keys("echo size-$(stty size)\r");
    terminal.wait_for("size-30 100");
    terminal.resize(40, 120);
    terminal.keys("until [ \"$(stty size)\" = '40 120' ]; do sleep 0.1; done; echo now-$((1+1))\r");
    terminal.wait_for("now-2");
    terminal.keys("echo go-$((1+1)); sleep 1000\r");
    terminal.wait_for("go-2");
    terminal.keys("\x03");
    terminal.wait_for("# ");
    terminal.keys("echo code-$?\r");
    terminal.wait_for("code-130");
    terminal.keys("exit\r");
    terminal.ends_with(0);
}

#[test]
#[ignore = "boots guests"]
fn a_guest_that_hangs_is_left_by_a_key() {
    let project = Project::new(&[]);
    let script = "trap '' INT TERM HUP; echo ready; while :; do sleep 1000; done";
    let mut terminal = Terminal::start(&project, &["console", "--", "sh", "-c", script]);
    terminal.wait_for("ready\r\n");
    terminal.keys("\x03\x1a\x1d");
    terminal.ends_with(130);
}

#[test]
#[ignore = "boots guests"]
fn the_terminal_is_restored_when_the_guest_ends() {
    let project = Project::new(&[]);
    let mut terminal = Terminal::start(&project, &["console"]);
    terminal.wait_for("# ");
    terminal.keys("poweroff -f\r");
    terminal.wait_for("error: vm `default`");
    terminal.ends_with(1);
}

#[test]
#[ignore = "boots guests"]
fn the_terminal_is_restored_after_sigterm() {
    let project = Project::new(&[]);
    let mut terminal = Terminal::start(&project, &["console"]);
    terminal.wait_for("# ");
    send_signal(terminal.child.id(), "TERM");
    terminal.ends_with(130);
}

/// The guest does not let the shell end, so the first signal waits for it.
#[test]
#[ignore = "boots guests"]
fn the_terminal_is_restored_by_a_second_signal() {
    let project = Project::new(&[]);
    let mut terminal = Terminal::start(&project, &["console"]);
    terminal.wait_for("# ");
    let process = terminal.child.id();
    for machine in terminal.machines() {
        send_signal(machine, "STOP");
    }
    send_signal(process, "TERM");
    terminal.wait_for("a second signal stops at once");
    assert!(!terminal.is_raw());
    send_signal(process, "TERM");
    terminal.ends_with(130);
}

/// It is in C code of Lua that nothing interrupts, so that the first signal does not end it.
const HANGS: &str = r#"local endless = setmetatable({}, {__len = function() return math.maxinteger - 1 end})
test("hangs", function() table.remove(endless, 1) end)
"#;

#[test]
fn a_run_that_is_stopped_at_once_leaves_the_terminal_as_it_was() {
    let project = Project::new(&[("a.test.lua", HANGS), ("b.test.lua", HANGS)]);
    let mut terminal = Terminal::start(&project, &["--accel", "tcg", "--cpus", "2"]);
    let before = terminal.modes();
    // The live lines.
    terminal.wait_for("0/2 files");
    terminal.keys("\x03");
    terminal.wait_for("a second signal stops at once");
    terminal.keys("\x03");
    terminal.wait_for("stopped at once\r\n");
    let awaited = terminal.awaited;
    let after = terminal.modes();
    let printed = Arc::clone(&terminal.printed);
    terminal.ends_with(130);
    assert_eq!(before, after);
    let printed = printed.lock().unwrap();
    let last = String::from_utf8_lossy(&printed[awaited..]);
    assert!(!last.contains("0/2 files"), "a live line is left: {last:?}");
    // A cursor that was hidden would be shown again.
    let all = String::from_utf8_lossy(&printed);
    assert_eq!(
        all.matches("\x1b[?25l").count(),
        all.matches("\x1b[?25h").count()
    );
}

#[test]
#[ignore = "boots guests"]
fn a_command_has_the_streams_and_the_exit_code() {
    let project = Project::new(&[("data/tool.sh", "#!/bin/sh\necho tool $1\n")]);
    let echo = project.provium(&["console", "--", "sh", "-c", "echo out; echo err >&2"]);
    assert_eq!(echo.stdout, "out\n", "{}", echo.all());
    // After a notice, if another boot is making the template.
    assert!(echo.stderr.ends_with("err\n"), "{}", echo.all());
    echo.passes();

    let failed = project.provium(&["console", "--", "sh", "-c", "exit 3"]);
    let failed = failed.exits_with(1);
    failed.warns("the command exited with code 3");
    let missing = project.provium(&["console", "--", "/no/such/program"]);
    missing.exits_with(1).warns("ENOENT");
    let unknown = project.provium(&["console", "defautl"]);
    unknown.exits_with(2).warns("did you mean `default`");

    let push = ["console", "--push", "data/tool.sh:/tmp/", "--", "sh", "-c"];
    let pushed = project.provium(&[&push[..], &["sh /tmp/tool.sh works"]].concat());
    assert_eq!(pushed.stdout, "tool works\n", "{}", pushed.all());
    pushed.passes();
    let push = [
        "console",
        "--push",
        "data:/srv/data",
        "--",
        "ls",
        "/srv/data",
    ];
    let pushed = project.provium(&push);
    assert_eq!(pushed.stdout, "tool.sh\n", "{}", pushed.all());
    pushed.passes();
}

#[test]
#[ignore = "boots guests"]
fn a_script_on_standard_input_is_run() {
    let project = Project::new(&[]);
    let ran = fed(&project, &["console"], "echo one\nfalse || echo two >&2\n");
    assert_eq!(ran.stdout, b"one\n", "{ran:?}");
    assert!(ran.stderr.ends_with(b"two\n"), "{ran:?}");
    assert_eq!(ran.status.code(), Some(0));
    let ran = fed(&project, &["console"], "exit 7\n");
    assert_eq!(ran.status.code(), Some(1), "{ran:?}");

    // More than any buffer, in both directions.
    let text: String = (0..300_000).map(|line| format!("{line}\n")).collect();
    let ran = fed(&project, &["console", "--", "cat"], &text);
    assert!(ran.stdout == text.as_bytes(), "{} bytes", ran.stdout.len());
}

const FAILS: &str = r#"
local web = provium:vm("web", "default"):boot()
test("passes", function() end)
test("makes a file", function(t)
  local gone = provium:vm("gone", "default"):boot()
  pcall(gone.run, gone, "echo last words > /dev/console; poweroff -f")
  web:run_async("sleep 4242")
  local tail = web:tail_file("/etc/passwd")
  web:write_file("/tmp/made", "by the test")
  t:defer(function() web:unlink("/tmp/made") end)
  t:assert_eq(1, 2)
end)
test("fails later", function(t) t:fail("another") end)
"#;

#[test]
#[ignore = "boots guests"]
fn the_vms_of_the_first_failed_test_can_be_entered_later() {
    let project = Project::new(&[("fails.test.lua", FAILS)]);
    let ran = project.run(&["--on-failure", "keep", "fails.test.lua"]);
    let ran = ran.exits_with(1);
    let command = regex::Regex::new(r"`provium console --resume ([0-9a-f]+) web`").unwrap();
    let all = ran.all();
    let ids: Vec<_> = command.captures_iter(&ran.stdout).collect();
    assert!(!ids.is_empty(), "{all}");
    let id = &ids[0][1];
    assert!(ids.iter().all(|found| &found[1] == id), "{all}");

    let look = "cat /tmp/made; ps | grep -c '[s]leep 4242'; rm /tmp/made; killall sleep";
    for _ in 0..2 {
        let entered = project.provium(&["console", "--resume", id, "web", "--", "sh", "-c", look]);
        assert_eq!(entered.stdout, "by the test1\n", "{}", entered.all());
        entered.passes();
    }
    let dead = project.provium(&["console", "--resume", id, "gone"]);
    let dead = dead.exits_with(1);
    dead.prints("last words");
    dead.warns("only its console");
    let which = project.provium(&["console", "--resume", id, "wbe"]);
    which.exits_with(2).warns("did you mean `web`");

    let list = project.provium(&["kept", "list"]);
    list.prints(id);
    list.prints("makes a file");
    list.passes();
    project.provium(&["kept", "clean", id]).passes();
    project.provium(&["kept", "list"]).does_not_print(id);
    let gone = project.provium(&["console", "--resume", id]);
    gone.exits_with(2).warns("provium kept list");
}
