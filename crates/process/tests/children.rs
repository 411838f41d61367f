//! What is promised of children, tried on real ones.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use provium_process::{Command, Exit, ProcessError, Stdio, output};
use tokio::io::AsyncReadExt;

const SOON: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Is there a process (a zombie counts) of this number?
fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Is there one that still runs?
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}

/// Orphans are reaped by init, in its own time: waits until the process runs no more.
fn assert_ends(pid: u32) {
    let until = std::time::Instant::now() + SOON;
    while runs(pid) {
        assert!(std::time::Instant::now() < until, "process {pid} lingers");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn output_captures_both_streams_and_the_status() {
    let out = output(shell("echo out; echo err >&2; exit 3"), SOON)
        .await
        .unwrap();
    assert_eq!(
        (out.stdout, out.stderr),
        (b"out\n".to_vec(), b"err\n".to_vec())
    );
    assert_eq!((out.exit, out.dropped), (Exit::Exited(3), 0));
}

#[tokio::test]
async fn output_is_bounded() {
    let out = output(shell("head -c 20000000 /dev/zero"), SOON)
        .await
        .unwrap();
    assert_eq!(out.stdout.len() as u64 + out.dropped, 20_000_000);
    assert_eq!(out.stdout.len(), 16 << 20);
}

#[tokio::test]
async fn a_deadline_kills_the_group() {
    let command = shell("sleep 1000 & echo $!; wait");
    let error = output(command, Duration::from_millis(100))
        .await
        .unwrap_err();
    assert!(matches!(error, ProcessError::Deadline { .. }), "{error}");
    assert_eq!(error.to_string(), "`sh` did not exit within 100ms");
}

#[tokio::test]
async fn an_absent_program_is_named() {
    let error = output(Command::new("provium-absent"), SOON)
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`provium-absent` is not installed or not on PATH"
    );
}

#[tokio::test]
async fn the_kernels_error_is_returned() {
    let error = Command::new("/etc/passwd").spawn().unwrap_err();
    assert_eq!(error.to_string(), "cannot start `/etc/passwd`");
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("denied"), "{source}");
}

#[tokio::test]
async fn killing_reaches_the_whole_group() {
    let mut command = shell("sleep 1000 & echo $!; wait");
    command.stdout(Stdio::Pipe);
    let mut child = command.spawn().unwrap();
    let grandchild = first_number(&mut child).await;
    child.kill();
    assert_eq!(child.wait().await.unwrap(), Exit::Signalled(libc::SIGKILL));
    assert_eq!(
        child.wait().await.unwrap(),
        Exit::Signalled(libc::SIGKILL),
        "waiting again is fine"
    );
    assert_ends(grandchild);
}

#[tokio::test]
async fn an_exit_is_found_without_waiting_for_it() {
    let mut command = Command::new("cat");
    command.stdin(Stdio::Pipe);
    let mut child = command.spawn().unwrap();
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    let until = std::time::Instant::now() + SOON;
    let exit = loop {
        if let Some(exit) = child.try_wait().unwrap() {
            break exit;
        }
        assert!(std::time::Instant::now() < until, "its exit is not found");
        std::thread::yield_now();
    };
    assert_eq!(exit, Exit::Exited(0));
    assert_eq!(child.wait().await.unwrap(), exit);
}

#[tokio::test]
async fn the_group_ends_with_its_leader() {
    let mut command = shell("sleep 1000 & echo $!");
    command.stdout(Stdio::Pipe);
    let mut child = command.spawn().unwrap();
    let grandchild = first_number(&mut child).await;
    assert_eq!(child.wait().await.unwrap(), Exit::Exited(0));
    assert_ends(grandchild);
}

#[tokio::test]
async fn dropping_kills_and_reaps() {
    let mut command = Command::new("cat");
    command.stdin(Stdio::Pipe);
    let child = command.spawn().unwrap();
    let pid = child.id();
    assert!(exists(pid));
    drop(child);
    assert!(!exists(pid), "not even a zombie is left");
}

#[tokio::test]
async fn inherited_files_have_the_numbers_asked_for_and_no_others_are_open() {
    // Left open without close-on-exec, as a careless library would.
    let careless = std::fs::File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&careless, rustix::io::FdFlags::empty()).unwrap();
    let (five, mut five_end) = pair();
    let (nine, mut nine_end) = pair();
    let mut command = shell("echo to five >&5; read line <&9; echo \"$line\"; ls /proc/self/fd");
    command.inherit(9, nine).inherit(5, five);
    writeln!(nine_end, "from nine").unwrap();
    let out = output(command, SOON).await.unwrap();
    let mut said = [0; 8];
    five_end.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"to five\n");
    // 3 is `ls` itself reading the folder.
    assert_eq!(
        String::from_utf8(out.stdout).unwrap(),
        "from nine\n0\n1\n2\n3\n5\n9\n"
    );
}

