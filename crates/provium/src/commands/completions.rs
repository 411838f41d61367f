//! `provium completions SHELL`.

use crate::exit::Exit;
use crate::lowargs::{CompletionsArgs, LowArgs};
use crate::terminal;
use clap::CommandFactory as _;

pub(super) fn run(args: &CompletionsArgs) -> Exit {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut LowArgs::command(), "provium", &mut text);
    terminal::out_bytes(&text);
    Exit::Passed
}
