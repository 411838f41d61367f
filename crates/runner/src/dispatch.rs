//! Starts files while the pool admits them, and sees each to its end.
//!
//! One loop owns all state; file threads and the pool send it messages. It waits for nothing else, and
//! wakes regularly to check deadlines and deadlocks and to report the pool's state.
//!
//! ```text
//! waiting ──▶ running ──▶ completed       thread ended by itself, or its panic was caught
//!    │           └──────▶ completed       abandoned: its time was long over and it did not end,
//!    │                                    or the user wants the run to end at once
//!    └──────────────────▶ completed       not run: the run was stopped
//!
//! Each declared test is reported. Those of a file that ends before they start, or that does not start at
//! all, are looked up by listing the file.
//! ```

use crate::candidates;
use crate::crash;
use crate::declared::DeclaredTests;
use crate::discover::TestFile;
use crate::give_up::late;
use crate::history::{FileStats, History};
use crate::ledger::{Counts, FileInterruption, Ledger};
use crate::mean_cpus::MeanCpus;
use crate::plan::{FileEnd, FileTask, Outcome, Plan, nanoseconds, plain};
use crate::pressure::Pressure;
use crate::queue::{Candidate, NextFile, Queue};
use crate::run_file::RunFile;
use crate::thread::file_thread;
use provium_events::{BlockReason, Event, FileStatus, PROTOCOL_VERSION, Resources, Sink};
use provium_pool::CancelToken;
use provium_pool::{FileWatch, Pool};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Ends a run early: no further file starts, and those that run clean up and end.
pub type Stop = CancelToken;

/// How often deadlines and deadlocks are checked.
const TICK: Duration = Duration::from_millis(200);

/// How often the pool's state is reported.
const POOL_STATE_EVERY: Duration = Duration::from_secs(1);

/// How long no part of any file may have done anything before that counts as a deadlock: only a guest that switches
/// itself off could return something then.
const DEADLOCK_AFTER: Duration = Duration::from_secs(4);

/// Why a test or file did not start.
const INTERRUPTED: &str = "the run was interrupted";
const FAILED_FAST: &str = "a test failed before (--fail-fast)";

enum Message {
    Ended {
        index: usize,
        end: FileEnd,
        /// The selected tests, if not all of them may have been run.
        declared: Vec<String>,
    },
    PoolChanged,
}

struct Dispatcher<'a> {
    plan: &'a Plan,
    history: &'a mut History,
    pool: &'a Pool,
    sink: &'a Sink,
    stop: &'a Stop,
    run_file: Arc<dyn RunFile>,
    sender: Sender<Message>,
    waiting: Queue,
    running: BTreeMap<usize, RunningFile>,
    /// Files that were reported as blocked by the pool.
    reported_blocked: BTreeSet<usize>,
    /// Files that were reported as held back by the host's load.
    reported_held_back: BTreeSet<usize>,
    outcome: Outcome,
    /// Looks up the tests of files that did not run, or not to their end.
    declared: DeclaredTests,
    /// Since when the run is to end.
    stopping: Option<Instant>,
    /// Cancelled by the first failed test, if the run ends with it.
    on_failure: Option<CancelToken>,
}

struct RunningFile {
    started: Instant,
    watch: FileWatch,
    ledger: Ledger,
    cpus: MeanCpus,
    thread: Option<JoinHandle<()>>,
    _slot: provium_pool::RunningFile,
}

