//! `provium [PATHS…]`: runs tests.

use super::listing::Lister;
use super::runtime::{SHUTDOWN, runtime};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::RunSettings;
use crate::interrupt::Interrupts;
use crate::lowargs::{NoTests, RunArgs};
use crate::lua_backend::LuaFiles;
use crate::machines::RunProgress;
use crate::output::Writer;
use crate::sources::sources;
use crate::{machines, preparation, terminal};
use provium_events::{Resources, Sink, Stamped};
use provium_lab::{Environment, Profile};
use provium_pool::{Pool, resources_of_vm};
use provium_report::Verbosity;
use provium_runner::{History, Outcome, Plan, RunInfo, STUCK_AFTER, Stop, TestFile, record_panics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use tokio::sync::oneshot;

pub(super) fn run(args: RunArgs) -> Result<Exit, Failure> {
    let mut settings = RunSettings::new(args)?;
    let has_files = !settings.selected.files.is_empty();
    if !has_files {
        terminal::error("provium: no test files (*.test.lua) found\n");
    }
    let runtime = runtime()?;
    let stop = Stop::new();
    let interrupts = runtime.block_on(async { Interrupts::listen(stop.clone()) })?;
    drop_files_that_cannot_match(&mut settings, &stop, runtime.handle());
    let (sink, events) = Sink::channel();
    let is_quiet = settings.output.verbosity == Verbosity::Quiet;
    let progress = Arc::new(RunProgress::new(sink.clone(), is_quiet));
    let handle = runtime.handle().clone();
    let prepared = prepare(&settings, sink.clone(), Arc::clone(&progress), handle);
    let prepared = runtime.block_on(interrupts.or(prepared));
    let result = prepared.and_then(|prepared| {
        progress.run_starts();
        // The writer ends with the last sink.
        drop(progress);
        let run = Run {
            settings,
            prepared,
            stop,
            sink,
            events,
            has_files,
        };
        run.finish(&runtime, &interrupts)
    });
    // After a second Ctrl-C files may still be at work; they end with the process.
    runtime.shutdown_timeout(SHUTDOWN);
    result
}

/// Removes files of which no test is selected, so that they boot nothing.
fn drop_files_that_cannot_match(
    settings: &mut RunSettings,
    stop: &Stop,
    runtime: &tokio::runtime::Handle,
) {
    let selected = &mut settings.selected;
    if selected.tests.takes_all() {
        return;
    }
    let lister = Lister::new(
        &settings.context,
        selected.tests.clone(),
        stop.clone(),
        runtime.clone(),
    );
    selected.files.retain(|file| lister.may_match(file));
}

/// What a run has before its first test starts.
struct Prepared {
    environment: Environment,
    pool: Pool,
    reservation: Resources,
}

/// Prepares profiles, their images and the host's means. Nothing is needed where there is nothing to run.
async fn prepare(
    settings: &RunSettings,
    sink: Sink,
    progress: Arc<RunProgress>,
    runtime: tokio::runtime::Handle,
) -> Result<Prepared, Failure> {
    let (config, machine) = (&settings.context.config, &settings.machine);
    let files = &settings.selected.files;
    let (profiles, host) = if files.is_empty() {
        (Vec::new(), None)
    } else {
        let (profiles, host) = machines::prepare(config, files, machine, progress).await?;
        (profiles, Some(host))
    };
    let reservation = usual_need(&profiles);
    let pool = Pool::new(machine.pool, sink.clone());
    let environment = Environment::new(profiles, host, pool.clone(), sink, machine.seed, runtime);
    let named = preparation::named_profiles(config, files);
    preparation::prepare_images(&environment, named).await?;
    Ok(Prepared {
        environment,
        pool,
        reservation,
    })
}

struct Run {
    settings: RunSettings,
    prepared: Prepared,
    stop: Stop,
    sink: Sink,
    events: Receiver<Stamped>,
    /// Files were found, whether or not one of their tests is selected.
    has_files: bool,
}

impl Run {
    fn finish(
        self,
        runtime: &tokio::runtime::Runtime,
        interrupts: &Interrupts,
    ) -> Result<Exit, Failure> {
        let settings = self.settings;
        let RunSettings {
            context,
            selected,
            machine,
            output,
            ..
        } = settings;
        let (sink, events) = (self.sink, self.events);
        let sources = sources(&selected.files, context.base);
        let cache_dir = context.config.cache_dir;
        let mut history = History::load(&cache_dir);
        let expected = expected(&history, &selected.files);
        let writer = Writer::start(&output, context.colour, expected, sources, events)?;

        let Prepared {
            environment,
            pool,
            reservation,
        } = self.prepared;
        let accel = environment
            .host()
            .map_or("none", |host| host.accel.as_str());
        let takes_all = selected.tests.takes_all();
        let plan = Plan {
            reservation,
            files: selected.files,
            file_timeout: settings.timeout,
            stuck_after: STUCK_AFTER,
            fail_fast: settings.fail_fast,
            whole_files: takes_all,
            pressure: "/proc/pressure".into(),
            info: RunInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                seed: machine.seed,
                accel: accel.to_owned(),
                host: machines::description(),
            },
        };
        let environment = Arc::new(environment);
        let files = LuaFiles {
            selection: selected.tests,
            retries: 0,
            environment: Arc::clone(&environment),
        };

        record_panics();
        let (done, outcome) = oneshot::channel();
        let stop = self.stop;
        let dispatcher = std::thread::Builder::new().name("dispatcher".to_owned());
        let thread = dispatcher.spawn(move || {
            let outcome =
                provium_runner::run(&plan, &mut history, &pool, &sink, &stop, files.runner());
            // A cache that takes nothing costs the next run its order, and nothing else.
            let _ = history.save(&cache_dir);
            // Dropped here, so that the writer ends: the plan's sinks are gone, too.
            drop((pool, sink));
            let _ = done.send(outcome);
        });
        let thread = thread.map_err(|source| Failure::Host {
            what: "a thread",
            source,
        })?;

        let outcome = runtime.block_on(async {
            let work = async {
                let outcome = outcome.await.ok();
                environment.drain().await;
                outcome
            };
            tokio::select! {
                outcome = work => outcome,
                () = interrupts.at_least(2) => None,
            }
        });
        let unconfined = environment
            .host()
            .is_some_and(|host| !host.qemu.has_sandbox());
        // The writer ends with the last sink.
        drop(environment);
        let stopped = || {
            terminal::last_words("provium: stopped at once\n");
            Ok(Exit::Interrupted)
        };
        let Some(outcome) = outcome else {
            return stopped();
        };
        // It has sent its last word.
        let _ = thread.join();
        // The reader of the output may have stopped reading.
        let written = runtime.block_on(async {
            tokio::select! {
                written = writer.finish() => Some(written),
                () = interrupts.at_least(2) => None,
            }
        });
        let Some(written) = written else {
            return stopped();
        };
        written?;
        if unconfined {
            terminal::error(
                "provium: this QEMU cannot confine itself, so guests ran without its sandbox; \
                 `provium doctor` shows why\n",
            );
        }
        let exit = exit(&outcome);
        if exit != Exit::NothingRun {
            return Ok(exit);
        }
        if self.has_files {
            terminal::error(if takes_all {
                "provium: no test was run: the files declare no tests\n"
            } else {
                "provium: no test matches the selection; `provium list` shows all tests\n"
            });
        }
        Ok(match settings.no_tests {
            NoTests::Fail => exit,
            NoTests::Pass => Exit::Passed,
        })
    }
}

fn exit(outcome: &Outcome) -> Exit {
    if outcome.stopped {
        Exit::Interrupted
    } else if outcome.files_failed > 0 {
        Exit::Failed
    } else if outcome.passed + outcome.skipped == 0 {
        Exit::NothingRun
    } else {
        Exit::Passed
    }
}

/// How long files took before, by their names in events, in nanoseconds.
fn expected(history: &History, files: &[TestFile]) -> BTreeMap<String, u64> {
    let known = |file: &TestFile| {
        let duration = history.of(&file.path)?.duration;
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Some((file.display.clone(), nanoseconds))
    };
    files.iter().filter_map(known).collect()
}

/// What a file is taken to need: one VM of the smallest kind.
fn usual_need(profiles: &[Profile]) -> Resources {
    let smallest = profiles
        .iter()
        .map(|profile| resources_of_vm(profile.memory, profile.cpus));
    smallest
        .min_by_key(|need| (need.memory_bytes, need.cpus))
        .unwrap_or_default()
}
