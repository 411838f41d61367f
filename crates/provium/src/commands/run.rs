//! `provium [PATHS…]`: runs tests.

use super::active_run::{ActiveRun, Conclusion, ExitRules};
use super::listing::Lister;
use super::rounds::Rounds;
use super::runtime::{SHUTDOWN, runtime};
use crate::build::BuildOutputs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::RunSettings;
use crate::interrupt::Interrupts;
use crate::lowargs::RunArgs;
use crate::lua_backend::LuaFiles;
use crate::machines::RunProgress;
use crate::output::Writer;
use crate::rerun::{self, RerunState};
use crate::sources::sources;
use crate::{machines, preparation, terminal};
use provium_events::{Resources, Sink, TimedEvent};
use provium_lab::{Environment, Profile};
use provium_pool::{CancelToken, Pool, resources_of_vm};
use provium_report::Verbosity;
use provium_runner::{History, Plan, RunInfo, STUCK_AFTER, Stop, TestFile};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

pub(super) fn run(args: RunArgs) -> Result<Exit, Failure> {
    let mut settings = RunSettings::new(args)?;
    let rerun = RerunState::of(&settings.context);
    if settings.rerun_failed && !rerun.select(&mut settings.selected) {
        terminal::error("provium: nothing to run again: no failed test is recorded\n");
        return Ok(Exit::Passed);
    }
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
    let prepared = match runtime.block_on(interrupts.or(prepared)) {
        // The report says which tests were not run.
        Err(Failure::Interrupted) => Ok(PreparedRun::nothing(&settings, &sink, runtime.handle())),
        prepared => prepared,
    };
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
            rerun,
            has_files,
        };
        run.start()?.finish(&runtime, &interrupts)
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
struct PreparedRun {
    environment: Environment,
    pool: Pool,
    reservation: Resources,
}

impl PreparedRun {
    /// For a run that ends before it has prepared anything: no test of it starts.
    fn nothing(settings: &RunSettings, sink: &Sink, runtime: &tokio::runtime::Handle) -> Self {
        let profiles = settings.context.config.profiles.iter();
        let profiles = profiles.map(|profile| profile.unresolved()).collect();
        Self {
            environment: Environment::without_machines(profiles, sink.clone(), runtime.clone()),
            pool: Pool::new(settings.machine.pool, sink.clone()),
            reservation: Resources::default(),
        }
    }
}

/// Prepares profiles, their images and the host's means. Nothing is needed where there is nothing to run.
async fn prepare(
    settings: &RunSettings,
    sink: Sink,
    progress: Arc<RunProgress>,
    runtime: tokio::runtime::Handle,
) -> Result<PreparedRun, Failure> {
    let (config, machine) = (&settings.context.config, &settings.machine);
    let files = &settings.selected.files;
    let named = preparation::named_profiles(config, files);
    preparation::check_files(config, &named, machine.no_build)?;
    let (profiles, outputs, host) = if files.is_empty() {
        (Vec::new(), BuildOutputs::default(), None)
    } else {
        let setup = machines::prepare(config, files, machine, progress).await?;
        (setup.profiles, setup.outputs, Some(setup.host))
    };
    let reservation = usual_need(&profiles);
    let pool = Pool::new(machine.pool, sink.clone());
    let environment = Environment::new(profiles, host, pool.clone(), sink, machine.seed, runtime);
    let output = Some(settings.kept_output());
    let environment = environment.for_user_in(&settings.context.base, output);
    preparation::prepare_images(&environment, named).await?;
    outputs.read(&environment).await;
    Ok(PreparedRun {
        environment,
        pool,
        reservation,
    })
}

/// A run that is prepared.
struct Run {
    settings: RunSettings,
    prepared: PreparedRun,
    stop: Stop,
    sink: Sink,
    events: Receiver<TimedEvent>,
    rerun: RerunState,
    /// Files were found, whether or not one of their tests is selected.
    has_files: bool,
}

impl Run {
    /// Starts the tests, with the report that follows them.
    fn start(self) -> Result<ActiveRun, Failure> {
        let RunSettings {
            context,
            selected,
            machine,
            output,
            ..
        } = self.settings;
        let paths = rerun::paths(&selected.files);
        let sources = sources(&selected.files, context.base);
        let cache_dir = context.config.cache_dir;
        let history = History::load(&cache_dir);
        let expected = expected(&history, &selected.files);
        let writer = Writer::start(&output, context.colour, expected, sources, self.events)?;

        let PreparedRun {
            environment,
            pool,
            reservation,
        } = self.prepared;
        let accel = environment.host().map(|host| host.accel.as_str());
        let takes_all = selected.tests.takes_all();
        let abort = CancelToken::new();
        let plan = Plan {
            reservation,
            files: selected.files,
            file_timeout: self.settings.timeout,
            stuck_after: STUCK_AFTER,
            fail_fast: self.settings.fail_fast,
            abort: abort.clone(),
            shuffle: output.shuffle,
            whole_files: takes_all,
            pressure: "/proc/pressure".into(),
            info: RunInfo {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                seed: machine.seed,
                accel: accel.unwrap_or("none").to_owned(),
                host: machines::description(),
            },
        };
        let environment = match self.settings.keep {
            Some(keep) => keep.apply(environment, &cache_dir)?,
            None => environment,
        };
        let rounds = Rounds {
            plan,
            files: LuaFiles {
                selection: selected.tests,
                retries: self.settings.retries,
                shuffle: output.shuffle,
                environment: Arc::new(environment),
            },
            pool,
            sink: self.sink,
            stop: self.stop,
            repetition: output.repetition,
            history,
            cache_dir,
        };
        let exit_rules = ExitRules {
            fail_flaky: output.repetition.fail_flaky,
            no_tests: self.settings.no_tests,
            has_files: self.has_files,
            takes_all,
        };
        let conclusion = Conclusion {
            abort,
            writer,
            rerun: self.rerun,
            paths,
            exit_rules,
        };
        ActiveRun::start(rounds, conclusion)
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
