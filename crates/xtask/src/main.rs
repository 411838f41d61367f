//! Chores of the source tree: `cargo xtask tidy`, `cargo xtask docs-snippets`.
//!
//! Reads files and says what it found; `tidy` changes nothing, `docs-snippets` writes into the one
//! folder it is given. It starts no program, needs no network, and nothing that is shipped depends
//! on it.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

mod finding;
mod markdown;
mod rules;
mod rust_source;
mod snippets;
mod tidy;
mod tree;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask tidy                  check the source tree against its own rules
       cargo xtask docs-snippets OUTDIR  write the documentation's Lua as test files";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let outcome = match args.as_slice() {
        ["tidy"] => tidy(&root),
        ["docs-snippets", out] => docs_snippets(&root, Path::new(out)),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("xtask: {error}");
        ExitCode::from(2)
    })
}

fn tidy(root: &Path) -> Result<ExitCode, tree::TreeError> {
    let tree = tree::Tree::read(root)?;
    let findings = tidy::check(&tree);
    for finding in &findings {
        println!("{finding}");
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to say", tree.len());
        Ok(ExitCode::SUCCESS)
    } else {
        println!("tidy: {} finding(s)", findings.len());
        Ok(ExitCode::FAILURE)
    }
}

fn docs_snippets(root: &Path, out: &Path) -> Result<ExitCode, tree::TreeError> {
    let tree = tree::Tree::read(root)?;
    let count = snippets::write(&tree, out)?;
    println!(
        "docs-snippets: {count} page(s) with tests, in {}",
        out.display()
    );
    Ok(ExitCode::SUCCESS)
}
