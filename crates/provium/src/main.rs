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
mod tables;
mod terminal;
mod units;

use crate::commands::Verdict;
use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let low = match lowargs::LowArgs::try_parse() {
        Ok(low) => low,
        Err(asked) => {
            // `--help` and `--version` are no errors, and go to standard output.
            let failed = asked.use_stderr();
            let _ = asked.print();
            return ExitCode::from(if failed {
                Verdict::Unable
            } else {
                Verdict::Passed
            });
        }
    };
    let colour = terminal::wants_colour(low.color());
    let verdict = commands::run(low).unwrap_or_else(|failure| {
        terminal::error(&diagnostics::render(&failure, colour));
        Verdict::Unable
    });
    ExitCode::from(verdict)
}