#[tokio::test]
async fn children_start_with_clean_signals() {
    let out = output(shell("grep -E 'Sig(Blk|Ign)' /proc/self/status"), SOON)
        .await
        .unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let masks: Vec<u64> = text
        .lines()
        .map(|line| u64::from_str_radix(line.split('\t').nth(1).unwrap(), 16).unwrap())
        // Signals 32 and 33 are reserved by the C library.
        .map(|mask| mask & !(0b11 << 31))
        .collect();
    assert_eq!(masks, [0, 0], "{text}");
}

async fn first_number(child: &mut provium_process::Child) -> u32 {
    let mut line = Vec::new();
    let stdout = child.stdout.as_mut().unwrap();
    loop {
        match stdout.read_u8().await.unwrap() {
            b'\n' => return String::from_utf8(line).unwrap().parse().unwrap(),
            byte => line.push(byte),
        }
    }
}

fn pair() -> (OwnedFd, std::os::unix::net::UnixStream) {
    let (theirs, ours) = std::os::unix::net::UnixStream::pair().unwrap();
    (theirs.into(), ours)
}

/// Waits until the file holds a process id.
async fn pid_in(file: &std::path::Path) -> u32 {
    let until = std::time::Instant::now() + SOON;
    loop {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        if let Some(pid) = text.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
            return pid;
        }
        assert!(std::time::Instant::now() < until, "nothing was started");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_supervised_command_takes_along_what_left_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut command = shell("setsid sh -c 'echo $$ > pid; exec sleep 1000' & sleep 1000");
    command.supervised().current_dir(folder.path());
    let child = command.spawn().unwrap();
    let escaped = pid_in(&file).await;
    drop(child);
    // It has left the group, not the tree. The kernel ends a killed process when that is scheduled next.
    assert_ends(escaped);
}

#[tokio::test]
async fn a_supervised_command_ends_with_its_orphans_and_unmarked_processes() {
    let folder = tempfile::tempdir().unwrap();
    // One whose parents are gone, and one that has cleared its environment.
    let script = "(setsid sh -c 'echo $$ > orphan; exec sleep 1000' &)
        env -i /bin/sh -c 'echo $$ > bare; exec sleep 1000' & sleep 1000";
    let mut command = shell(script);
    command.supervised().current_dir(folder.path());
    let child = command.spawn().unwrap();
    let orphan = pid_in(&folder.path().join("orphan")).await;
    let bare = pid_in(&folder.path().join("bare")).await;
    child.kill();
    assert_eq!(child.wait().await.unwrap(), Exit::Signalled(9));
    for pid in [orphan, bare] {
        assert_ends(pid);
    }
}

#[tokio::test]
async fn what_a_supervised_command_leaves_on_purpose_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = shell(
        "setsid sh -c 'echo $$ > pid; exec sleep 1000' >&- 2>&- & until [ -s pid ]; do :; done",
    );
    command.supervised().current_dir(folder.path());
    let out = output(command, SOON).await.unwrap();
    assert!(out.exit.success());
    let left = pid_in(&folder.path().join("pid")).await;
    assert!(runs(left));
    let mut end = shell(&format!("kill -KILL {left}"));
    end.stdin(Stdio::Null);
    assert!(output(end, SOON).await.unwrap().exit.success());
    assert_ends(left);
}

#[tokio::test]
async fn a_supervised_command_ends_as_itself() {
    for (script, exit) in [
        ("exit 3", Exit::Exited(3)),
        ("kill -TERM $$", Exit::Signalled(15)),
        ("kill -KILL $$", Exit::Signalled(9)),
    ] {
        let mut command = shell(&format!("echo said; {script}"));
        command.supervised();
        let out = output(command, SOON).await.unwrap();
        assert_eq!((out.exit, out.stdout), (exit, b"said\n".to_vec()));
    }
    let mut absent = Command::new("/dev/null/program");
    absent.supervised();
    assert!(absent.spawn().is_err());
    let mut refused = Command::new("/dev/null");
    refused.supervised();
    let error = refused.spawn().unwrap_err();
    assert!(matches!(error, ProcessError::Start { .. }), "{error}");
}

#[tokio::test]
async fn a_supervised_command_that_takes_too_long_is_killed_with_all_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = shell("sleep 1000 & echo $! > pid; wait");
    command.supervised().current_dir(folder.path());
    let late = output(command, Duration::from_millis(500)).await;
    assert!(
        matches!(late, Err(ProcessError::Deadline { .. })),
        "{late:?}"
    );
    let left = pid_in(&folder.path().join("pid")).await;
    assert!(!runs(left));
}

#[tokio::test]
async fn a_command_can_be_started_without_capabilities() {
    let mut command = Command::new("cat");
    command.arg("/proc/self/status").without_capabilities();
    let out = output(command, SOON).await.unwrap();
    let status = String::from_utf8(out.stdout).unwrap();
    let set = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().trim().to_owned()
    };
    for name in ["CapPrm:", "CapEff:", "CapInh:", "CapAmb:"] {
        assert_eq!(set(name), "0000000000000000", "{name}");
    }
}
