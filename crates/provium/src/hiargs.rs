//! What the arguments mean, together with the configuration and the host.

use crate::config::Config;
use crate::failure::Failure;
use crate::keep::KeepSettings;
use crate::lowargs::{
    self, MachineArgs, NoTests, PlainArgs, RepetitionArgs, RunArgs, SelectionArgs,
};
use crate::terminal;
use camino::{Utf8Path, Utf8PathBuf};
use provium_lab::KeptOutput;
use provium_lua::TestSelection;
use provium_pool::{Resources, default_cpus, default_memory};
use provium_report::Verbosity;
use provium_runner::{FileKind, Request, TestFile, discover};
use provium_vmm::AccelChoice;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::OnceLock;
use std::time::Duration;

/// The current folder and its configuration.
pub(crate) struct Context {
    /// The current folder.
    pub(crate) base: Utf8PathBuf,
    /// The configuration that holds here.
    pub(crate) config: Config,
    /// Whether people's text is coloured.
    pub(crate) colour: bool,
}

/// Which files, and which of their tests.
pub(crate) struct Selection {
    pub(crate) files: Vec<TestFile>,
    pub(crate) tests: TestSelection,
}

/// What machines are run with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineSettings {
    /// For the run as a whole.
    pub(crate) accel: AccelChoice,
    /// It was given on the command line, and so wins over the profiles.
    pub(crate) accel_is_explicit: bool,
    pub(crate) pool: Resources,
    pub(crate) seed: u64,
    /// Every boot is from the kernel.
    pub(crate) cold: bool,
    pub(crate) no_build: bool,
}

/// How the run is reported.
#[derive(Debug, Clone)]
pub(crate) struct OutputSettings {
    pub(crate) verbosity: Verbosity,
    pub(crate) json: bool,
    pub(crate) junit: Option<JUnitPath>,
    pub(crate) save_events: Option<Utf8PathBuf>,
    pub(crate) events_stdout: bool,
    pub(crate) repetition: Repetition,
    /// The seed of the order of files and tests, if they are shuffled.
    pub(crate) shuffle: Option<u64>,
    /// A test that takes as long is marked as slow.
    pub(crate) slow_after: Duration,
}

/// Where the JUnit report is written.
#[derive(Debug, Clone)]
pub(crate) struct JUnitPath {
    /// The file.
    pub(crate) file: Utf8PathBuf,
    /// The folder of its attachments, as the report names it.
    pub(crate) folder: String,
}

/// How often everything is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Repetition {
    /// At most so often; `None`: without a limit.
    pub(crate) times: Option<u32>,
    /// Until something fails.
    pub(crate) until_fail: bool,
    /// A flaky test is a failure.
    pub(crate) fail_flaky: bool,
}

impl Repetition {
    fn new(args: &RepetitionArgs) -> Self {
        Self {
            times: args.repeat.or((!args.until_fail).then_some(1)),
            until_fail: args.until_fail,
            fail_flaky: args.fail_flaky,
        }
    }

    /// Whether there may be more than one run.
    pub(crate) fn is_repeated(self) -> bool {
        self.times != Some(1)
    }

    /// Whether the run of that number, the first being 1, is the last one.
    pub(crate) fn ends_after(self, run: u32, result: RunResult) -> bool {
        let failed = result.failed || (self.fail_flaky && result.flaky);
        result.stopped
            || self.times.is_some_and(|times| run >= times)
            || (self.until_fail && failed)
    }
}

/// What matters of a run for whether there is another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RunResult {
    /// Something failed.
    pub(crate) failed: bool,
    /// A test was flaky.
    pub(crate) flaky: bool,
    /// The user ended it, or there was nothing to run.
    pub(crate) stopped: bool,
}

/// A run.
pub(crate) struct RunSettings {
    pub(crate) context: Context,
    pub(crate) selected: Selection,
    pub(crate) machine: MachineSettings,
    pub(crate) output: OutputSettings,
    /// Time for each file.
    pub(crate) timeout: Option<Duration>,
    pub(crate) fail_fast: bool,
    pub(crate) no_tests: NoTests,
    /// Keeps the VMs of the first failed test.
    pub(crate) keep: Option<KeepSettings>,
    /// How often a failed test is retried, where file and test say nothing.
    pub(crate) retries: u32,
    /// Only what did not pass when it was last run.
    pub(crate) rerun_failed: bool,
}

/// The folder in which the program was started.
static STARTED_IN: OnceLock<Utf8PathBuf> = OnceLock::new();

/// A path on the command line, from the folder in which the program was started.
pub(crate) fn from_start(path: &Utf8Path) -> Utf8PathBuf {
    match STARTED_IN.get() {
        Some(folder) => folder.join(path),
        None => path.to_owned(),
    }
}

/// A path as messages name it: relative to the folder in which the program was started, if it is in there.
pub(crate) fn shown(path: &Utf8Path) -> &Utf8Path {
    let folder = STARTED_IN.get();
    let relative = folder.and_then(|folder| path.strip_prefix(folder).ok());
    relative
        .filter(|path| !path.as_str().is_empty())
        .unwrap_or(path)
}

impl Context {
    pub(crate) fn new(args: &PlainArgs) -> Result<Self, Failure> {
        Self::of(args, None)
    }

    /// Where `first`, the first path that was typed, is looked for. From here on the configuration's
    /// folder is the current one, for everything that a test does by name.
    pub(crate) fn of(args: &PlainArgs, first: Option<&str>) -> Result<Self, Failure> {
        let base = std::env::current_dir().map_err(Failure::NoCurrentFolder)?;
        let base = Utf8PathBuf::from_path_buf(base).map_err(|_| {
            Failure::NoCurrentFolder(std::io::Error::other("its name is not UTF-8"))
        })?;
        let config = Config::load_for(first, args.config.as_deref(), &base)?;
        let _ = STARTED_IN.set(base.clone());
        if let Some(folder) = &config.directory {
            std::env::set_current_dir(folder).map_err(Failure::NoCurrentFolder)?;
        }
        Ok(Self {
            base,
            config,
            colour: terminal::wants_colour(args.color),
        })
    }
}

