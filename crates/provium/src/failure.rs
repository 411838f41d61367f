//! Errors that keep the harness from working. All of them end in exit code 2.

use crate::config::ConfigError;
use camino::Utf8PathBuf;
use provium_image::ImageError;
use provium_lab::{EnvironmentError, LabError, UnknownProfile};
use provium_process::ProcessError;
use provium_runner::DiscoverError;
use provium_store::StoreError;
use provium_vmm::VmmError;

/// Why the harness could not work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// `provium.toml` is wrong, or cannot be read.
    #[error(transparent)]
    Config(#[from] Box<ConfigError>),
    /// A path on the command line is wrong.
    #[error(transparent)]
    Discover(#[from] DiscoverError),
    /// An argument is wrong in a way that only shows later.
    #[error("{what}")]
    Usage {
        /// What, and what to write instead.
        what: String,
    },
    /// The first word is neither a command nor a path.
    #[error("no command and no path is named `{word}`")]
    UnknownCommand {
        /// The word.
        word: String,
    },
    /// A flag or value that the documentation of later versions has.
    #[error("`{what}` is not in this version of provium")]
    NotInThisVersion {
        /// What was typed.
        what: String,
    },
    /// No profile of that name.
    #[error(transparent)]
    Profile(#[from] UnknownProfile),
    /// A VM could not be booted or used.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// QEMU is missing or too old.
    #[error("cannot start VMs")]
    Machine(#[from] VmmError),
    /// The guest's image cannot be prepared.
    #[error("cannot prepare the guest image")]
    Image(#[from] ImageError),
    /// The image of a profile that a test file names cannot be prepared.
    #[error("cannot prepare the guest image of profile `{profile}`, which `{file}` names")]
    ProfileImage {
        /// The profile.
        profile: String,
        /// The test file.
        file: String,
        /// Why.
        source: Box<ImageError>,
    },
    /// The image of a profile that a test file names is not fit for what the profile asks for.
    #[error("cannot boot profile `{profile}`, which `{file}` names")]
    ProfileUnfit {
        /// The profile.
        profile: String,
        /// The test file.
        file: String,
        /// Why.
        source: Box<EnvironmentError>,
    },
    /// The file for `provium agent` cannot be written.
    #[error("cannot write the agent to `{path}`")]
    AgentNotWritten {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The cache cannot be used.
    #[error("cannot use the cache in `{path}`")]
    Cache {
        /// The cache.
        path: Utf8PathBuf,
        /// Why.
        source: ImageError,
    },
    /// The cache cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A build command could not be started, or took too long.
    #[error("cannot run the build command of profile `{profile}`: `{command}`")]
    BuildNotRun {
        /// Whose.
        profile: String,
        /// The command.
        command: String,
        /// Why.
        source: ProcessError,
    },
    /// A build command failed.
    #[error("the build command of profile `{profile}` failed ({exit}): `{command}`")]
    BuildFailed {
        /// Whose.
        profile: String,
        /// The command.
        command: String,
        /// How it ended.
        exit: String,
        /// What it printed.
        output: String,
    },
    /// A file for events cannot be written.
    #[error("cannot write events to `{path}`")]
    Events {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A report cannot be written.
    #[error("cannot write the report to `{path}`")]
    Report {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// No folder for the cache is known.
    #[error("cannot find a folder for the cache: neither HOME nor XDG_CACHE_HOME is set")]
    NoHome,
    /// The current folder is gone, or not UTF-8.
    #[error("cannot use the current folder")]
    NoCurrentFolder(#[source] std::io::Error),
    /// The host has no thread or descriptor left.
    #[error("the host refused {what}")]
    Host {
        /// What was asked of it.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Standard output or standard error cannot be written.
    #[error("cannot write to {stream}")]
    Output {
        /// Which of them.
        stream: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// A resource limit of this process is too low for any run.
    #[error("a run needs {needed} {what}, but the limit is {limit}")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many at least.
        needed: u64,
        /// How many there may be.
        limit: String,
    },
    /// The user ended it before anything was run.
    #[error("interrupted")]
    Interrupted,
}
