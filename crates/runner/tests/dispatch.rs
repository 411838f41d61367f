//! Runs with files that do what a test tells them: no Lua, no guest.
//!
//! Long because all tests run the same small plans with the same few helpers.

use provium_events::{BlockReason, Details, Event, FileStatus, Resources, Sink, Value};
use provium_pool::{Grant, Pool};
use provium_runner::{
    FileEnd, FileTask, History, Outcome, Plan, RunFile, RunInfo, STUCK_AFTER, Stop, TestFile, run,
};
use std::sync::mpsc::channel;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

const MIB: u64 = 1 << 20;

fn one() -> Resources {
    Resources {
        memory_bytes: MIB,
        cpus: 1,
    }
}

fn need(cpus: u32) -> Resources {
    Resources {
        memory_bytes: u64::from(cpus) * MIB,
        cpus,
    }
}

fn plan(files: &[&str]) -> Plan {
    let file = |name: &&str| TestFile {
        path: (*name).into(),
        display: (*name).to_owned(),
        root: "/".into(),
        package_roots: Vec::new(),
        lines: Vec::new(),
        names: Vec::new(),
    };
    let info = RunInfo {
        version: "0".into(),
        seed: 1,
        accel: "none".into(),
        host: "a host".into(),
    };
    Plan {
        files: files.iter().map(file).collect(),
        reservation: one(),
        file_timeout: None,
        stuck_after: STUCK_AFTER,
        fail_fast: false,
        abort: Stop::new(),
        shuffle: None,
        whole_files: true,
        pressure: "/nowhere".into(),
        info,
    }
}

fn passed(task: &FileTask, name: &str) {
    let path = task.file.display.clone();
    let (name, meta) = (name.to_owned(), Value::Nil);
    let started = Event::TestStarted {
        path: path.clone(),
        name: name.clone(),
        meta: meta.clone(),
    };
    task.sink.emit(started);
    let details = Details {
        attempts: 1,
        ..Details::default()
    };
    task.sink.emit(Event::TestPassed {
        path,
        name,
        duration_ns: 1,
        meta,
        details,
    });
}

fn end(status: FileStatus) -> FileEnd {
    FileEnd {
        status,
        error: None,
    }
}

/// Runs `plan` within `cpus` vCPUs, and returns its events.
fn run_events(
    plan: &Plan,
    cpus: u32,
    stop: &Stop,
    run_file: impl Fn(FileTask, &Pool) -> FileEnd + Send + Sync + 'static,
) -> (Outcome, Vec<Event>) {
    events_with(plan, &mut History::default(), cpus, stop, run_file)
}

/// The same, with what is known of the files.
fn events_with(
    plan: &Plan,
    history: &mut History,
    cpus: u32,
    stop: &Stop,
    run_file: impl Fn(FileTask, &Pool) -> FileEnd + Send + Sync + 'static,
) -> (Outcome, Vec<Event>) {
    let (sink, receiver) = Sink::channel();
    let pool = Pool::new(
        Resources {
            memory_bytes: u64::from(cpus) * MIB,
            cpus,
        },
        sink.clone(),
    );
    let inside = pool.clone();
    let run_file: Arc<dyn RunFile> = Arc::new(move |task: FileTask| run_file(task, &inside));
    let outcome = run(plan, history, &pool, &sink, stop, run_file);
    drop((sink, pool));
    (
        outcome,
        receiver.try_iter().map(|stamped| stamped.event).collect(),
    )
}

fn position(events: &[Event], wanted: impl Fn(&Event) -> bool) -> usize {
    let position = events.iter().position(wanted);
    assert!(position.is_some(), "the event is missing: {events:#?}");
    position.unwrap_or_default()
}

#[test]
fn a_run_begins_and_ends_as_promised() {
    let (outcome, events) = run_events(&plan(&["a", "b", "c"]), 2, &Stop::new(), |task, _| {
        passed(&task, "works");
        end(FileStatus::Passed)
    });
    assert_eq!(
        outcome,
        Outcome {
            passed: 3,
            ..Outcome::default()
        }
    );
    assert!(matches!(
        events.first(),
        Some(Event::RunStarted { seed: 1, .. })
    ));
    assert!(matches!(
        events.last(),
        Some(Event::RunCompleted {
            passed: 3,
            failed: 0,
            ..
        })
    ));
    let last_discovered = events
        .iter()
        .rposition(|e| matches!(e, Event::FileDiscovered { .. }))
        .unwrap();
    let first_dispatched = position(&events, |e| matches!(e, Event::FileDispatched { .. }));
    assert!(last_discovered < first_dispatched);
    for file in ["a", "b", "c"] {
        let completed = events
            .iter()
            .filter(|e| matches!(e, Event::FileCompleted { path, .. } if path == file));
        assert_eq!(completed.count(), 1);
    }
}

