//! A project in a temporary folder, and runs of the executable in it that need no guest.

use std::path::Path;
use std::process::{Command, Output, Stdio};

/// No machine is started here: QEMU is asked for its version, and for the result of the trial guest, which
/// a real guest printed.
const QEMU: &str = r#"case "$*" in
  *--version*) echo QEMU emulator version 9.0.0 ;;
  *"-accel tcg"*) printf 'work\n70b20001 done\n' ;;
  *) exit 1 ;;
esac"#;

/// A file with one test that passes and one that fails.
pub(crate) const FAILING: &str = r#"
local function check(t)
  t:assert_eq(1, 2, "the numbers")
end

test("works", function(t) end)
test("fails", function(t)
  t:log("about to fail")
  check(t)
end)
"#;

pub(crate) struct Project {
    dir: tempfile::TempDir,
}

impl Project {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let project = Self { dir };
        project.write_qemu(QEMU);
        project
    }

    pub(crate) fn write_qemu(&self, script: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = self.path().join("home");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("qemu"), format!("#!/bin/sh\n{script}\n")).unwrap();
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.join("qemu"), executable).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_provium"));
        command.args(arguments).current_dir(self.path()).env_clear();
        command
            .env("HOME", self.path().join("home"))
            .env("PATH", std::env::var_os("PATH").unwrap());
        command.env("PROVIUM_QEMU", self.path().join("home/qemu"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> RunOutput {
        RunOutput::of(self.command(arguments).output().unwrap())
    }
}

pub(crate) struct RunOutput {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl RunOutput {
    pub(crate) fn of(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn all(&self) -> String {
        format!(
            "exit {:?}\n--- stdout\n{}--- stderr\n{}",
            self.code, self.stdout, self.stderr
        )
    }
}

/// Durations, which differ from run to run.
pub(crate) fn redacted(text: &str) -> String {
    let seconds = regex::Regex::new(r"\d+\.\d+s").unwrap();
    seconds.replace_all(text, "[time]").into_owned()
}
