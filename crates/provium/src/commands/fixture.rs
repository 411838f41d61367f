//! `provium fixture list|stale|build|rebuild|clean`: the fixtures in the cache.

use super::runtime::{SHUTDOWN, runtime};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::{Context, MachineSettings};
use crate::interrupt::Interrupts;
use crate::lowargs::{FixtureArgs, FixtureCommand};
use crate::lua_backend::LuaFiles;
use crate::machines::{self, MachineSetup};
use crate::terminal;
use crate::terminal::{RemovalSummary, ago, mebibytes, since_1970, took};
use camino::{Utf8Path, Utf8PathBuf};
use provium_events::printable;
use provium_events::{Event, Sink, counted};
use provium_lab::{BuiltFixture, Change, Environment, Fixtures};
use provium_lua::{TestSelection, build_fixture};
use provium_pool::Pool;
use provium_report::notice_line;
use provium_runner::{FileKind, Request, Stop, TestFile, discover, file_thread};
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

#[derive(Serialize)]
struct FixtureRow<'a> {
    path: &'a str,
    kind: &'a str,
    key: &'a str,
    size_bytes: u64,
    build_ms: u128,
    /// Seconds since 1970.
    last_use: u64,
    /// Why it does not hold.
    stale: Option<String>,
    /// It is another project's, whose configuration decides whether it holds.
    foreign: bool,
}

/// Whether a fixture in the cache still holds.
enum State {
    Fresh,
    Stale(Change),
    /// It is of a source outside of this project; the cache is the user's.
    Foreign,
}

pub(super) fn run(command: FixtureCommand) -> Result<Exit, Failure> {
    let args = command.args();
    let context = Context::new(&args.plain)?;
    let runtime = runtime()?;
    let exit = carry_out(&command, &context, args, &runtime);
    runtime.shutdown_timeout(SHUTDOWN);
    exit
}

fn carry_out(
    command: &FixtureCommand,
    context: &Context,
    args: &FixtureArgs,
    runtime: &Runtime,
) -> Result<Exit, Failure> {
    let settings = MachineSettings::new(&args.machine);
    let stop = Stop::new();
    let interrupts = runtime.block_on(async { Interrupts::listen(stop.clone()) })?;
    let known = |paths: &[String]| fixtures_at(context, paths);
    let ready = |files: &[TestFile]| {
        runtime.block_on(interrupts.or(environment(context, files, &settings, runtime)))
    };
    match command {
        FixtureCommand::List { json, .. } => {
            let environment = ready(&known(&[])?)?;
            let all = runtime.block_on(interrupts.or(judged(&environment, context)))?;
            terminal::out(&if *json {
                all.iter().map(json_line).collect()
            } else {
                table(&all, &context.base)
            });
            Ok(Exit::Passed)
        }
        FixtureCommand::Stale { .. } => {
            let environment = ready(&known(&[])?)?;
            let all = runtime.block_on(interrupts.or(judged(&environment, context)))?;
            terminal::out(&stale(&all, &context.base));
            Ok(Exit::Passed)
        }
        FixtureCommand::Build { paths, .. } | FixtureCommand::Rebuild { paths, .. } => {
            let files = known(paths)?;
            let environment = ready(&files)?;
            let rebuild = matches!(command, FixtureCommand::Rebuild { .. });
            build_all(runtime, &interrupts, stop, files, environment, rebuild)
        }
        FixtureCommand::Clean { paths, .. } => {
            let environment = ready(&[])?;
            clean(&environment, &known(paths)?, paths.is_empty())
        }
    }
}

/// The fixtures that the user named; all of the project, where none was.
fn fixtures_at(context: &Context, paths: &[String]) -> Result<Vec<TestFile>, Failure> {
    Ok(discover(&Request {
        kind: FileKind::Fixtures,
        paths: paths.to_vec(),
        roots: context.config.roots.clone(),
        base: context.base.clone(),
        filter: None,
    })?)
}

