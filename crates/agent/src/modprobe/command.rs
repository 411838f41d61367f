//! The command itself.

use super::arguments::Arguments;
use crate::init::modules;
use crate::module_socket;
use crate::stderr;
use crate::sys::{Errno, boot, fd, file};
use provium_protocol::HostReply;
use provium_protocol::message::ModuleFile;
use std::ffi::CString;

/// Does what the arguments say; returns the exit code.
pub(crate) fn run(words: impl Iterator<Item = String>) -> i32 {
    let arguments = match Arguments::parse(words) {
        Ok(arguments) => arguments,
        Err(why) => {
            stderr::print(&format!("modprobe: {why}"));
            return 1;
        }
    };
    let mut exit_code = 0;
    // All are tried, even if the first one fails.
    for name in &arguments.names {
        let done = if arguments.remove {
            remove(name, &arguments)
        } else {
            insert(name, &arguments)
        };
        match done {
            Ok(()) => continue,
            Err(ModprobeError::Unknown) if arguments.quiet => {}
            Err(ModprobeError::Unknown) => stderr::print(&format!(
                "modprobe: FATAL: Module {name} not found in directory /lib/modules/{}",
                boot::kernel_release()
            )),
            Err(ModprobeError::Other(line)) => stderr::print(&format!("modprobe: {line}")),
        }
        exit_code = 1;
    }
    exit_code
}

/// Why a module was not inserted or removed.
enum ModprobeError {
    /// Neither the kernel nor the host knows the name.
    Unknown,
    /// For the user to read.
    Other(String),
}

/// The file of a module, after those of the modules that it needs.
fn request_files(name: &str) -> Result<Vec<ModuleFile>, ModprobeError> {
    match module_socket::request(name) {
        Some(HostReply::Modules(modules)) if modules.is_empty() => Err(ModprobeError::Unknown),
        Some(HostReply::Modules(modules)) => Ok(modules),
        None => Err(ModprobeError::Other(format!(
            "FATAL: Module {name} is not available: the host does not answer"
        ))),
    }
}

fn insert(name: &str, arguments: &Arguments) -> Result<(), ModprobeError> {
    if state_of(name) != State::Absent {
        return Ok(());
    }
    let modules = request_files(name)?;
    let cmdline = file::read("/proc/cmdline").unwrap_or_default();
    let cmdline = String::from_utf8_lossy(&cmdline);
    for (index, module) in modules.iter().enumerate() {
        if module.object.is_empty() {
            // Built in.
            continue;
        }
        let mut parameters = modules::parameters(&module.name, &cmdline);
        let wanted = index + 1 == modules.len();
        if wanted && !arguments.parameters.is_empty() {
            // Last, so that they win over those of the kernel's command line.
            parameters.push(' ');
            parameters.push_str(&arguments.parameters);
        }
        print_verbose(arguments, &format!("insmod {} {parameters}", module.name));
        if !arguments.dry_run {
            load(module, parameters)?;
        }
    }
    Ok(())
}

fn load(module: &ModuleFile, parameters: String) -> Result<(), ModprobeError> {
    let loaded = CString::new(parameters)
        .map_err(|_| Errno::INVAL)
        .and_then(|parameters| boot::load_module(&module.object, &parameters));
    let reason = match loaded {
        Ok(()) | Err(Errno::EXIST) => return Ok(()),
        Err(Errno::NOENT) => {
            "Unknown symbol in module, or unknown parameter (see dmesg)".to_owned()
        }
        Err(errno) => errno.text(),
    };
    Err(ModprobeError::Other(format!(
        "ERROR: could not insert '{}': {reason}",
        module.name
    )))
}

fn remove(name: &str, arguments: &Arguments) -> Result<(), ModprobeError> {
    let built_in = || ModprobeError::Other(format!("FATAL: Module {name} is builtin."));
    if state_of(name) == State::BuiltIn {
        return Err(built_in());
    }
    let mut modules = request_files(name)?;
    let Some(ModuleFile {
        name: wanted,
        object,
    }) = modules.pop()
    else {
        return Err(ModprobeError::Unknown);
    };
    if object.is_empty() {
        return Err(built_in());
    }
    if state_of(&wanted) == State::Absent {
        return Ok(());
    }
    print_verbose(arguments, &format!("rmmod {wanted}"));
    if arguments.dry_run {
        return Ok(());
    }
    unload(&wanted).map_err(|errno| {
        ModprobeError::Other(match errno {
            Errno(libc::EWOULDBLOCK | libc::EBUSY) => format!("FATAL: Module {wanted} is in use."),
            errno => format!("ERROR: could not remove '{wanted}': {}", errno.text()),
        })
    })?;
    for needed in modules.iter().rev() {
        // What something else needs, too, stays.
        let _ = unload(&needed.name);
    }
    Ok(())
}

fn unload(name: &str) -> Result<(), Errno> {
    let name = CString::new(name).map_err(|_| Errno::INVAL)?;
    boot::unload_module(&name)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Absent,
    Loaded,
    BuiltIn,
}

/// The state of a module as far as sysfs knows: it does not list every module that is built in.
fn state_of(name: &str) -> State {
    if name.contains('/') {
        return State::Absent;
    }
    let folder = format!("/sys/module/{}", modules::normal_name(name));
    match file::read(&format!("{folder}/initstate")) {
        Ok(state) if state.starts_with(b"live") => State::Loaded,
        // It is being loaded or unloaded: the kernel waits for that on the next request.
        Ok(_) => State::Absent,
        Err(_) if file::stat(folder.as_bytes()).is_ok() => State::BuiltIn,
        Err(_) => State::Absent,
    }
}

fn print_verbose(arguments: &Arguments, line: &str) {
    if arguments.verbose {
        let _ = fd::write_all(1, format!("{}\n", line.trim_end()).as_bytes());
    }
}
