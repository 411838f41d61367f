//! What the user typed, before anybody thinks about what it means.
//!
//! Flags of which this version knows nothing are not listed: an error that names the nearest flag is
//! better than one that is passed over in silence.

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
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 every file passed or was skipped; 1 at least one did not; \
                  2 the harness itself could not work."
)]
pub(crate) struct LowArgs {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show files and their tests; nothing boots
    List(ListArgs),
    /// Make the default guest: find or fetch a kernel, keep the result; again does nothing
    Setup(PlainArgs),
    /// Check everything once, and say what each missing piece costs and what mends it
    Doctor(DoctorArgs),
    /// Run the build commands of profiles, and unpack what they boot from
    Prepare(PrepareArgs),
    /// Show, build or remove fixtures
    Fixture(FixtureCommands),
    /// Show or remove the boot templates in the cache
    Template(TemplateArgs),
    /// Write the guest's agent to a file, for an image that brings it itself
    Agent(AgentArgs),
    /// Print a shell's completions
    Completions(CompletionsArgs),
    /// Print which agent is inside
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
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) plain: PlainArgs,
}

#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    /// The configuration [default: provium.toml in this folder or the nearest parent]
    #[arg(long, value_name = "P")]
    pub(crate) config: Option<Utf8PathBuf>,
    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: ColorChoice,
}

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct FixtureCommands {
    #[command(subcommand)]
    pub(crate) command: FixtureCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum FixtureCommand {
    /// Show what the cache holds: size on disk, last use, and whether it still holds
    List {
        /// A line of JSON for each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Show which fixtures would be built anew, and which of their inputs has changed
    Stale {
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Build what the cache does not hold
    Build {
        /// Fixtures, or folders of them
        #[arg(value_name = "P", required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Build also what the cache holds
    Rebuild {
        /// Fixtures, or folders of them
        #[arg(value_name = "P", required = true)]
        paths: Vec<String>,
        #[command(flatten)]
        args: FixtureArgs,
    },
    /// Remove those that nobody uses
    Clean {
        /// Only of these fixtures, or folders of them
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
    /// Show what there is: kind of machine, size on disk, last use
    List {
        /// A line of JSON for each
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plain: PlainArgs,
    },
    /// Remove those that nobody uses
    Clean {
        /// Only these; the first digits of a key suffice
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
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
    /// Only files whose path, from the root, contains this
    #[arg(long, value_name = "SUBSTR")]
    pub(crate) filter: Option<String>,
    /// Only tests whose name matches
    #[arg(long, value_name = "REGEX")]
    pub(crate) test: Option<Regex>,
    /// Slow tests, too
    #[arg(long)]
    pub(crate) include_slow: bool,
    /// Only tests with this tag; several: with any of them
    #[arg(long, value_name = "T")]
    pub(crate) tag: Vec<String>,
    /// No tests with this tag; wins over --tag
    #[arg(long, value_name = "T")]
    pub(crate) no_tag: Vec<String>,
    /// Only tests with this in their meta; several of one key: any, several keys: all
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub(crate) tag_meta: Vec<(String, String)>,
    /// No tests with this in their meta
    #[arg(long, value_name = "K=V", value_parser = key_value)]
    pub(crate) no_tag_meta: Vec<(String, String)>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct MachineArgs {
    /// What runs the guests
    #[arg(long, value_name = "BACKEND", value_enum, default_value_t)]
    pub(crate) vmm: Vmm,
    /// The accelerator; auto takes KVM where it proves to work
    #[arg(long, value_name = "ACCEL", value_enum)]
    pub(crate) accel: Option<Accel>,
    /// Memory that all files share [default: 80 % of what this process may use]
    #[arg(long, value_name = "SIZE", value_parser = some_size)]
    pub(crate) mem: Option<u64>,
    /// vCPUs that all files share [default: the host's]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cpus: Option<u32>,
    /// How many vCPUs to share out for each of them, from 0.5 to 8
    #[arg(long, value_name = "F", default_value = "1.0", value_parser = overcommit)]
    pub(crate) cpu_overcommit: f64,
    /// What every random choice comes from [default: by chance; told when a test fails]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Boot every VM from its kernel, and none from a template
    #[arg(long)]
    pub(crate) cold: bool,
    /// Do not run the build commands of profiles
    #[arg(long)]
    pub(crate) no_build: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Lifecycle")]
pub(crate) struct LifecycleArgs {
    /// Time for each file; 0: as long as it takes
    #[arg(long, value_name = "DUR", default_value = "300", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    /// Start nothing more after the first file that fails
    #[arg(long)]
    pub(crate) fail_fast: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Every test and every boot
    #[arg(short, long, conflicts_with = "quiet")]
    pub(crate) verbose: bool,
    /// Only what went wrong, and the last line
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// A JSON object a file, each on a line
    #[arg(long, conflicts_with = "events_stdout")]
    pub(crate) json: bool,
    /// Write all events to a file
    #[arg(long, value_name = "P")]
    pub(crate) save_events: Option<Utf8PathBuf>,
    /// Write all events to standard output, and the text for people to standard error
    #[arg(long)]
    pub(crate) events_stdout: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    pub(crate) selection: SelectionArgs,
    /// Fixtures instead of tests, with the test files that name them
    #[arg(long)]
    pub(crate) fixtures: bool,
    /// A JSON object a file, each on a line
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
    /// Which profile [default: all]
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
    /// The file to write; one that is there is replaced
    #[arg(value_name = "PATH")]
    pub(crate) path: Utf8PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Whose completions
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also where nobody looks
    Always,
    /// Not at all
    Never,
}

/// What runs the guests.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum Vmm {
    /// Machines of QEMU
    #[default]
    Qemu,
}

/// The accelerators.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Accel {
    /// KVM where it proves to work, else TCG
    Auto,
    /// KVM, or nothing
    Kvm,
    /// TCG, which works everywhere
    Tcg,
}

impl LowArgs {
    /// When to use colours.
    pub(crate) fn color(&self) -> ColorChoice {
        let plain = match &self.command {
            None => &self.run.plain,
            Some(Command::List(list)) => &list.plain,
            Some(Command::Setup(plain)) => plain,
            Some(Command::Doctor(doctor)) => &doctor.plain,
            Some(Command::Prepare(prepare)) => &prepare.plain,
            Some(Command::Fixture(fixture)) => &fixture.command.args().plain,
            Some(Command::Template(template)) => match &template.command {
                TemplateCommand::List { plain, .. } | TemplateCommand::Clean { plain, .. } => plain,
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
        0 => Err("must be greater than 0".to_owned()),
        bytes => Ok(bytes),
    }
}

fn overcommit(text: &str) -> Result<f64, String> {
    let factor: f64 = text
        .parse()
        .map_err(|_| format!("`{text}` is not a number"))?;
    if factor.is_nan() {
        return Err("a factor is a number".to_owned());
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
    fn a_path_is_no_subcommand() {
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
