//! The command itself. Messages and exit codes are those of kmod's modprobe.

use super::SOCKET_PATH;
use super::arguments::Arguments;
use super::wire;
use crate::init::modules;
use provium_protocol::message::ModuleFile;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the host may take for one answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the command with its arguments (without `argv[0]`); gives its exit code.
pub(crate) fn main(args: Vec<OsString>) -> i32 {
    let arguments = match Arguments::parse(args) {
        Ok(arguments) => arguments,
        Err(message) => {
            say("ERROR", &message);
            return 1;
        }
    };
    let mut exit_code = 0;
    for name in &arguments.names {
        let done =
            if arguments.remove { remove(name, &arguments) } else { insert(name, &arguments) };
        if let Err(failure) = done {
            failure.tell(arguments.quiet);
            exit_code = 1;
        }
    }
    exit_code
}

/// Why a module was not inserted or removed.
enum Failure {
    /// Nobody knows the name.
    Unknown(String),
    /// Ends the matter; a whole line.
    Fatal(String),
    /// Something was tried in vain; a whole line.
    Error(String),
}

impl Failure {
    fn tell(&self, quiet: bool) {
        match self {
            Self::Unknown(_) if quiet => {}
            Self::Unknown(name) => say(
                "FATAL",
                &format!("Module {name} not found in directory /lib/modules/{}", release()),
            ),
            Self::Fatal(line) => say("FATAL", line),
            Self::Error(line) => say("ERROR", line),
        }
    }
}

fn insert(name: &str, arguments: &Arguments) -> Result<(), Failure> {
    if state_of(name) != State::Absent && !arguments.first_time {
        return Ok(());
    }
    let modules = ask(name)?;
    let Some((wanted, needed)) = modules.split_last() else {
        return Err(Failure::Unknown(name.to_owned()));
    };
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    for module in needed {
        insert_one(module, "", &cmdline, false, arguments)?;
    }
    insert_one(wanted, &arguments.parameters, &cmdline, arguments.first_time, arguments)
}

fn insert_one(
    module: &ModuleFile,
    parameters: &str,
    cmdline: &str,
    must_be_new: bool,
    arguments: &Arguments,
) -> Result<(), Failure> {
    let mut all = modules::parameters(&module.name, cmdline);
    if !parameters.is_empty() {
        // Last, so that they win over those of the kernel's command line.
        all.push_str(if all.is_empty() { "" } else { " " });
        all.push_str(parameters);
    }
    if arguments.verbose {
        let _ = writeln!(io::stdout(), "insmod {} {all}", module.name);
    }
    if arguments.dry_run {
        return Ok(());
    }
    match modules::insert(&module.object, &all) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) && !must_be_new => Ok(()),
        Err(error) => {
            let reason = match error.raw_os_error() {
                Some(libc::EEXIST) => "Module already in kernel".to_owned(),
                Some(libc::ENOENT) => {
                    "Unknown symbol in module, or unknown parameter (see dmesg)".to_owned()
                }
                _ => in_words(&error),
            };
            Err(Failure::Error(format!("could not insert '{}': {reason}", module.name)))
        }
        Ok(()) => Ok(()),
    }
}

fn remove(name: &str, arguments: &Arguments) -> Result<(), Failure> {
    let modules: Vec<String> = match state_of(name) {
        State::BuiltIn => return Err(Failure::Fatal(format!("Module {name} is builtin."))),
        // What it needs is asked for as well, so that this goes with it.
        State::Loaded | State::Absent => {
            ask(name)?.into_iter().map(|module| module.name).collect()
        }
    };
    let Some((wanted, needed)) = modules.split_last() else {
        return Err(Failure::Unknown(name.to_owned()));
    };
    if state_of(wanted) == State::Absent {
        return if arguments.first_time {
            Err(Failure::Fatal(format!("Module {wanted} is not in kernel.")))
        } else {
            Ok(())
        };
    }
    if arguments.verbose {
        let _ = writeln!(io::stdout(), "rmmod {wanted}");
    }
    if arguments.dry_run {
        return Ok(());
    }
    modules::remove(wanted).map_err(|error| match error.raw_os_error() {
        Some(libc::EWOULDBLOCK | libc::EBUSY) => {
            Failure::Fatal(format!("Module {wanted} is in use."))
        }
        _ => Failure::Error(format!("could not remove '{wanted}': {}", in_words(&error))),
    })?;
    for module in needed.iter().rev() {
        // Still used by others, or built in: it stays.
        let _ = modules::remove(module);
    }
    Ok(())
}

/// Asks the host, by way of the router. Empty when it knows no such name.
fn ask(name: &str) -> Result<Vec<ModuleFile>, Failure> {
    let Some(request) = wire::write_request(name) else {
        return Err(Failure::Unknown(name.to_owned()));
    };
    let answer = UnixStream::connect(SOCKET_PATH).and_then(|mut stream| {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&request)?;
        wire::read_answer(&mut stream)
    });
    match answer {
        Ok(Ok(modules)) => Ok(modules),
        Ok(Err(why)) => Err(Failure::Error(format!("could not ask the host for '{name}': {why}"))),
        Err(error) => Err(Failure::Error(format!(
            "could not ask the host for '{name}': {}",
            in_words(&error)
        ))),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Loaded,
    BuiltIn,
}

/// What sysfs knows of a module of this name. A built-in one without parameters may be missing.
fn state_of(name: &str) -> State {
    if name.contains('/') {
        return State::Absent;
    }
    let folder: PathBuf = Path::new("/sys/module").join(modules::normal_name(name));
    match fs::read(folder.join("initstate")) {
        Ok(state) if state.starts_with(b"live") => State::Loaded,
        // Coming or going: the kernel sorts that out when it is asked.
        Ok(_) => State::Absent,
        Err(_) if folder.exists() => State::BuiltIn,
        Err(_) => State::Absent,
    }
}

fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease");
    release.map(|text| text.trim_end().to_owned()).unwrap_or_default()
}

/// The system's text alone, without the number that Rust adds.
fn in_words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn say(level: &str, line: &str) {
    let _ = writeln!(io::stderr(), "modprobe: {level}: {line}");
}
