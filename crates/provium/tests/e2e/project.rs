//! A project in a temporary folder, and runs of the executable in it.

use crate::process::{self, send_signal, wait_until};
use provium_events::{BootKind, Decoder, Event};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Files of a project, with a folder around it.
pub(crate) struct Project {
    dir: tempfile::TempDir,
    env: RefCell<BTreeMap<String, String>>,
    runs: Cell<u32>,
}

/// The executable under test: `PROVIUM`, or else the one of this build.
pub(crate) fn provium() -> PathBuf {
    let named = std::env::var_os("PROVIUM").filter(|path| !path.is_empty());
    let path = named.map_or_else(|| env!("CARGO_BIN_EXE_provium").into(), PathBuf::from);
    std::path::absolute(path).unwrap()
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self {
            dir: tempfile::tempdir().unwrap(),
            env: RefCell::default(),
            runs: Cell::new(0),
        };
        project.write("provium.toml", "[provium]\n");
        for (path, text) in files {
            project.write(path, text);
        }
        project
    }

    /// The project's own folder, in which its commands run.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("project")
    }

    /// A path beside the project's folder.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn file(&self, path: &str) -> PathBuf {
        self.path().join(path)
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.file(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, path: &str) -> String {
        std::fs::read_to_string(self.file(path)).unwrap()
    }

    /// Changes a file of the project.
    pub(crate) fn edit(&self, path: &str, from: &str, to: &str) {
        let text = self.read(path);
        assert!(text.contains(from), "`{path}` has no `{from}`: {text}");
        self.write(path, &text.replacen(from, to, 1));
    }

    pub(crate) fn remove(&self, path: &str) {
        std::fs::remove_file(self.file(path)).unwrap();
    }

    /// Sets a variable for all commands from now on.
    pub(crate) fn set_env(&self, name: &str, value: &str) {
        let mut env = self.env.borrow_mut();
        env.insert(name.to_owned(), value.to_owned());
    }

    pub(crate) fn remove_env(&self, name: &str) {
        self.env.borrow_mut().remove(name);
    }

    /// A run of test files, whose events are saved.
    pub(crate) fn start(&self, arguments: &[&str]) -> RunningCommand {
        let mut command = self.command(provium());
        let events = self.beside(&format!("{}.events", self.runs.get()));
        command.arg("--save-events").arg(&events).args(arguments);
        self.spawn(command, events)
    }

    /// A run of test files, to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> FinishedCommand {
        self.start(arguments).wait()
    }

    /// Another command of the executable, to its end.
    pub(crate) fn provium(&self, arguments: &[&str]) -> FinishedCommand {
        let mut command = self.command(provium());
        command.args(arguments);
        self.spawn(command, PathBuf::new()).wait()
    }

    /// Another program, in the project's folder.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.path())
            .env("PWD", self.path())
            .env("PROVIUM", provium())
            .env_remove("PROVIUM_CONFIG")
            .envs(&*self.env.borrow());
        command
    }

    /// Starts a command whose output goes to files, so that it can be read meanwhile.
    pub(crate) fn spawn(&self, mut command: Command, events: PathBuf) -> RunningCommand {
        let number = self.runs.replace(self.runs.get() + 1);
        let stdout = self.beside(&format!("{number}.out"));
        let stderr = self.beside(&format!("{number}.err"));
        let child = command
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(&stdout).unwrap())
            .stderr(std::fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        RunningCommand {
            child,
            stdout,
            stderr,
            events,
        }
    }
}

/// A command that runs. It is killed when this is dropped.
pub(crate) struct RunningCommand {
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
    events: PathBuf,
}

impl RunningCommand {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        send_signal(self.pid(), name);
    }

    pub(crate) fn stdout(&self) -> String {
        read(&self.stdout)
    }

    pub(crate) fn stderr(&self) -> String {
        read(&self.stderr)
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        read_events(&self.events)
    }

    /// Waits until `holds` for the run; it must not have ended.
    pub(crate) fn wait_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = std::time::Instant::now() + process::LIMIT;
        loop {
            if holds(self) {
                return;
            }
            let ended = self.child.try_wait().unwrap();
            let is_late = std::time::Instant::now() > deadline;
            assert!(
                ended.is_none() && !is_late,
                "not before the run's end ({ended:?}): {what}\n{}{}",
                self.stdout(),
                self.stderr()
            );
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Waits until an event was saved.
    pub(crate) fn wait_for_event(&mut self, what: &str, is_it: impl Fn(&Event) -> bool) {
        self.wait_until(what, |run| run.events().iter().any(&is_it));
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self) -> FinishedCommand {
        let mut status = None;
        let (stdout, stderr) = (self.stdout.clone(), self.stderr.clone());
        wait_until(
            "the end of the run",
            || {
                status = self.child.try_wait().unwrap();
                status.is_some()
            },
            || format!("{}{}", read(&stdout), read(&stderr)),
        );
        FinishedCommand {
            status: status.unwrap(),
            stdout: self.stdout(),
            stderr: self.stderr(),
            events: self.events(),
        }
    }
}

impl Drop for RunningCommand {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that has ended.
pub(crate) struct FinishedCommand {
    status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) events: Vec<Event>,
}

impl FinishedCommand {
    /// Panics unless the exit code is this one.
    #[track_caller]
    pub(crate) fn exits_with(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "{}", self.all());
        self
    }

    /// Panics unless the exit code is 0.
    #[track_caller]
    pub(crate) fn passes(self) -> Self {
        self.exits_with(0)
    }

    pub(crate) fn all(&self) -> String {
        format!(
            "{}\n--- stdout\n{}\n--- stderr\n{}",
            self.status, self.stdout, self.stderr
        )
    }

    /// Panics unless `stdout` has this text.
    #[track_caller]
    pub(crate) fn prints(&self, text: &str) {
        assert!(self.stdout.contains(text), "no `{text}`: {}", self.all());
    }

    /// Panics if `stdout` has this text.
    #[track_caller]
    pub(crate) fn does_not_print(&self, text: &str) {
        assert!(!self.stdout.contains(text), "`{text}`: {}", self.all());
    }

    /// Panics unless `stderr` matches the regular expression.
    #[track_caller]
    pub(crate) fn warns(&self, pattern: &str) {
        let regex = regex::Regex::new(pattern).unwrap();
        assert!(
            regex.is_match(&self.stderr),
            "no `{pattern}`: {}",
            self.all()
        );
    }

    /// What the VMs were booted from: `cold`, `template` or `snapshot`, sorted.
    pub(crate) fn boots(&self) -> Vec<&'static str> {
        boots(&self.events)
    }

    pub(crate) fn has_event(&self, is_it: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(is_it)
    }
}

/// What the VMs of these events were booted from, sorted.
pub(crate) fn boots(events: &[Event]) -> Vec<&'static str> {
    let kinds = events.iter().filter_map(|event| match event {
        Event::VmSpawned { boot, .. } => Some(*boot),
        _ => None,
    });
    let mut words: Vec<_> = kinds.map(BootKind::word).collect();
    words.sort_unstable();
    words
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// The events that were saved so far.
fn read_events(path: &Path) -> Vec<Event> {
    let mut decoder = Decoder::new();
    decoder.feed(&std::fs::read(path).unwrap_or_default());
    let mut events = Vec::new();
    while let Some(stamped) = decoder.next_event().unwrap() {
        events.push(stamped.event);
    }
    events
}