#[test]
fn files_run_in_parallel_as_far_as_the_pool_allows() {
    let barrier = Arc::new(Barrier::new(2));
    let (outcome, events) = run_events(
        &plan(&["a", "b", "c", "d"]),
        2,
        &Stop::new(),
        move |_, _| {
            // Passes only if two run at once; a third would find both places taken.
            barrier.wait();
            end(FileStatus::Passed)
        },
    );
    assert_eq!(outcome.files_failed, 0);
    let mut running = 0;
    for event in &events {
        match event {
            Event::FileDispatched { .. } => running += 1,
            Event::FileCompleted { .. } => running -= 1,
            _ => {}
        }
        assert!(running <= 2);
    }
}

#[test]
fn a_panic_is_the_crash_of_one_file_and_ends_its_open_test() {
    provium_runner::record_panics();
    let (outcome, events) = run_events(&plan(&["a", "b"]), 1, &Stop::new(), |task, _| {
        if task.file.display == "a" {
            let path = task.file.display.clone();
            task.sink.emit(Event::TestStarted {
                path,
                name: "odd".into(),
                meta: Value::Nil,
            });
            panic!("a bug");
        }
        passed(&task, "works");
        end(FileStatus::Passed)
    });
    assert_eq!(
        outcome,
        Outcome {
            passed: 1,
            failed: 1,
            files_failed: 1,
            ..Outcome::default()
        }
    );
    let Event::TestFailed { reason, .. } =
        &events[position(&events, |e| matches!(e, Event::TestFailed { .. }))]
    else {
        unreachable!()
    };
    assert!(
        reason.contains("a bug") && reason.contains("dispatch.rs"),
        "{reason}"
    );
    let crashed = |e: &Event| matches!(e, Event::FileCompleted { path, status: FileStatus::Crashed, .. } if path == "a");
    position(&events, crashed);
}

#[test]
fn fail_fast_starts_nothing_after_a_failure() {
    let mut plan = plan(&["a", "b", "c"]);
    plan.fail_fast = true;
    let (outcome, events) = run_events(&plan, 1, &Stop::new(), |_, _| end(FileStatus::Failed));
    assert_eq!((outcome.failed, outcome.files_failed), (1, 1));
    assert_eq!(
        events
            .iter()
            .filter(|e| matches!(e, Event::FileDispatched { .. }))
            .count(),
        1
    );
    assert_eq!(
        events
            .iter()
            .filter(|e| matches!(e, Event::FileCompleted { .. }))
            .count(),
        3
    );
}

#[test]
fn a_stopped_run_starts_nothing_more_and_reports_that() {
    let stop = Stop::new();
    let throw = stop.clone();
    let (outcome, events) = run_events(&plan(&["a", "b"]), 1, &stop, move |task, _| {
        throw.cancel();
        assert!(task.stop.is_cancelled());
        end(FileStatus::Passed)
    });
    assert!(outcome.stopped);
    assert_eq!(outcome.files_failed, 0);
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })));
}

#[test]
fn what_a_file_holds_keeps_others_from_starting() {
    let (outcome, events) = run_events(&plan(&["a", "b"]), 2, &Stop::new(), |task, pool| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let grant = runtime
            .block_on(pool.acquire(&task.file.display, need(2)))
            .unwrap();
        passed(&task, "boots");
        drop(grant);
        end(FileStatus::Passed)
    });
    assert_eq!((outcome.passed, outcome.files_failed), (2, 0));
    assert!(matches!(events.last(), Some(Event::RunCompleted { .. })));
}

/// The files of a run, in the order in which they were started.
fn started(events: &[Event]) -> Vec<(&str, Resources)> {
    let started = |event| match event {
        &Event::FileDispatched {
            ref path,
            reservation,
        } => Some((path.as_str(), reservation)),
        _ => None,
    };
    events.iter().filter_map(started).collect()
}

