//! Boots or restores the VM, runs the session in it, and ends everything.

use super::session::{self, SessionEnd, SessionError, Window};
use super::shell;
use crate::commands::kept;
use crate::commands::runtime::{SHUTDOWN, runtime};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::{Context, MachineSettings, from_start};
use crate::interrupt::Interrupts;
use crate::lowargs::{ConsoleArgs, MachineArgs, PlainArgs, PushOption};
use crate::machines::{self, MachineSetup};
use crate::{diagnostics, terminal};
use provium_events::printable::{one_line, text_of};
use provium_events::{Event, Sink};
use provium_lab::{
    AttachedProcess, Environment, KeptFailure, KeptFailures, KeptState, KeptVm, Lab, LabError,
    RunStatus, Scope, Vm, VmOptions, push_dir,
};
use provium_pool::Pool;
use provium_report::notice_line;
use provium_runner::Stop;
use std::ffi::OsString;
use std::future::Future;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// The profile where none is named.
const DEFAULT_PROFILE: &str = "default";

/// A boot that takes longer is announced.
const SILENT_BOOT: Duration = Duration::from_secs(1);

pub(in crate::commands) fn run(
    args: ConsoleArgs,
    machine: &MachineArgs,
    plain: &PlainArgs,
) -> Result<Exit, Failure> {
    let context = Context::new(plain)?;
    let settings = MachineSettings::new(machine);
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let interrupts = Interrupts::listen(Stop::new())?;
        carry_out(args, &context, &settings, &interrupts, runtime.handle()).await
    });
    runtime.shutdown_timeout(SHUTDOWN);
    exit
}

async fn carry_out(
    args: ConsoleArgs,
    context: &Context,
    settings: &MachineSettings,
    interrupts: &Interrupts,
    runtime: &Handle,
) -> Result<Exit, Failure> {
    let target = Target::new(&args, context)?;
    if let Target::Kept { failures, kept } = &target
        && let KeptState::Console { why } = &kept.1.state
    {
        return print_console(failures, &kept.0, &kept.1, why);
    }
    let environment = environment(context, target.profile(), settings, runtime);
    let environment = interrupts.or(environment).await?;
    let lab = Lab::root(Arc::clone(&environment), "console");
    let scope = Scope::file("console");
    let work = async {
        let begun = Instant::now();
        let vm = target.start(&lab, &scope).await?;
        enter(&vm, begun.elapsed(), &args.push, args.command).await
    };
    let exit = interrupts.or(work).await;
    let ended = async {
        for failure in scope.close().await {
            terminal::error(&format!("provium: {failure}\n"));
        }
        environment.drain().await;
    };
    tokio::select! {
        () = ended => exit,
        () = interrupts.at_least(2) => Err(Failure::Interrupted),
    }
}

/// What is entered.
enum Target {
    /// A new guest.
    New { profile: String, name: String },
    /// A VM of a failed test.
    Kept {
        failures: KeptFailures,
        kept: Box<(KeptFailure, KeptVm)>,
    },
}

impl Target {
    fn new(args: &ConsoleArgs, context: &Context) -> Result<Self, Failure> {
        let Some(id) = &args.resume else {
            let profile = args.target.as_deref().unwrap_or(DEFAULT_PROFILE);
            return Ok(Self::New {
                profile: profile.to_owned(),
                name: args.name.as_deref().unwrap_or(profile).to_owned(),
            });
        };
        let failures = kept::failures(context)?;
        let list = failures.list()?;
        let failure = kept::find(&list, id)?;
        let vm = kept::find_vm(failure, args.target.as_deref())?;
        Ok(Self::Kept {
            kept: Box::new((failure.clone(), vm.clone())),
            failures,
        })
    }

    fn profile(&self) -> &str {
        match self {
            Self::New { profile, .. } => profile,
            Self::Kept { kept, .. } => &kept.1.profile,
        }
    }

    /// Boots or restores it.
    async fn start(&self, lab: &Lab, scope: &Scope) -> Result<Vm, Failure> {
        match self {
            Self::New { profile, name } => {
                let vm = lab.create_vm(scope, name, profile, VmOptions::default())?;
                let booting = format!("booting {}", vm.subject());
                announced(&booting, vm.boot(VmOptions::default())).await?;
                Ok(vm)
            }
            Self::Kept { failures, kept } => {
                let (failure, vm) = &**kept;
                let restoring = format!("restoring vm `{}`", one_line(&vm.name));
                Ok(announced(&restoring, failures.enter(failure, vm, lab, scope)).await?)
            }
        }
    }
}