/// Runs all files of the plan, in the order that `history` advises, and returns when every one is
/// over. The history has then recorded the run.
pub fn run(
    plan: &Plan,
    history: &mut History,
    pool: &Pool,
    sink: &Sink,
    stop: &Stop,
    run_file: Arc<dyn RunFile>,
) -> Outcome {
    let started = Instant::now();
    sink.emit(Event::RunStarted {
        version: plan.info.version.clone(),
        protocol_version: PROTOCOL_VERSION,
        seed: plan.info.seed,
        accel: plan.info.accel.clone(),
        host: plan.info.host.clone(),
    });
    let waiting = candidates::in_order(plan, history, sink);
    let (sender, receiver) = channel();
    let notify = sender.clone();
    // The receiver is gone once the run is over.
    pool.on_return(move || drop(notify.send(Message::PoolChanged)));
    let mut dispatcher = Dispatcher {
        plan,
        history,
        pool,
        sink,
        stop,
        declared: DeclaredTests::new(Arc::clone(&run_file)),
        run_file,
        sender,
        waiting,
        running: BTreeMap::new(),
        reported_blocked: BTreeSet::new(),
        reported_held_back: BTreeSet::new(),
        outcome: Outcome::default(),
        stopping: None,
        on_failure: plan.fail_fast.then(CancelToken::new),
    };
    dispatcher.until_done(&receiver);

    let outcome = dispatcher.outcome;
    sink.emit(Event::RunCompleted {
        passed: outcome.passed,
        failed: outcome.failed,
        skipped: outcome.skipped,
        interrupted: outcome.interrupted,
        not_run: outcome.not_run,
        flaky: outcome.flaky,
        duration_ns: nanoseconds(started.elapsed()),
    });
    outcome
}