#[test]
fn the_longest_file_starts_first_and_a_new_one_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let cache = camino::Utf8Path::from_path(dir.path()).unwrap();
    let file = |ms| format!(r#"{{"duration_ms":{ms},"memory_bytes":1,"cpus":1,"run":1}}"#);
    let (short, long) = (file(10), file(9000));
    let saved = format!(r#"{{"run":1,"files":{{"a":{short},"c":{long}}}}}"#);
    std::fs::write(cache.join("history-v2.json"), saved).unwrap();
    let mut history = History::load(cache);
    let plan = plan(&["a", "b", "c"]);
    let (_, events) = events_with(&plan, &mut history, 1, &Stop::new(), |_, _| {
        end(FileStatus::Passed)
    });
    let order: Vec<&str> = started(&events).iter().map(|(path, _)| *path).collect();
    assert_eq!(order, ["b", "c", "a"]);
}

/// What a second run sets aside for a file that does this.
#[expect(clippy::unwrap_used, reason = "what cannot be set up fails its test")]
fn set_aside(
    run_file: impl Fn(FileTask, &Pool) -> FileEnd + Send + Sync + Copy + 'static,
) -> Resources {
    let plan = plan(&["a"]);
    let dir = tempfile::tempdir().unwrap();
    let cache = camino::Utf8Path::from_path(dir.path()).unwrap();
    let reservations = [1, 2].map(|_| {
        let mut history = History::load(cache);
        let (_, events) = events_with(&plan, &mut history, 4, &Stop::new(), run_file);
        history.save(cache).unwrap();
        started(&events)[0].1
    });
    assert_eq!(reservations[0], one());
    reservations[1]
}

#[expect(clippy::unwrap_used, reason = "what is free is granted at once")]
fn acquire(task: &FileTask, pool: &Pool, need: Resources) -> Grant {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let granted = runtime.block_on(pool.acquire(&task.file.display, need));
    granted.unwrap()
}

#[test]
fn a_second_run_sets_aside_the_most_memory_that_a_file_held() {
    let found = set_aside(|task, pool| {
        for mebibytes in [3, 1] {
            let memory_bytes = mebibytes * MIB;
            drop(acquire(
                &task,
                pool,
                Resources {
                    memory_bytes,
                    cpus: 1,
                },
            ));
        }
        end(FileStatus::Passed)
    });
    let expected = Resources {
        memory_bytes: 3 * MIB,
        cpus: 1,
    };
    assert_eq!(found, expected);
}

#[test]
fn a_second_run_sets_aside_the_vcpus_that_a_file_held_on_average() {
    let found = set_aside(|task, pool| {
        let _held = acquire(&task, pool, need(3));
        // The mean is one over time, taken five times a second.
        std::thread::sleep(Duration::from_millis(700));
        end(FileStatus::Passed)
    });
    assert!((2..=3).contains(&found.cpus), "{found}");
}

#[test]
fn a_run_of_some_tests_teaches_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let cache = camino::Utf8Path::from_path(dir.path()).unwrap();
    let learned = |plan: &Plan, status| {
        let mut history = History::default();
        events_with(plan, &mut history, 1, &Stop::new(), move |_, _| end(status));
        history.save(cache).unwrap();
        History::load(cache).of("a".into()).is_some()
    };
    let mut some_tests = plan(&["a"]);
    some_tests.whole_files = false;
    assert!(!learned(&some_tests, FileStatus::Passed));
    let mut one_line = plan(&["a"]);
    one_line.files[0].lines.push(3);
    assert!(!learned(&one_line, FileStatus::Passed));
    assert!(!learned(&plan(&["a"]), FileStatus::Crashed));
    assert!(learned(&plan(&["a"]), FileStatus::Failed));
}

#[test]
fn a_declared_claim_is_reported_and_reserved() {
    let dir = tempfile::tempdir().unwrap();
    let path = camino::Utf8PathBuf::from_path_buf(dir.path().join("a.test.lua")).unwrap();
    std::fs::write(&path, "provium:claim{memory = '3M', cpus = 3}").unwrap();
    let mut plan = plan(&["a"]);
    plan.files[0].path = path;
    let (_, events) = run_events(&plan, 4, &Stop::new(), |_, _| end(FileStatus::Passed));
    let three = Resources {
        memory_bytes: 3 * MIB,
        cpus: 3,
    };
    let discovered = |e: &Event| matches!(e, Event::FileDiscovered { declared_claim, .. } if *declared_claim == Some(three));
    position(&events, discovered);
    assert_eq!(started(&events), [("a", three)]);

    // What it does not name is as without it.
    std::fs::write(&plan.files[0].path, "provium:claim{memory = '3M'}").unwrap();
    let (_, events) = run_events(&plan, 4, &Stop::new(), |_, _| end(FileStatus::Passed));
    let named = Resources { cpus: 1, ..three };
    assert_eq!(started(&events), [("a", named)]);
}

#[test]
fn a_busy_host_holds_files_back_as_long_as_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let folder = camino::Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    let busy = "some avg10=99.00 avg60=0.00 avg300=0.00 total=0\n";
    std::fs::write(folder.join("cpu"), busy).unwrap();
    let mut plan = plan(&["a", "b", "c"]);
    plan.pressure = folder;
    let (_, events) = run_events(&plan, 9, &Stop::new(), |_, _| end(FileStatus::Passed));
    let mut running = 0;
    for event in &events {
        match event {
            Event::FileDispatched { .. } => running += 1,
            Event::FileCompleted { .. } => running -= 1,
            _ => {}
        }
        assert!(running <= 1, "a second file was started: {events:#?}");
    }
    assert_eq!(started(&events).len(), 3);
    let reasons = events.iter().filter_map(|event| match event {
        Event::FileBlocked { path, reason, .. } => Some((path.as_str(), *reason)),
        _ => None,
    });
    let psi = BlockReason::PsiPressure;
    assert_eq!(reasons.collect::<Vec<_>>(), [("b", psi), ("c", psi)]);
}

