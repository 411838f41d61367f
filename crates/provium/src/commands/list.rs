//! `provium list`: files and their tests; nothing boots.

use super::list_fixtures;
use super::listing::Lister;
use super::runtime::{SHUTDOWN, runtime};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::{Context, Selection};
use crate::lowargs::ListArgs;
use crate::terminal;
use provium_events::Value;
use provium_events::printable::{self, clean, one_line};
use provium_lua::{ChunkError, DeclaredTest, TestListing};
use provium_runner::Stop;
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Serialize)]
struct FileRow<'a> {
    path: &'a str,
    error: Option<String>,
    partial: Option<&'a str>,
    tests: Vec<TestRow<'a>>,
}

#[derive(Serialize)]
struct TestRow<'a> {
    name: &'a str,
    line: u32,
    tags: &'a [String],
    slow: bool,
    skip: Option<&'a str>,
    meta: &'a Value,
}

pub(super) fn run(args: ListArgs) -> Result<Exit, Failure> {
    let first = args.selection.paths.first().map(String::as_str);
    let context = Context::of(&args.plain, first)?;
    let fixtures = args.fixtures.then(|| args.selection.paths.clone());
    let selected = Selection::new(args.selection, &context)?;
    if let Some(paths) = fixtures {
        return list_fixtures::run(&context, paths, &selected.files, args.json);
    }
    let runtime = runtime()?;
    let handle = runtime.handle().clone();
    let lister = Lister::new(&context, selected.tests, Stop::new(), handle);
    let mut exit = Exit::Passed;
    for file in selected.files {
        let path = file.display.clone();
        let listing = lister.list(file);
        if listing.is_err() {
            exit = Exit::Failed;
        }
        terminal::out(&if args.json {
            json(&path, &listing)
        } else {
            text(&path, &listing)
        });
    }
    runtime.shutdown_timeout(SHUTDOWN);
    Ok(exit)
}

fn asked_for(listing: &TestListing) -> impl Iterator<Item = &DeclaredTest> {
    listing.tests.iter().filter(|test| test.selected)
}

fn message(error: &ChunkError) -> String {
    // Lua's own words begin with the context, where they have one.
    match &error.site {
        Some(site) if !error.message.starts_with(&site.to_string()) => {
            format!("{site}: {}", error.message)
        }
        _ => error.message.clone(),
    }
}

fn text(path: &str, listing: &Result<TestListing, ChunkError>) -> String {
    let mut out = format!("{}\n", one_line(path));
    match listing {
        Ok(listing) => {
            for test in asked_for(listing) {
                let _ = write!(out, "  {}: {}", test.line, one_line(&test.name));
                if !test.tags.is_empty() {
                    let _ = write!(out, " [{}]", one_line(&test.tags.join(", ")));
                }
                if test.slow {
                    out.push_str(" (slow)");
                }
                if let Some(reason) = &test.skip {
                    let _ = write!(out, " (skipped: {})", one_line(reason));
                }
                out.push('\n');
            }
            if let Some(why) = &listing.partial {
                let _ = writeln!(out, "  … there may be more: {}", clean(why));
            }
        }
        Err(error) => {
            let _ = writeln!(out, "  error: {}", clean(&message(error)));
        }
    }
    out
}

fn json(path: &str, listing: &Result<TestListing, ChunkError>) -> String {
    let line = match listing {
        Ok(listing) => FileRow {
            path,
            error: None,
            partial: listing.partial.as_deref(),
            tests: asked_for(listing)
                .map(|test| TestRow {
                    name: &test.name,
                    line: test.line,
                    tags: &test.tags,
                    slow: test.slow,
                    skip: test.skip.as_deref(),
                    meta: &test.meta,
                })
                .collect(),
        },
        Err(error) => FileRow {
            path,
            error: Some(message(error)),
            partial: None,
            tests: Vec::new(),
        },
    };
    // Strings, numbers, lists and maps with text keys always serialise.
    let mut text = printable::json(serde_json::to_string(&line).unwrap_or_default());
    text.push('\n');
    text
}