impl Dispatcher<'_> {
    fn until_done(&mut self, receiver: &Receiver<Message>) {
        let mut pool_reported = Instant::now();
        self.emit_pool_state();
        loop {
            self.start_ready_files();
            if self.running.is_empty() && self.waiting.is_empty() {
                return;
            }
            match receiver.recv_timeout(TICK) {
                Ok(Message::Ended {
                    index,
                    end,
                    declared,
                }) => self.complete(index, end, &declared),
                Ok(Message::PoolChanged) | Err(RecvTimeoutError::Timeout) => {}
                // `self` holds a sender.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.plan.abort.is_cancelled() {
                self.abandon_all_files();
                continue;
            }
            self.look_at_cpus();
            self.give_up_late_files();
            self.pool.break_deadlock(Instant::now(), DEADLOCK_AFTER);
            if pool_reported.elapsed() >= POOL_STATE_EVERY {
                pool_reported = Instant::now();
                self.emit_pool_state();
            }
        }
    }

    /// Notes what the running files hold now.
    fn look_at_cpus(&mut self) {
        let now = Instant::now();
        for (index, file) in &mut self.running {
            if let Some(test_file) = self.plan.files.get(*index) {
                let held = self.pool.held(&test_file.display);
                file.cpus.saw(now, held.cpus);
            }
        }
    }

    fn start_ready_files(&mut self) {
        while !self.waiting.is_empty() {
            if let Some(reason) = self.reason_to_stop() {
                if let Some(candidate) = self.waiting.pop() {
                    self.never_started(candidate.index, reason);
                }
                continue;
            }
            if let Some(candidate) = self.held_back() {
                return self.emit_blocked(candidate, BlockReason::PsiPressure);
            }
            match self.waiting.next(|need| self.pool.admits(need)) {
                NextFile::Start(candidate) => self.start(candidate),
                NextFile::Blocked(candidate) => {
                    return self.emit_blocked(candidate, BlockReason::PoolFull);
                }
                NextFile::Empty => return,
            }
        }
    }

    /// The next file, if the host is too busy for it. One file may always run: what keeps the host
    /// busy may be none of ours.
    fn held_back(&self) -> Option<Candidate> {
        if self.running.is_empty() || !Pressure::read(&self.plan.pressure).is_high() {
            return None;
        }
        self.waiting.first()
    }

    fn reason_to_stop(&self) -> Option<&'static str> {
        if self.stop.is_cancelled() {
            return Some(INTERRUPTED);
        }
        let test_failed = self
            .on_failure
            .as_ref()
            .is_some_and(|one| one.is_cancelled());
        let failed_fast = self.plan.fail_fast && (test_failed || self.outcome.files_failed > 0);
        failed_fast.then_some(FAILED_FAST)
    }

    fn start(&mut self, candidate: Candidate) {
        let Candidate {
            index, reservation, ..
        } = candidate;
        let Some(file) = self.plan.files.get(index) else {
            return;
        };
        self.sink.emit(Event::FileDispatched {
            path: file.display.clone(),
            reservation,
        });
        let watch = FileWatch::default();
        let activity = watch.activity().clone();
        let slot = self.pool.begin(&file.display, reservation, activity);
        let ledger = Ledger::new(self.on_failure.clone());
        let thread = self.spawn(index, file, &ledger, &watch);
        let failed = thread.is_err();
        let (started, thread) = (Instant::now(), thread.ok());
        self.running.insert(
            index,
            RunningFile {
                started,
                watch,
                ledger,
                cpus: MeanCpus::new(started),
                thread,
                _slot: slot,
            },
        );
        if failed {
            let end = FileEnd::crashed("the host has no thread left for the file");
            self.complete(index, end, &[]);
        }
    }

    fn spawn(
        &self,
        index: usize,
        file: &TestFile,
        ledger: &Ledger,
        watch: &FileWatch,
    ) -> std::io::Result<JoinHandle<()>> {
        let ledger = ledger.clone();
        let start_no_more = self.on_failure.clone().unwrap_or_default();
        let task = FileTask {
            file: file.clone(),
            sink: self.sink.filtered(move |event| ledger.take(event)),
            stop: self.stop.clone(),
            start_no_more: start_no_more.clone(),
            timeout: self.plan.file_timeout,
            watch: watch.clone(),
        };
        let (run_file, sender, of) = (
            Arc::clone(&self.run_file),
            self.sender.clone(),
            file.clone(),
        );
        file_thread(move || {
            let end = crash::catch(|| run_file.run(task));
            let end = end.unwrap_or_else(|panic| {
                FileEnd::crashed(format!(
                    "the harness crashed while it ran the file: {panic}"
                ))
            });
            // Listing may panic as running does.
            let declared = match end.may_leave_tests() || start_no_more.is_cancelled() {
                true => crash::catch(|| run_file.declared(&of)).unwrap_or_default(),
                false => Vec::new(),
            };
            // The dispatcher is gone only if it has given up on this file.
            let _ = sender.send(Message::Ended {
                index,
                end,
                declared,
            });
        })
    }

    fn complete(&mut self, index: usize, end: FileEnd, declared: &[String]) {
        // A file that was given up may end after all.
        let Some(mut file) = self.running.remove(&index) else {
            return;
        };
        if let Some(thread) = file.thread.take() {
            // It has sent its last message; its panic, if any, was caught.
            let _ = thread.join();
        }
        self.conclude(index, end, &file, declared);
    }

    fn conclude(&mut self, index: usize, end: FileEnd, file: &RunningFile, declared: &[String]) {
        let Some(test_file) = self.plan.files.get(index) else {
            return;
        };
        let path = test_file.display.clone();
        let took = file.started.elapsed();
        self.record(test_file, end.status, took, file.cpus.mean());
        let why = end.error.as_ref().map(|error| error.message.as_str());
        let unfinished = match end.status {
            FileStatus::Interrupted => FileInterruption::Interrupted,
            _ => FileInterruption::Failed(why.unwrap_or("the file ended in this test")),
        };
        let reason = match end.status {
            _ if self.stop.is_cancelled() => INTERRUPTED,
            FileStatus::TimedOut => "its file timed out",
            FileStatus::Crashed => "its file crashed",
            _ if end.error.is_some() => "its file failed before",
            _ => FAILED_FAST,
        };
        let (counts, left_open) = file.ledger.close(&path, unfinished, declared, reason);
        let status = match end.status {
            FileStatus::Passed if counts.not_run + counts.interrupted > 0 => {
                FileStatus::Interrupted
            }
            status => status,
        };
        for ending in left_open {
            self.sink.emit(ending);
        }
        self.count(counts, status);
        self.sink.emit(Event::FileCompleted {
            path,
            status,
            duration_ns: nanoseconds(took),
            error: end.error,
        });
    }

    /// Only a file that was run to its end with all its tests shows what the next run can expect.
    fn record(&mut self, file: &TestFile, status: FileStatus, took: Duration, cpus: u32) {
        let all_of_it = self.plan.whole_files && file.lines.is_empty() && file.names.is_empty();
        let to_its_end = matches!(
            status,
            FileStatus::Passed | FileStatus::Failed | FileStatus::TimedOut
        );
        if all_of_it && to_its_end && !self.stop.is_cancelled() {
            let peak = self.pool.peak(&file.display);
            let known = FileStats {
                duration: took,
                held: Resources {
                    cpus: cpus.max(1).min(peak.cpus),
                    ..peak
                },
            };
            self.history.record(file.path.clone(), known);
        }
    }

    fn never_started(&mut self, index: usize, reason: &str) {
        let Some(file) = self.plan.files.get(index) else {
            return;
        };
        let declared = self.declared.of(file);
        let (counts, not_run) = Ledger::default().close(
            &file.display,
            FileInterruption::Interrupted,
            &declared,
            reason,
        );
        for event in not_run {
            self.sink.emit(event);
        }
        self.count(counts, FileStatus::NotRun);
        self.sink.emit(Event::FileCompleted {
            path: file.display.clone(),
            status: FileStatus::NotRun,
            duration_ns: 0,
            error: Some(plain(reason)),
        });
    }

    fn count(&mut self, counts: Counts, status: FileStatus) {
        let failed = matches!(
            status,
            FileStatus::Failed | FileStatus::TimedOut | FileStatus::Crashed
        );
        self.outcome.passed += counts.passed;
        self.outcome.failed += counts.failed + u64::from(failed && counts.failed == 0);
        self.outcome.skipped += counts.skipped;
        self.outcome.interrupted += counts.interrupted;
        self.outcome.not_run += counts.not_run;
        self.outcome.flaky += counts.flaky;
        self.outcome.files_failed += u64::from(failed);
        self.outcome.stopped |= self.stop.is_cancelled();
    }

    /// Gives up files that do not end by themselves. What they hold goes back to the pool, and their
    /// threads end with the process.
    fn give_up_late_files(&mut self) {
        if self.stop.is_cancelled() {
            self.stopping.get_or_insert_with(Instant::now);
        }
        let stopping = self.stopping.map(|since| since.elapsed());
        let late =
            |file: &RunningFile| late(file.started.elapsed(), &file.watch, self.plan, stopping);
        let late: Vec<(usize, String)> = self
            .running
            .iter()
            .filter_map(|(index, file)| Some((*index, late(file)?)))
            .collect();
        for (index, message) in late {
            let (Some(file), Some(test_file)) =
                (self.running.remove(&index), self.plan.files.get(index))
            else {
                continue;
            };
            self.run_file.abandon(test_file);
            let declared = self.declared.of(test_file);
            self.conclude(index, FileEnd::given_up(message), &file, &declared);
            self.pool.revoke(&test_file.display);
        }
    }

    /// Reports all running files as interrupted, without waiting for them: the process ends.
    fn abandon_all_files(&mut self) {
        for (index, file) in std::mem::take(&mut self.running) {
            let Some(test_file) = self.plan.files.get(index) else {
                continue;
            };
            let declared = self.declared.of(test_file);
            self.conclude(index, FileEnd::interrupted(), &file, &declared);
        }
    }

    fn emit_blocked(&mut self, candidate: Candidate, reason: BlockReason) {
        let Some(file) = self.plan.files.get(candidate.index) else {
            return;
        };
        let reported = match reason {
            BlockReason::PoolFull => &mut self.reported_blocked,
            BlockReason::PsiPressure => &mut self.reported_held_back,
        };
        if !reported.insert(candidate.index) {
            return;
        }
        self.sink.emit(Event::FileBlocked {
            path: file.display.clone(),
            waiting_for: candidate.reservation,
            reason,
        });
    }

    fn emit_pool_state(&self) {
        let (used, available) = (self.pool.used(), self.pool.available());
        self.sink.emit(Event::PoolState { used, available });
    }
}
