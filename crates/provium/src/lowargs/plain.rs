//! The arguments of every command that reads the configuration.

use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct PlainArgs {
    /// Configuration file [default: provium.toml in this folder or the nearest parent]
    #[arg(long, value_name = "P")]
    pub(crate) config: Option<Utf8PathBuf>,
    /// When to use colours
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub(crate) color: ColorChoice,
}

/// When to use colours.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Also if the output is not a terminal
    Always,
    /// Never
    Never,
}
