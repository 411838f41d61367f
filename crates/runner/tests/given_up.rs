//! A file whose thread never comes back: no Lua, no guest.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]

use provium_events::{Event, FileStatus, Resources, Sink, Value};
use provium_pool::Pool;
use provium_runner::{FileEnd, FileTask, History, Plan, RunFile, RunInfo, Stop, TestFile, run};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// Longer than a thread needs to get around to anything.
const SHORTLY: Duration = Duration::from_millis(50);

fn plan(file_timeout: Option<Duration>) -> Plan {
    let file = |name: &str| TestFile {
        path: name.into(),
        display: name.to_owned(),
        root: "/".into(),
        package_roots: Vec::new(),
        lines: Vec::new(),
        names: Vec::new(),
    };
    Plan {
        files: vec![file("stuck"), file("works")],
        reservation: Resources {
            memory_bytes: MIB,
            cpus: 1,
        },
        file_timeout,
        stuck_after: SHORTLY,
        fail_fast: false,
        abort: Stop::new(),
        shuffle: None,
        whole_files: true,
        pressure: "/nowhere".into(),
        info: RunInfo {
            version: "0".into(),
            seed: 1,
            accel: "none".into(),
            host: "a host".into(),
        },
    }
}

/// Of two files the first never comes back, with all of the pool in its hands.
struct StuckFile {
    pool: Pool,
    abandoned: Mutex<Vec<String>>,
}

impl RunFile for StuckFile {
    fn run(&self, task: FileTask) -> FileEnd {
        let file = task.file.display.clone();
        let need = Resources {
            memory_bytes: MIB,
            cpus: 1,
        };
        let granted = futures_util::FutureExt::now_or_never(self.pool.acquire(&file, need));
        let granted = granted.map(|granted| granted.unwrap());
        if file == "stuck" {
            task.sink.emit(Event::TestStarted {
                path: file,
                name: "hangs".into(),
                meta: Value::Nil,
            });
            loop {
                std::thread::park();
            }
        }
        assert!(granted.is_some(), "what the other file held was taken back");
        FileEnd {
            status: FileStatus::Passed,
            error: None,
        }
    }

    fn abandon(&self, file: &TestFile) {
        self.abandoned.lock().unwrap().push(file.display.clone());
    }
}

#[test]
fn a_file_that_never_returns_is_abandoned_with_its_grants() {
    for by_the_user in [false, true] {
        let plan = plan((!by_the_user).then_some(SHORTLY));
        let (sink, receiver) = Sink::channel();
        let size = Resources {
            memory_bytes: MIB,
            cpus: 1,
        };
        let pool = Pool::new(size, sink.clone());
        let files = Arc::new(StuckFile {
            pool: pool.clone(),
            abandoned: Mutex::default(),
        });
        let stop = Stop::new();
        if by_the_user {
            let (stop, within) = (stop.clone(), pool.clone());
            std::thread::spawn(move || {
                // Thrown once the file is at work.
                while within.available().memory_bytes > 0 {
                    std::thread::yield_now();
                }
                stop.cancel();
            });
        }
        let run_file: Arc<dyn RunFile> = files.clone();
        let outcome = run(
            &plan,
            &mut History::default(),
            &pool,
            &sink,
            &stop,
            run_file,
        );
        assert_eq!(*files.abandoned.lock().unwrap(), ["stuck"]);
        assert_eq!(outcome.files_failed, 1);
        assert_eq!(
            pool.available().memory_bytes,
            MIB,
            "nothing is held any more"
        );
        let events: Vec<Event> = receiver.try_iter().map(|stamped| stamped.event).collect();
        let failed = events.iter().position(|event| {
            matches!(event, Event::TestFailed { name, reason, .. }
                if name == "hangs" && reason.contains("cannot be interrupted"))
        });
        let completed = events.iter().position(|event| {
            matches!(event, Event::FileCompleted { path, status: FileStatus::TimedOut, .. }
                if path == "stuck")
        });
        assert!(failed.is_some() && failed < completed, "{events:#?}");
    }
}