/// Prints the console of a VM of which nothing else is kept.
fn print_console(
    failures: &KeptFailures,
    failure: &KeptFailure,
    vm: &KeptVm,
    why: &str,
) -> Result<Exit, Failure> {
    let console = failures.console(failure, vm);
    let console = console.map_err(|source| Failure::Host {
        what: "to read the kept console",
        source,
    })?;
    terminal::out(&text_of(&console).replace('\r', ""));
    terminal::error(&format!(
        "provium: vm `{}` cannot be entered, only its console is kept: {}\n",
        one_line(&vm.name),
        one_line(why)
    ));
    Ok(Exit::Failed)
}

/// What VMs of `profile` boot in. Nothing else runs, so the pool has no limit.
async fn environment(
    context: &Context,
    profile: &str,
    settings: &MachineSettings,
    runtime: &Handle,
) -> Result<Arc<Environment>, Failure> {
    let names = [context.config.profile(profile)?.name.clone()].into();
    let progress = Arc::new(machines::PrintedProgress);
    let MachineSetup {
        profiles,
        outputs,
        host,
    } = machines::prepare_profiles(&context.config, &names, settings, progress).await?;
    let sink = Sink::discard().filtered(|event| {
        if let Event::Notice(notice) = event {
            terminal::error(&notice_line(notice));
        }
        false
    });
    let environment = Environment::new(
        profiles,
        Some(host),
        Pool::unlimited(),
        sink,
        settings.seed,
        runtime.clone(),
    );
    outputs.read(&environment).await;
    Ok(Arc::new(environment))
}

/// Does `work`, and prints `what` on a terminal if it takes a while.
async fn announced<T>(what: &str, work: impl Future<Output = T>) -> T {
    if !std::io::stderr().is_terminal() {
        return work.await;
    }
    tokio::pin!(work);
    tokio::select! {
        biased;
        done = &mut work => done,
        () = tokio::time::sleep(SILENT_BOOT) => {
            terminal::error(&format!("provium: {what}\n"));
            work.await
        }
    }
}

/// Runs the shell or the command in a VM that runs.
async fn enter(
    vm: &Vm,
    took: Duration,
    pushes: &[PushOption],
    words: Vec<OsString>,
) -> Result<Exit, Failure> {
    let ops = vm.ops();
    for PushOption { host, guest } in pushes {
        let host = from_start(host);
        if host.is_dir() {
            push_dir(&ops, &host, guest.as_bytes()).await?;
        } else {
            ops.push_file(&host, guest.as_bytes(), None).await?;
        }
    }
    let tty = shell::has_terminal();
    let what = match words.is_empty() {
        true => "the shell",
        false => "the command",
    };
    let window = Window::watch()?;
    let spec = shell::command(words, tty, window.size());
    let attached = match AttachedProcess::start(&ops, spec).await {
        Ok(attached) => attached,
        // The program does not exist or cannot be executed, as with exit code 127 of a shell.
        Err(error @ LabError::Guest { .. }) => return Ok(failed(error)),
        Err(error) => return Err(error.into()),
    };
    let ended = if tty {
        terminal::error(&format!(
            "provium: {}, ready in {:.2} s; Ctrl-] leaves it at any time\n",
            vm.subject(),
            took.as_secs_f64()
        ));
        session::on_terminal(attached, window).await
    } else {
        session::with_pipes(attached).await
    };
    match ended {
        Ok(SessionEnd::Ended(RunStatus::Exited(0))) => Ok(Exit::Passed),
        Ok(SessionEnd::Ended(status)) => {
            terminal::error(&format!("provium: {what} {}\n", in_words(status)));
            Ok(Exit::Failed)
        }
        Ok(SessionEnd::Left) => Ok(Exit::Interrupted),
        Err(SessionError::Guest(error)) => Ok(failed(error)),
        Err(SessionError::Host(failure)) => Err(failure),
    }
}

/// Reports what went wrong in the guest.
fn failed(error: LabError) -> Exit {
    let text = diagnostics::render(&error.into(), false);
    terminal::error(&text);
    Exit::Failed
}

fn in_words(status: RunStatus) -> String {
    match status {
        RunStatus::Exited(code) => format!("exited with code {code}"),
        RunStatus::Signalled(signal) => format!("was killed by signal {signal}"),
        RunStatus::TimedOut => "ran out of time".to_owned(),
    }
}
