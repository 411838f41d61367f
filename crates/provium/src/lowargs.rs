//! What the user typed; [`hiargs`](crate::hiargs) decides what it means.
//!
//! Flags that this version does not implement are not listed: an error that names the nearest flag is
//! better than a flag without effect.

mod console;
mod disk;
mod plain;

pub(crate) use console::{ConsoleArgs, PushOption};
pub(crate) use disk::{DiskArgs, DiskCommand};
pub(crate) use plain::{ColorChoice, PlainArgs};

use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use provium_units::{parse_duration, parse_size};
use regex::Regex;
use std::time::Duration;

/// Runs Lua tests on real Linux guests.
#[derive(Debug, Parser)]
#[command(
    name = "provium",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 every file passed or was skipped; 1 at least one did not; 2 the harness \
                  itself could not work; 4 no test was run; 130 interrupted."
)]
pub(crate) struct LowArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List files and their tests without booting anything
    List(ListArgs),
    /// Build the default guest: find or download a kernel; does nothing if it exists
    Setup(PlainArgs),
    /// Check the host: print what is missing, its effect, and how to fix it
    Doctor(DoctorArgs),
    /// Run the build commands of profiles and unpack their images into the cache
    Prepare(PrepareArgs),
    /// List, build or remove fixtures
    Fixture(FixtureCommands),
    /// List or remove the boot templates in the cache
    Template(TemplateArgs),
    /// List or remove the images of disks in the cache
    Disk(DiskArgs),
    /// Open a shell in a guest, or run one command there
    Console {
        #[command(flatten)]
        args: ConsoleArgs,
        #[command(flatten)]
        machine: MachineArgs,
        #[command(flatten)]
        plain: PlainArgs,
    },
    /// List or remove the kept VMs of failed tests
    Kept(KeptArgs),
    /// Write the guest agent to a file, for images that include it
    Agent(AgentArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print build and version of the embedded agent
    #[command(hide = true)]
    AgentInfo,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) lifecycle: LifecycleArgs,
    #[command(flatten)]
    pub(crate) repetition: RepetitionArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct FixtureCommands {
    #[command(subcommand)]
    pub(crate) command: FixtureCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FixtureCommand {
    /// List the fixtures in the cache: size on disk, last use, whether they are up to date
    List {
        /// Print a line of JSON per fixture
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// List the fixtures that would be rebuilt, and which input has changed
    Stale {
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Build fixtures that are not in the cache or are stale
    Build {
        /// Fixtures, or folders of them
        #[arg(value_name = "P", required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Build fixtures even if the cache has them
    Rebuild {
        /// Fixtures, or folders of them
        #[arg(value_name = "P", required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Remove fixtures that are not in use
    Clean {
        /// Only these fixtures, or folders of them
        #[arg(value_name = "P")]
        paths: Vec<String>,
        #[command(flatten)]
        args: FixtureArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct FixtureArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

impl FixtureCommand {
    pub(crate) fn args(&self) -> &FixtureArgs {
        match self {
            Self::List { args, .. }
            | Self::Stale { args }
            | Self::Build { args, .. }
            | Self::Rebuild { args, .. }
            | Self::Clean { args, .. } => args,
        }
    }
}

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    pub(crate) command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TemplateCommand {
    /// List the templates: profile, machine, size on disk, last use
    List {
        /// Print a line of JSON per template
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plain: PlainArgs,
    },
    /// Remove templates that are not in use
    Clean {
        /// Only these; the first digits of a key are enough
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        plain: PlainArgs,
    },
}

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct KeptArgs {
    #[command(subcommand)]
    pub(crate) command: KeptCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeptCommand {
    /// List the failed tests whose VMs are kept: id, age, size on disk, test, VMs
    List {
        /// Print a line of JSON per failed test
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plain: PlainArgs,
    },
    /// Remove kept VMs that are not in use
    Clean {
        /// Only these; the first digits of an id are enough
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        plain: PlainArgs,
    },
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Selection")]
pub(crate) struct SelectionArgs {
    /// Files, folders, file.test.lua:LINE or file.test.lua::test name [default: the roots of
    /// provium.toml, else the current folder]
    #[arg(value_name = "PATHS")]
    pub(crate) paths: Vec<String>,
    /// Only files whose path relative to the root contains this
    #[arg(long, value_name = "SUBSTR")]
    pub(crate) filter: Option<String>,
    /// Only tests whose name matches this expression
    #[arg(long, value_name = "REGEX")]
    pub(crate) test: Option<Regex>,
    /// Also run slow tests
    #[arg(long)]
    pub(crate) include_slow: bool,
    /// Only tests with this tag; if repeated, with any of them
    #[arg(long, value_name = "T")]
    pub(crate) tag: Vec<String>,
    /// Exclude tests with this tag; takes precedence over --tag
    #[arg(long, value_name = "T")]
    pub(crate) no_tag: Vec<String>,
    /// Only tests with this metadata; values of one key are alternatives, keys add up
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub(crate) tag_meta: Vec<(String, String)>,
    /// Exclude tests with this metadata
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub(crate) no_tag_meta: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Repetition")]
pub(crate) struct RepetitionArgs {
    /// Only tests that did not pass when they were last run
    #[arg(long)]
    pub(crate) rerun_failed: bool,
    /// Retry a failed test up to N times; a test that passes then is flaky
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) retries: u32,
    /// Exit with code 1 if a test is flaky
    #[arg(long)]
    pub(crate) fail_flaky: bool,
    /// Run everything N times
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) repeat: Option<u32>,
    /// Run everything until a test fails, at most as often as --repeat says
    #[arg(long)]
    pub(crate) until_fail: bool,
    /// Run files and tests in a random order [default seed: the run's]
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true)]
    pub(crate) shuffle: Option<Option<u64>>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// Backend that runs the guests
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t)]
    pub(crate) vmm: Vmm,
    /// Accelerator; auto uses KVM if a probe guest runs with it
    #[arg(long, value_name = "ACCEL", value_enum)]
    pub(crate) accel: Option<Accel>,
    /// Memory of the pool [default: 80 % of what this process may use]
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub(crate) mem: Option<u64>,
    /// vCPUs of the pool [default: the host's CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: Option<u32>,
    /// vCPUs to schedule for each CPU of the pool, 0.5 to 8
    #[arg(long, value_name = "F", default_value = "1.0", value_parser = overcommit)]
    pub(crate) cpu_overcommit: f64,
    /// Seed of all random choices [default: random; printed when a test fails]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Boot every VM from its kernel instead of a template
    #[arg(long)]
    pub(crate) cold: bool,
    /// Do not run the build commands of profiles
    #[arg(long)]
    pub(crate) no_build: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Lifecycle")]
pub(crate) struct LifecycleArgs {
    /// Time limit of each file; 0: none
    #[arg(long, value_name = "DUR", default_value = "300", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Start no further test after the first failure
    #[arg(long)]
    pub(crate) fail_fast: bool,
    /// What to do with the VMs of the first failed test; they end with it by default
    #[arg(long, value_name = "ACTION", value_enum)]
    pub(crate) on_failure: Option<OnFailure>,
    /// Exit code of a run without a test: 4, or 0 with `pass`
    #[arg(long, value_name = "ACTION", value_enum, default_value_t)]
    pub(crate) no_tests: NoTests,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Print every test with its log, and every boot
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Print only failures and the totals
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Print a line of JSON per file
    #[arg(long, conflicts_with = "events_stdout")]
    pub(crate) json: bool,
    /// Write a JUnit report for CI servers to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<Utf8PathBuf>,
    /// Save all events to this file
    #[arg(long, value_name = "P")]
    pub(crate) save_events: Option<Utf8PathBuf>,
    /// Write all events to standard output and the report to standard error
    #[arg(long)]
    pub(crate) events_stdout: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// List fixtures instead of tests, with the files that use them
    #[arg(long)]
    pub(crate) fixtures: bool,
    /// Print a line of JSON per file
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(crate) struct DoctorArgs {
    #[command(flatten)]
    pub(crate) machine: MachineArgs,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PrepareArgs {
    /// Profile to prepare [default: all]
    #[arg(value_name = "PROFILE")]
    pub(crate) profile: Option<String>,
    /// Do not run the build commands of profiles
    #[arg(long)]
    pub(crate) no_build: bool,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    /// File to write; an existing file is replaced
    #[arg(value_name = "PATH")]
    pub(crate) path: Utf8PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell to complete for
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// The result of a run in which no test was run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum NoTests {
    /// Exit with code 4
    #[default]
    Fail,
    /// Exit with code 0
    Pass,
}

/// What to do with the VMs of the first failed test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OnFailure {
    /// Save them, to be entered with `provium console --resume`
    #[value(alias = "snapshot")]
    Keep,
}

/// What runs the guests.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Vmm {
    /// QEMU
    #[default]
    Qemu,
}

/// The accelerators.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Accel {
    /// KVM if it works, else TCG
    Auto,
    /// KVM, or an error
    Kvm,
    /// TCG, which works on every host
    Tcg,
}

impl LowArgs {
    /// When to use colours.
    pub(crate) fn color(&self) -> ColorChoice {
        let plain = match &self.command {
            None => &self.run.plain,
            Some(Command::List(list)) => &list.plain,
            Some(Command::Setup(plain)) => plain,
            Some(Command::Console { plain, .. }) => plain,
            Some(Command::Kept(kept)) => match &kept.command {
                KeptCommand::List { plain, .. } | KeptCommand::Clean { plain, .. } => plain,
            },
            Some(Command::Doctor(doctor)) => &doctor.plain,
            Some(Command::Prepare(prepare)) => &prepare.plain,
            Some(Command::Fixture(fixture)) => &fixture.command.args().plain,
            Some(Command::Template(template)) => match &template.command {
                TemplateCommand::List { plain, .. } | TemplateCommand::Clean { plain, .. } => plain,
            },
            Some(Command::Disk(disk)) => match &disk.command {
                DiskCommand::List { plain, .. } | DiskCommand::Clean { plain, .. } => plain,
            },
            Some(Command::Agent(_) | Command::Completions(_) | Command::AgentInfo) => {
                return ColorChoice::Auto;
            }
        };
        plain.color
    }
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| format!("`{text}` is not KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

fn some_size(text: &str) -> Result<u64, String> {
    match parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be greater than zero".to_owned()),
        bytes => Ok(bytes),
    }
}

fn overcommit(text: &str) -> Result<f64, String> {
    let factor: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    if factor.is_nan() {
        return Err(format!("`{text}` is not a number"));
    }
    Ok(factor.clamp(0.5, 8.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        LowArgs::command().debug_assert();
    }

    #[test]
    fn a_path_is_not_a_subcommand() {
        let low = LowArgs::try_parse_from(["provium", "tests", "-v"]).unwrap();
        assert!(low.command.is_none());
        assert_eq!(low.run.selection.paths, ["tests"]);
        assert!(LowArgs::try_parse_from(["provium", "-v", "-q"]).is_err());
        assert!(LowArgs::try_parse_from(["provium", "--json", "--events-stdout"]).is_err());
    }

    #[test]
    fn the_overcommit_is_clamped() {
        let factor = |text: &str| {
            let low = LowArgs::try_parse_from(["provium", "--cpu-overcommit", text]);
            low.map(|low| low.run.machine.cpu_overcommit).ok()
        };
        assert_eq!(factor("100"), Some(8.0));
        assert_eq!(factor("0"), Some(0.5));
        assert_eq!(factor("nan"), None);
    }
}
