//! The arguments of `provium disk`.

use super::plain::PlainArgs;
use clap::{Args, Subcommand};

#[derive(Debug, Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct DiskArgs {
    #[command(subcommand)]
    pub(crate) command: DiskCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// List the images that were made of folders, archives and qcow2 files: size on disk, age, last use, source
    List {
        /// Print a line of JSON per image
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        plain: PlainArgs,
    },
    /// Remove images that are not in use; they are made again when they are used
    Clean {
        /// Only these; the first digits of a key are enough
        #[arg(value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        plain: PlainArgs,
    },
}
