//! What `provium` can be told to do.

mod agent_info;
mod completions;
mod doctor;
mod list;
mod prepare;
mod run;
mod setup;

use crate::failure::Failure;
use crate::interrupt::Interrupts;
use crate::lowargs::{Command, LowArgs};
use provium_runner::Stop;
use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How long what is left in the background may take to end.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// How it went, as the exit code says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Every file passed or was skipped; 0.
    Passed,
    /// At least one file did not; 1.
    Failed,
    /// The harness itself could not work; 2.
    Unable,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        Self::from(match verdict {
            Verdict::Passed => 0,
            Verdict::Failed => 1,
            Verdict::Unable => 2,
        })
    }
}

/// Does what the user typed.
pub(crate) fn run(low: LowArgs) -> Result<Verdict, Failure> {
    match low.command {
        None => run::run(low.run),
        Some(Command::List(args)) => list::run(args),
        Some(Command::Setup(args)) => setup::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Prepare(args)) => prepare::run(&args),
        Some(Command::Completions(args)) => Ok(completions::run(&args)),
        Some(Command::AgentInfo) => Ok(agent_info::run()),
    }
}

/// The runtime on which all I/O is done.
fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    built.map_err(|source| Failure::Host {
        what: "threads for I/O",
        source,
    })
}

/// Does `work` to its end, unless the user ends it first.
fn interruptible<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = runtime()?;
    let result = runtime.block_on(async {
        let interrupts = Interrupts::listen(Stop::new())?;
        interrupts.or(work).await
    });
    runtime.shutdown_timeout(SHUTDOWN);
    result
}
