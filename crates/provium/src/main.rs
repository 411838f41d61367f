//! The executable: arguments, configuration, output, exit codes.
//!
//! ```text
//! words typed ─ lowargs ─▶ what was typed ─ hiargs ─▶ what it means ─ commands ─▶ exit code
//!                                            ▲
//! provium.toml ─ config ─────────────────────┘
//! ```
//!
//! This is the only crate that prints and the only one that decides an exit code: 0 when every file
//! passed or was skipped, 1 when one did not, 2 when the harness itself could not work. What goes
//! wrong on the way is a [`Failure`](failure::Failure); `diagnostics` turns it into words.

mod argv;
mod build;
mod commands;
mod config;
mod diagnostics;
mod failure;
mod hiargs;
mod interrupt;
mod live;
mod lowargs;
mod machines;
mod output;
mod sources;
mod suggestion;
mod tables;
mod terminal;

use crate::commands::Verdict;
use crate::lowargs::LowArgs;
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    provium_process::raise_limits();
    // A panic is a bug of ours, and the harness could not work; its words were printed where it
    // happened.
    let verdict = std::panic::catch_unwind(carry_out).unwrap_or(Verdict::Unable);
    ExitCode::from(verdict)
}

fn carry_out() -> Verdict {
    let low = match LowArgs::try_parse_from(argv::in_order(std::env::args_os())) {
        Ok(low) => low,
        Err(asked) => return explain(&asked),
    };
    let colour = terminal::wants_colour(low.color());
    terminal::set_colours(colour);
    let verdict = commands::run(low).unwrap_or_else(|failure| {
        terminal::error(&diagnostics::render(&failure, colour));
        Verdict::Unable
    });
    all_written(verdict, colour)
}

/// What was typed cannot be understood, or asks for help.
fn explain(asked: &clap::Error) -> Verdict {
    let colour = terminal::wants_colour(lowargs::ColorChoice::Auto);
    terminal::set_colours(colour);
    let text = asked.render();
    let text = if colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    // `--help` and `--version` are no errors, and go to standard output.
    if asked.use_stderr() {
        terminal::error(&text);
        Verdict::Unable
    } else {
        terminal::out(&text);
        all_written(Verdict::Passed, colour)
    }
}

/// The verdict, unless some of the output was lost: that is no success.
fn all_written(verdict: Verdict, colour: bool) -> Verdict {
    let Some(failure) = terminal::failure() else {
        return verdict;
    };
    terminal::error(&diagnostics::render(&failure, colour));
    Verdict::Unable
}