impl Selection {
    pub(crate) fn new(args: SelectionArgs, context: &Context) -> Result<Self, Failure> {
        let request = Request {
            kind: FileKind::Tests,
            paths: args.paths,
            roots: context.config.roots.clone(),
            base: context.base.clone(),
            filter: args.filter,
        };
        let tests = TestSelection {
            name: args.test,
            exact: Vec::new(),
            lines: Vec::new(),
            any_tags: args.tag,
            no_tags: args.no_tag,
            tag_meta: args.tag_meta,
            no_tag_meta: args.no_tag_meta,
            include_slow: args.include_slow,
        };
        Ok(Self {
            files: discover(&request)?,
            tests,
        })
    }
}

impl MachineSettings {
    pub(crate) fn new(args: &MachineArgs) -> Self {
        let lowargs::Vmm::Qemu = args.vmm;
        let accel = match args.accel {
            None | Some(lowargs::Accel::Auto) => AccelChoice::Auto,
            Some(lowargs::Accel::Kvm) => AccelChoice::Kvm,
            Some(lowargs::Accel::Tcg) => AccelChoice::Tcg,
        };
        let cpus = f64::from(args.cpus.unwrap_or_else(default_cpus)) * args.cpu_overcommit;
        Self {
            accel,
            accel_is_explicit: args.accel.is_some(),
            pool: Resources {
                memory_bytes: args.mem.unwrap_or_else(default_memory),
                cpus: whole(cpus).max(1),
            },
            seed: args.seed.unwrap_or_else(any_seed),
            cold: args.cold,
            no_build: args.no_build,
        }
    }
}

impl RunSettings {
    pub(crate) fn new(args: RunArgs) -> Result<Self, Failure> {
        let first = args.selection.paths.first().map(String::as_str);
        let context = Context::of(&args.plain, first)?;
        let selected = Selection::new(args.selection, &context)?;
        let keep = args.lifecycle.on_failure;
        let keep = keep.map(|_| {
            let typed = args.plain.config.as_deref();
            KeepSettings::new(typed, context.config.directory.as_deref(), &context.base)
        });
        let machine = MachineSettings::new(&args.machine);
        let slow_after = context.config.slow_after;
        let repetition = args.repetition;
        let output = args.output;
        let verbosity = match (output.verbose, output.quiet) {
            (true, _) => Verbosity::Verbose,
            (_, true) => Verbosity::Quiet,
            _ => Verbosity::Normal,
        };
        Ok(Self {
            context,
            selected,
            machine,
            output: OutputSettings {
                verbosity,
                json: output.json,
                junit: output.junit.as_deref().map(JUnitPath::new),
                save_events: output.save_events.as_deref().map(from_start),
                events_stdout: output.events_stdout,
                repetition: Repetition::new(&repetition),
                shuffle: repetition.shuffle.map(|seed| seed.unwrap_or(machine.seed)),
                slow_after,
            },
            timeout: Some(args.lifecycle.timeout).filter(|limit| !limit.is_zero()),
            fail_fast: args.lifecycle.fail_fast,
            no_tests: args.lifecycle.no_tests,
            keep,
            retries: repetition.retries,
            rerun_failed: repetition.rerun_failed,
        })
    }
}

impl RunSettings {
    /// Keeps what the report cuts: beside the report for CI servers, which store both, or else in the cache.
    pub(crate) fn kept_output(&self) -> KeptOutput {
        let base = &self.context.base;
        match &self.output.junit {
            Some(report) => KeptOutput::in_folder(report.attachments().join("output"), base),
            None => KeptOutput::in_cache(&self.context.config.cache_dir, base),
        }
    }
}

impl JUnitPath {
    /// The report at `path`, as it was typed.
    fn new(path: &Utf8Path) -> Self {
        Self {
            file: from_start(path),
            folder: format!("{path}.attachments"),
        }
    }

    /// The folder of attachments.
    pub(crate) fn attachments(&self) -> Utf8PathBuf {
        Utf8PathBuf::from(format!("{}.attachments", self.file))
    }
}

/// A whole number of vCPUs; what is beyond any machine is cut off.
fn whole(cpus: f64) -> u32 {
    // Casts from floating point saturate.
    cpus.floor() as u32
}

/// A random seed: the standard library takes its hash keys from the host's random generator.
fn any_seed() -> u64 {
    // Short enough to be typed again.
    RandomState::new().hash_one(std::process::id()) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repetition(times: Option<u32>, until_fail: bool, fail_flaky: bool) -> Repetition {
        Repetition {
            times,
            until_fail,
            fail_flaky,
        }
    }

    #[test]
    fn runs_end_by_number_failure_or_interrupt() {
        let passed = RunResult::default();
        let failed = RunResult {
            failed: true,
            ..passed
        };
        let flaky = RunResult {
            flaky: true,
            ..passed
        };
        let stopped = RunResult {
            stopped: true,
            ..passed
        };
        let three = repetition(Some(3), false, false);
        assert!(!three.ends_after(2, failed));
        assert!(three.ends_after(3, passed));
        assert!(three.ends_after(1, stopped));
        let endless = repetition(None, true, false);
        assert!(!endless.ends_after(1000, passed));
        assert!(!endless.ends_after(1, flaky));
        assert!(endless.ends_after(1, failed));
        assert!(repetition(None, true, true).ends_after(1, flaky));
    }
}