/// What fixtures are built in.
async fn environment(
    context: &Context,
    files: &[TestFile],
    settings: &MachineSettings,
    runtime: &Runtime,
) -> Result<Arc<Environment>, Failure> {
    let MachineSetup {
        profiles,
        outputs,
        host,
    } = machines::prepare(
        &context.config,
        files,
        settings,
        Arc::new(machines::PrintedProgress),
    )
    .await?;
    let environment = Environment::new(
        profiles,
        Some(host),
        // One after the other is built, and nothing else runs.
        Pool::unlimited(),
        Sink::discard().filtered(|event| {
            tell(event);
            false
        }),
        settings.seed,
        runtime.handle().clone(),
    );
    let environment = environment.for_user_in(&context.base, None);
    outputs.read(&environment).await;
    Ok(Arc::new(environment))
}

/// Prints events about steps that take time.
fn tell(event: &Event) {
    match event {
        Event::FixtureBuildStarted { path, reason } => {
            let why = reason.as_ref().map(|why| format!(": {why}"));
            terminal::error(&format!(
                "provium: building {path}{}\n",
                why.unwrap_or_default()
            ));
        }
        Event::FixtureBuildWaiting { path, held_by_file } => {
            terminal::error(&format!(
                "provium: waiting for {path}, which is being built for {held_by_file}\n"
            ));
        }
        Event::Notice(notice) => terminal::error(&notice_line(notice)),
        _ => {}
    }
}

/// All fixtures in the cache, each with its state.
async fn judged(
    environment: &Environment,
    context: &Context,
) -> Result<Vec<(BuiltFixture, State)>, Failure> {
    let fixtures = catalogue(environment)?;
    // Entries have real paths.
    let folders = context.config.roots.iter().chain([&context.base]);
    let folders: Vec<Utf8PathBuf> = folders
        .filter_map(|folder| folder.canonicalize_utf8().ok())
        .collect();
    let mut all = Vec::new();
    for built in fixtures.list()? {
        let state = if folders.iter().any(|folder| built.path.starts_with(folder)) {
            let change = fixtures.change_of(&built).await;
            let shown = |path: &Utf8Path| environment.shown_path(path);
            let change = change.map(|change| change.with_paths(shown));
            change.map_or(State::Fresh, State::Stale)
        } else {
            State::Foreign
        };
        all.push((built, state));
    }
    Ok(all)
}

fn catalogue(environment: &Environment) -> Result<Fixtures<'_>, Failure> {
    environment.fixtures().map_err(|error| Failure::Usage {
        what: error.to_string(),
    })
}

fn table(all: &[(BuiltFixture, State)], base: &Utf8Path) -> String {
    if all.is_empty() {
        return "there are no fixtures; the first test that asks for one builds it\n".to_owned();
    }
    let paths: Vec<&str> = all.iter().map(|(built, _)| shown(built, base)).collect();
    let width = paths.iter().map(|path| path.len()).max().unwrap_or(0);
    let mut out = format!(
        "{:<width$}  {:<4}  {:>10}  {:>8}  {:<12}  {}\n",
        "FIXTURE", "KIND", "ON DISK", "BUILT IN", "LAST USE", "STATE"
    );
    for ((built, state), path) in all.iter().zip(paths) {
        let state = match state {
            State::Fresh => "fresh".to_owned(),
            State::Stale(change) => format!("stale: {change}"),
            State::Foreign => "of another project".to_owned(),
        };
        out.push_str(&format!(
            "{path:<width$}  {:<4}  {:>10}  {:>8}  {:<12}  {state}\n",
            built.kind.word(),
            mebibytes(built.size),
            took(built.took),
            ago(built.used),
        ));
    }
    let total = all.iter().map(|(built, _)| built.size).sum();
    out.push_str(&format!(
        "{}, {} on disk\n",
        counted(all.len() as u64, "fixture"),
        mebibytes(total)
    ));
    out
}

