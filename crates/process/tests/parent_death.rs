//! A host that is killed with SIGKILL takes its children along.
//!
//! The test is its own helper: started with `HELPER` set it spawns a child from a short-lived
//! thread and a supervised command whose child leaves its group, says both numbers and waits to be
//! killed. It has no harness, because the helper
//! must be the whole process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::time::{Duration, Instant};

use provium_process::{Command, Stdio};
use tokio::io::AsyncReadExt;

const HELPER: &str = "PROVIUM_TEST_HELPER";

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    if std::env::var_os(HELPER).is_some() {
        return help(&runtime);
    }
    runtime.block_on(async {
        let mut helper = Command::new(std::env::current_exe().unwrap());
        helper
            .env(HELPER, "1")
            .stdin(Stdio::Pipe)
            .stdout(Stdio::Pipe);
        let mut helper = helper.spawn().unwrap();
        let stdout = helper.stdout.as_mut().unwrap();
        let grandchild = stdout.read_u32().await.unwrap();
        let escaped = stdout.read_u32().await.unwrap();
        assert!(
            runs(grandchild),
            "the thread that asked is gone, the child must not be"
        );
        assert!(runs(escaped));
        // Not the group: the grandchild is in another one, and only its parent dies.
        helper.kill();
        helper.wait().await.unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        for process in [grandchild, escaped] {
            while runs(process) {
                assert!(
                    Instant::now() < until,
                    "process {process} outlived its parent"
                );
                std::thread::yield_now();
            }
        }
    });
}

fn help(runtime: &tokio::runtime::Runtime) {
    let handle = runtime.handle().clone();
    let child = std::thread::spawn(move || {
        let _inside = handle.enter();
        let mut child = Command::new("sleep");
        child.arg("1000");
        child.spawn().unwrap()
    })
    .join()
    .unwrap();
    let mut supervised = runtime.block_on(async {
        let mut command = Command::new("sh");
        command.args(["-c", "setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000"]);
        command.supervised().stdout(Stdio::Pipe);
        command.spawn().unwrap()
    });
    let escaped: u32 = runtime.block_on(async {
        let mut line = String::new();
        let stdout = supervised.stdout.as_mut().unwrap();
        while !line.ends_with('\n') {
            line.push(char::from(stdout.read_u8().await.unwrap()));
        }
        line.trim().parse().unwrap()
    });
    for pid in [child.id(), escaped] {
        std::io::stdout().write_all(&pid.to_be_bytes()).unwrap();
    }
    std::io::stdout().flush().unwrap();
    // Ends only if the test forgets to kill us.
    let _ = std::io::stdin().read_line(&mut String::new());
}

fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
}
