//! The executable: arguments, configuration, output, exit codes.
//!
//! ```text
//! words typed ─ lowargs ─▶ what was typed ─ hiargs ─▶ what it means ─ commands ─▶ exit code
//!                                            ▲
//! provium.toml ─ config ─────────────────────┘
//! ```
//!
//! This is the only crate that prints and the only one that decides an exit code ([`exit`]). Everything
//! that goes wrong is a [`Failure`](failure::Failure); `diagnostics` turns it into words.

mod argv;
mod build;
mod commands;
mod config;
mod diagnostics;
mod exit;
mod failure;
mod hiargs;
mod interrupt;
mod keep;
mod lowargs;
mod lua_backend;
mod machines;
mod output;
mod preparation;
mod rerun;
mod sources;
mod suggestion;
mod terminal;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::lowargs::{ColorChoice, LowArgs};
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    provium_process::raise_limits();
    terminal::restore_on_panic();
    // A panic is a bug of ours, and the harness could not work; its words were printed where it
    // happened.
    let exit = std::panic::catch_unwind(carry_out).unwrap_or(Exit::Unable);
    ExitCode::from(exit)
}

fn carry_out() -> Exit {
    let words = argv::in_order(std::env::args_os());
    if let Some(word) = argv::unknown_command(&words) {
        return fail(&Failure::UnknownCommand { word }, ColorChoice::Auto);
    }
    let low = match LowArgs::try_parse_from(words) {
        Ok(low) => low,
        Err(asked) => return explain(&asked),
    };
    let colour = terminal::wants_colour(low.color());
    terminal::set_colours(colour);
    let exit = commands::run(low).unwrap_or_else(|failure| {
        terminal::error(&diagnostics::render(&failure, colour));
        Exit::of(&failure)
    });
    all_written(exit, colour)
}

fn fail(failure: &Failure, color: ColorChoice) -> Exit {
    let colour = terminal::wants_colour(color);
    terminal::set_colours(colour);
    terminal::error(&diagnostics::render(failure, colour));
    Exit::of(failure)
}

/// What was typed cannot be understood, or asks for help.
fn explain(asked: &clap::Error) -> Exit {
    if let Some(flag) = argv::planned_flag(asked) {
        return fail(&Failure::NotInThisVersion { what: flag }, ColorChoice::Auto);
    }
    let colour = terminal::wants_colour(ColorChoice::Auto);
    terminal::set_colours(colour);
    let text = asked.render();
    let text = if colour {
        text.ansi().to_string()
    } else {
        text.to_string()
    };
    // `--help` and `--version` are not errors, and go to standard output.
    if asked.use_stderr() {
        terminal::error(&text);
        Exit::Unable
    } else {
        terminal::out(&text);
        all_written(Exit::Passed, colour)
    }
}

/// The exit, unless some of the output was lost: that is a failure of the harness.
fn all_written(exit: Exit, colour: bool) -> Exit {
    let Some(failure) = terminal::failure() else {
        return exit;
    };
    terminal::error(&diagnostics::render(&failure, colour));
    Exit::Unable
}