#[test]
fn files_run_in_parallel_again_when_the_host_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let folder = camino::Utf8PathBuf::from_path_buf(dir.path().to_owned()).unwrap();
    let memory = folder.join("memory");
    std::fs::write(&memory, "some avg10=50.00 avg60=0.00 avg300=0.00 total=0\n").unwrap();
    let mut plan = plan(&["a", "b"]);
    plan.pressure = folder;
    // The first file ends only once the second one runs beside it.
    let (there, wait) = channel();
    let (there, wait) = (Mutex::new(there), Mutex::new(wait));
    let (outcome, _) = run_events(&plan, 9, &Stop::new(), move |task, _| {
        if task.file.display == "a" {
            let free = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n";
            std::fs::write(&memory, free).unwrap();
            let limit = Duration::from_secs(60);
            wait.lock().unwrap().recv_timeout(limit).unwrap();
        } else {
            there.lock().unwrap().send(()).unwrap();
        }
        end(FileStatus::Passed)
    });
    assert_eq!(outcome.files_failed, 0);
}

#[test]
fn a_seed_determines_a_random_order() {
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let order = |seed| {
        let mut plan = plan(&names);
        plan.shuffle = Some(seed);
        let (_, events) = run_events(&plan, 1, &Stop::new(), |_, _| end(FileStatus::Passed));
        let files = started(&events)
            .into_iter()
            .map(|(path, _)| path.to_owned());
        files.collect::<Vec<_>>()
    };
    assert_eq!(order(1), order(1));
    assert_ne!(order(1), order(2));
    let mut sorted = order(1);
    sorted.sort();
    assert_eq!(sorted, names);
}

#[test]
fn declared_tests_that_did_not_start_are_not_run() {
    struct DeclaringRun;
    impl RunFile for DeclaringRun {
        fn run(&self, task: FileTask) -> FileEnd {
            passed(&task, "one");
            end(FileStatus::TimedOut)
        }

        fn declared(&self, _: &TestFile) -> Vec<String> {
            ["one", "two"].map(str::to_owned).into()
        }
    }
    let (sink, receiver) = Sink::channel();
    let pool = Pool::new(one(), sink.clone());
    let mut plan = plan(&["a", "b"]);
    plan.fail_fast = true;
    let mut history = History::default();
    let outcome = run(
        &plan,
        &mut history,
        &pool,
        &sink,
        &Stop::new(),
        Arc::new(DeclaringRun),
    );
    // The second file does not start.
    assert_eq!((outcome.passed, outcome.failed, outcome.not_run), (1, 1, 3));
    drop((sink, pool));
    let not_run: Vec<_> = receiver
        .try_iter()
        .filter_map(|stamped| match stamped.event {
            Event::TestNotRun { path, name, reason } => Some((path, name, reason)),
            _ => None,
        })
        .collect();
    let failed_fast = "a test failed before (--fail-fast)";
    let expected = [
        ("a", "two", "its file timed out"),
        ("b", "one", failed_fast),
        ("b", "two", failed_fast),
    ];
    let expected =
        expected.map(|(path, name, reason)| (path.to_owned(), name.to_owned(), reason.to_owned()));
    assert_eq!(not_run, expected);
}

#[test]
fn an_aborted_run_reports_what_there_is() {
    let mut plan = plan(&["a", "b"]);
    let abort = Stop::new();
    plan.abort = abort.clone();
    let stop = Stop::new();
    let switch = stop.clone();
    let (outcome, events) = run_events(&plan, 1, &stop, move |task, _| {
        passed(&task, "works");
        task.sink.emit(Event::TestStarted {
            path: task.file.display.clone(),
            name: "waits".into(),
            meta: Value::Nil,
        });
        switch.cancel();
        abort.cancel();
        // Its thread does not come back.
        loop {
            std::thread::park();
        }
    });
    assert!(outcome.stopped);
    assert_eq!(
        (outcome.passed, outcome.failed, outcome.interrupted),
        (1, 0, 1)
    );
    let over = events
        .iter()
        .filter(|event| matches!(event, Event::FileCompleted { .. }));
    assert_eq!(over.count(), 2);
    assert!(matches!(
        events.last(),
        Some(Event::RunCompleted { interrupted: 1, .. })
    ));
}
