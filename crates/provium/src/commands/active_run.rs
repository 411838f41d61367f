//! A run whose tests are being run: waits for their end, completes the report, and decides on the exit code.

use super::rounds::Rounds;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::lowargs::NoTests;
use crate::output::Writer;
use crate::rerun::RerunState;
use crate::{keep, terminal};
use camino::Utf8PathBuf;
use provium_events::printable::one_line;
use provium_lab::{Environment, KeptFailureSummary};
use provium_pool::CancelToken;
use provium_report::FailedTests;
use provium_runner::{Outcome, record_panics};
use std::pin::pin;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// How long the report of a run may take that the user has ended at once.
const LAST_REPORT: Duration = Duration::from_millis(1500);

/// What the end of a run needs, besides its tests.
pub(super) struct Conclusion {
    /// Cancelled, to give up the tests at once.
    pub(super) abort: CancelToken,
    pub(super) writer: Writer,
    pub(super) rerun: RerunState,
    /// The test files, by their names in events.
    pub(super) paths: Vec<(String, Utf8PathBuf)>,
    pub(super) exit_rules: ExitRules,
}

/// What the exit code depends on, besides the outcome.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExitRules {
    pub(super) fail_flaky: bool,
    pub(super) no_tests: NoTests,
    /// Files were found, whether or not one of their tests is selected.
    pub(super) has_files: bool,
    /// All tests of the files are selected.
    pub(super) takes_all: bool,
}

/// A run whose tests are being run, on a thread of their own.
pub(super) struct ActiveRun {
    dispatcher: JoinHandle<()>,
    outcome: oneshot::Receiver<Outcome>,
    environment: Arc<Environment>,
    conclusion: Conclusion,
}

impl ActiveRun {
    /// Starts the tests.
    ///
    /// # Errors
    /// When the host has no thread left.
    pub(super) fn start(rounds: Rounds, conclusion: Conclusion) -> Result<Self, Failure> {
        record_panics();
        let environment = Arc::clone(&rounds.files.environment);
        let (done, outcome) = oneshot::channel();
        let dispatcher = std::thread::Builder::new().name("dispatcher".to_owned());
        let dispatcher = dispatcher.spawn(move || {
            let _ = done.send(rounds.run());
        });
        let dispatcher = dispatcher.map_err(|source| Failure::Host {
            what: "a thread",
            source,
        })?;
        Ok(Self {
            dispatcher,
            outcome,
            environment,
            conclusion,
        })
    }

    /// Waits until all tests have ended, or until the user ends the run at once, and completes the report.
    pub(super) fn finish(
        self,
        runtime: &Runtime,
        interrupts: &Interrupts,
    ) -> Result<Exit, Failure> {
        let Self {
            dispatcher,
            outcome,
            environment,
            conclusion,
        } = self;
        let (mut outcome, mut finished) = (pin!(outcome), None);
        let in_good_order = runtime.block_on(async {
            let work = async {
                finished = outcome.as_mut().await.ok();
                environment.drain().await;
            };
            tokio::select! {
                () = work => true,
                () = interrupts.at_least(2) => false,
            }
        });
        let notes = FinalNotes::of(&environment);
        // The writer ends with the last sink.
        drop(environment);
        let (true, Some(total)) = (in_good_order, finished) else {
            let rest = async {
                if finished.is_none() {
                    let _ = outcome.await;
                }
            };
            conclusion.report_at_once(runtime, rest);
            return Ok(stopped_at_once());
        };
        // It has sent its last word.
        let _ = dispatcher.join();
        // The reader of the output may have stopped reading.
        let written = runtime.block_on(async {
            tokio::select! {
                written = conclusion.writer.finish() => Some(written),
                () = interrupts.at_least(2) => None,
            }
        });
        let Some(written) = written else {
            return Ok(stopped_at_once());
        };
        record_failed(&conclusion.rerun, &written?, &conclusion.paths);
        notes.print();
        Ok(conclusion.exit_rules.conclude(&total))
    }
}

impl Conclusion {
    /// Reports what has run all the same, unless the reader of the output has stopped reading. `rest` ends
    /// when the tests have been given up.
    fn report_at_once(self, runtime: &Runtime, rest: impl Future<Output = ()>) {
        self.abort.cancel();
        let report = async {
            rest.await;
            self.writer.finish().await
        };
        let report = async { tokio::time::timeout(LAST_REPORT, report).await };
        if let Ok(Ok(failed)) = runtime.block_on(report) {
            let _ = self.rerun.save(&failed, &self.paths);
        }
    }
}

fn stopped_at_once() -> Exit {
    terminal::last_words("provium: stopped at once\n");
    Exit::Interrupted
}

/// Records the failed tests for `--rerun-failed`. What cannot be recorded costs that, and nothing else.
fn record_failed(rerun: &RerunState, failed: &FailedTests, paths: &[(String, Utf8PathBuf)]) {
    if let Err(error) = rerun.save(failed, paths) {
        let why = one_line(&error.to_string());
        terminal::error(&format!(
            "provium: warning: cannot record the failed tests: {why}\n"
        ));
    }
}

/// What the user should know behind the report.
struct FinalNotes {
    is_unconfined: bool,
    kept: Option<KeptFailureSummary>,
}

impl FinalNotes {
    fn of(environment: &Environment) -> Self {
        let host = environment.host();
        Self {
            is_unconfined: host.is_some_and(|host| !host.qemu.has_sandbox()),
            kept: environment.kept_failure().cloned(),
        }
    }

    fn print(&self) {
        if self.is_unconfined {
            terminal::error(
                "provium: this QEMU cannot confine itself, so guests ran without its sandbox; \
                 `provium doctor` shows why\n",
            );
        }
        if let Some(kept) = &self.kept {
            terminal::error(&keep::report(kept));
        }
    }
}

impl ExitRules {
    /// The exit code of a run. Prints why, if no test was run.
    fn conclude(self, outcome: &Outcome) -> Exit {
        if outcome.stopped {
            return Exit::Interrupted;
        }
        if outcome.files_failed > 0 || (self.fail_flaky && outcome.flaky > 0) {
            return Exit::Failed;
        }
        if outcome.passed + outcome.skipped > 0 {
            return Exit::Passed;
        }
        if self.has_files {
            terminal::error(if self.takes_all {
                "provium: no test was run: the files declare no tests\n"
            } else {
                "provium: no test matches the selection; `provium list` shows all tests\n"
            });
        }
        match self.no_tests {
            NoTests::Fail => Exit::NothingRun,
            NoTests::Pass => Exit::Passed,
        }
    }
}
