//! Checks of the source tree, and files made from it: `cargo xtask tidy`, `cargo xtask
//! docs-snippets`.
//!
//! `tidy` reads files and prints what breaks a rule; with `--update` or `--accept` it also writes the
//! lists of tolerated findings. `docs-snippets` writes into the one folder that it is given. Neither uses the
//! network, the only program that is started is git, and nothing that is shipped depends on this
//! crate.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for the terminal"
)]

mod finding;
mod git;
mod lua_source;
mod markdown;
mod module_graph;
mod ratchet;
mod rules;
mod rust_source;
mod snippets;
mod tidy;
mod tree;
mod use_paths;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask tidy                  check the source tree against its own rules
       cargo xtask tidy --update         the same, and shorten the lists of tolerated findings
       cargo xtask tidy --accept         tolerate what is found, to merge a branch older than a rule
       cargo xtask docs-snippets OUTDIR  write the documentation's Lua as test files";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let outcome = match args.as_slice() {
        ["tidy"] => tidy(&root),
        ["tidy", "--update"] => write_lists(&root, |o| o.updates).and_then(|()| tidy(&root)),
        ["tidy", "--accept"] => write_lists(&root, |o| o.accepts).and_then(|()| tidy(&root)),
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

fn check(root: &Path) -> Result<(usize, ratchet::Outcome), tree::TreeError> {
    let tree = tree::Tree::read(root)?;
    let outcome = tidy::check(&tree, git::own_commits(root, rules::SINCE));
    Ok((tree.len(), outcome))
}

fn tidy(root: &Path) -> Result<ExitCode, tree::TreeError> {
    let (files, outcome) = check(root)?;
    for finding in &outcome.findings {
        println!("{finding}");
    }
    for note in &outcome.notes {
        println!("tidy: note: {note}");
    }
    if outcome.findings.is_empty() {
        println!("tidy: {files} files, nothing found");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("tidy: {} finding(s)", outcome.findings.len());
        Ok(ExitCode::FAILURE)
    }
}

/// Writes new texts of the lists of tolerated findings.
fn write_lists(
    root: &Path,
    texts: impl FnOnce(ratchet::Outcome) -> Vec<(&'static str, String)>,
) -> Result<(), tree::TreeError> {
    let (_, outcome) = check(root)?;
    for (path, text) in texts(outcome) {
        fs_err::write(root.join(path), text)?;
        println!("tidy: wrote {path}");
    }
    Ok(())
}

fn docs_snippets(root: &Path, out: &Path) -> Result<ExitCode, tree::TreeError> {
    let tree = tree::Tree::read(root)?;
    let written = snippets::write(&tree, out)?;
    println!(
        "docs-snippets: {} page(s) with tests, in {}",
        written.pages,
        out.display()
    );
    for page in &written.without_tests {
        println!(
            "docs-snippets: {page}: its Lua declares no test; add one, or fence it as `lua,ignore`"
        );
    }
    match written.without_tests.is_empty() {
        true => Ok(ExitCode::SUCCESS),
        false => Ok(ExitCode::FAILURE),
    }
}