/// The project's fixtures of which no entry holds, with what has changed since the newest.
fn stale(all: &[(BuiltFixture, State)], base: &Utf8Path) -> String {
    let mut out = String::new();
    for entries in all.chunk_by(|(one, _), (other, _)| one.path == other.path) {
        let holds = entries
            .iter()
            .any(|(_, state)| matches!(state, State::Fresh));
        if let (false, Some((built, State::Stale(change)))) = (holds, entries.first()) {
            out.push_str(&format!("{}: {change}\n", shown(built, base)));
        }
    }
    if out.is_empty() {
        out.push_str("no fixture is stale\n");
    }
    out
}

fn shown<'a>(built: &'a BuiltFixture, base: &Utf8Path) -> &'a str {
    let relative = built.path.strip_prefix(base);
    relative.map_or(built.path.as_str(), Utf8Path::as_str)
}

fn json_line((built, state): &(BuiltFixture, State)) -> String {
    let line = FixtureRow {
        path: built.path.as_str(),
        kind: built.kind.word(),
        key: built.key.as_str(),
        size_bytes: built.size,
        build_ms: built.took.as_millis(),
        last_use: since_1970(built.used),
        stale: match state {
            State::Stale(change) => Some(change.to_string()),
            State::Fresh | State::Foreign => None,
        },
        foreign: matches!(state, State::Foreign),
    };
    // Strings and numbers always serialise.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

fn build_all(
    runtime: &Runtime,
    interrupts: &Interrupts,
    stop: Stop,
    files: Vec<TestFile>,
    environment: Arc<Environment>,
    rebuild: bool,
) -> Result<Exit, Failure> {
    let (done, outcome) = oneshot::channel();
    let within = Arc::clone(&environment);
    let thread = file_thread(move || {
        let mut exit = Exit::Passed;
        for file in files {
            if stop.is_cancelled() || !build_one(file, &within, &stop, rebuild) {
                exit = Exit::Failed;
            }
        }
        if stop.is_cancelled() {
            exit = Exit::Interrupted;
        }
        // The receiver is gone if the user has stopped the command at once.
        let _ = done.send(exit);
    });
    thread.map_err(|source| Failure::Host {
        what: "a thread",
        source,
    })?;
    runtime.block_on(async {
        let work = async {
            let exit = outcome.await.unwrap_or(Exit::Failed);
            environment.drain().await;
            Ok(exit)
        };
        tokio::select! {
            exit = work => exit,
            () = interrupts.at_least(2) => Err(Failure::Interrupted),
        }
    })
}

/// Builds one, and says what came of it; whether it is there.
fn build_one(file: TestFile, environment: &Arc<Environment>, stop: &Stop, rebuild: bool) -> bool {
    let display = file.display.clone();
    let files = LuaFiles {
        selection: TestSelection::default(),
        retries: 0,
        shuffle: None,
        environment: Arc::clone(environment),
    };
    let job = files.job(file, environment.sink().clone(), stop.clone(), None);
    let started = Instant::now();
    let (built, printed) = build_fixture(&job, rebuild);
    let printed: String = printed
        .iter()
        .map(|line| format!("  {}\n", printable::clean(line)))
        .collect();
    terminal::out(&printed);
    match built {
        Ok(built) => {
            let how = if built.was_found {
                "fresh".to_owned()
            } else {
                format!("built in {}", took(started.elapsed()))
            };
            terminal::out(&format!("{display} ({}): {how}\n", built.kind.word()));
            true
        }
        Err(error) => {
            terminal::error(&format!("provium: {}\n", printable::clean(&error.message)));
            false
        }
    }
}

fn clean(environment: &Environment, files: &[TestFile], all: bool) -> Result<Exit, Failure> {
    let fixtures = catalogue(environment)?;
    let mut removed = RemovalSummary::default();
    for built in fixtures.list()? {
        if all || files.iter().any(|file| file.path == built.path) {
            removed.note(fixtures.remove(&built.key)?, built.size);
        }
    }
    if all {
        for (key, size) in fixtures.unreadable()? {
            removed.note(fixtures.remove(&key)?, size);
        }
    }
    terminal::out(&removed.summary("fixture"));
    Ok(Exit::Passed)
}
