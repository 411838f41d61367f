//! `provium list --fixtures`: the fixtures of a project, and who names them; nothing boots.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::terminal;
use camino::Utf8PathBuf;
use provium_events::printable::{self, one_line};
use provium_runner::{FIXTURE_SUFFIX, FileKind, Request, TestFile, discover, fixture_refs};
use serde::Serialize;

#[derive(Serialize)]
struct FixtureFileRow<'a> {
    path: &'a str,
    /// Test files and fixtures that name it.
    used_by: Vec<&'a str>,
}

/// Where something is named, and what it names.
struct FixtureUser {
    display: String,
    refs: Vec<Utf8PathBuf>,
}

pub(super) fn run(
    context: &Context,
    paths: Vec<String>,
    tests: &[TestFile],
    json: bool,
) -> Result<Exit, Failure> {
    let fixtures = discover(&Request {
        kind: FileKind::Fixtures,
        paths,
        roots: context.config.roots.clone(),
        base: context.base.clone(),
        filter: None,
    })?;
    let namings: Vec<FixtureUser> = tests.iter().chain(&fixtures).map(naming).collect();
    for fixture in &fixtures {
        let names = |naming: &&FixtureUser| naming.refs.contains(&fixture.path);
        let line = FixtureFileRow {
            path: &fixture.display,
            used_by: namings
                .iter()
                .filter(names)
                .map(|naming| naming.display.as_str())
                .collect(),
        };
        terminal::out(&if json {
            // Strings always serialise.
            printable::json(serde_json::to_string(&line).unwrap_or_default()) + "\n"
        } else {
            text(&line)
        });
    }
    Ok(Exit::Passed)
}

/// What a file names, by the paths that it would find when it runs.
fn naming(file: &TestFile) -> FixtureUser {
    let source = std::fs::read_to_string(&file.path).unwrap_or_default();
    let refs = fixture_refs(&source).into_iter();
    let roots = || std::iter::once(&file.root).chain(&file.package_roots);
    let found = |path: String| {
        let full = match path.ends_with(FIXTURE_SUFFIX) {
            true => path,
            false => format!("{path}{FIXTURE_SUFFIX}"),
        };
        let mut places = roots().map(|root| root.join(&full));
        let place = places.find(|place| place.is_file())?;
        place.canonicalize_utf8().ok()
    };
    FixtureUser {
        display: file.display.clone(),
        refs: refs.filter_map(found).collect(),
    }
}

fn text(line: &FixtureFileRow<'_>) -> String {
    let path = one_line(line.path);
    match line.used_by.as_slice() {
        [] => format!("{path}\n  named in no test file\n"),
        files => format!("{path}\n  named in {}\n", one_line(&files.join(", "))),
    }
}
