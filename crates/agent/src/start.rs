//! The start of the executable: determines in which role it runs.

#![expect(
    unsafe_code,
    reason = "the C library calls `main` by name and hands it pointers"
)]

use crate::executor::Root;
use crate::init::power::PowerButton;
use crate::ops::identity::NameOwner;
use crate::router::{ModuleServer, Router, RouterConfig};
use crate::stderr;
use crate::sys::signal::{self, SignalStream};
use crate::sys::{Errno, detached, process};
use crate::transport::Transport;
use crate::{init, modprobe, roots};
use std::ffi::{c_char, c_int};

/// Not Rust's own `main`: that one ignores SIGPIPE and catches SIGSEGV, for the processes of tests
/// too.
#[cfg_attr(not(test), unsafe(no_mangle))]
#[cfg_attr(test, expect(dead_code, reason = "tests have a main of their own"))]
pub(crate) extern "C" fn main(count: c_int, arguments: *const *mut c_char) -> c_int {
    // SAFETY: the first argument, if there is one.
    let argv0 = if count > 0 {
        unsafe { *arguments }
    } else {
        std::ptr::null_mut()
    };
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let name = words.next().unwrap_or_default();
    if name.ends_with("modprobe") {
        return modprobe::run(words);
    }
    let words: Vec<String> = words.collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match Role::of(&words, process::id() == 1) {
        Role::Serve(number) => serve(number),
        Role::Idle => detached::idle(),
        Role::FirstProcess => init::start(argv0),
        Role::Joiner => init::join(argv0),
        Role::Misused => {
            stderr::print(USAGE);
            2
        }
    }
}

/// The line for a command line that makes no sense.
const USAGE: &str = "usage: provium-agent [--port N]\n\
    Without arguments: serves the host, as process 1 or beside an init. With --port: waits until it \
    is killed.";

/// What the process is to be.
#[derive(Debug, PartialEq, Eq)]
enum Role {
    /// The agent on an inherited socket, for tests.
    Serve(c_int),
    /// A program that stays until it is killed.
    Idle,
    /// The agent as process 1.
    FirstProcess,
    /// The agent that an init, or a script, has started.
    Joiner,
    /// A mistake.
    Misused,
}

impl Role {
    /// The role of a process with these arguments.
    fn of(words: &[&str], is_first: bool) -> Self {
        match words {
            ["--serve-fd", number] => match number.parse() {
                Ok(number) => Self::Serve(number),
                Err(_) => Self::Misused,
            },
            ["--port", _] => Self::Idle,
            // The kernel gives process 1 what it does not know of its command line.
            _ if is_first => Self::FirstProcess,
            [] => Self::Joiner,
            _ => Self::Misused,
        }
    }
}

/// Serves on an inherited socket, leaving the machine alone.
fn serve(number: c_int) -> c_int {
    let config = || -> Result<(Transport, RouterConfig), Errno> {
        signal::default_dispositions();
        signal::block_only(&[libc::SIGCHLD]);
        roots::install_usual()?;
        let config = RouterConfig {
            is_init: false,
            name_owner: NameOwner::Guest,
            signals: SignalStream::of(&[libc::SIGCHLD])?,
            power: PowerButton::default(),
            modules: ModuleServer::default(),
            warnings: Vec::new(),
        };
        Ok((Transport::socket(number)?, config))
    };
    match config() {
        Ok((transport, config)) => Router::new(transport, config, Root::now()).run(),
        Err(errno) => {
            stderr::print(&format!("cannot serve on descriptor {number}: {errno}"));
            2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_say_what_it_is() {
        for (words, is_first, role) in [
            (&["--port", "7101"][..], false, Role::Idle),
            (&["--port", "x"], true, Role::Idle),
            (&["--serve-fd", "3"], false, Role::Serve(3)),
            (&[], true, Role::FirstProcess),
            (&["splash", "--help"], true, Role::FirstProcess),
            (&[], false, Role::Joiner),
            (&["--port"], false, Role::Misused),
            (&["--serve-fd", "x"], false, Role::Misused),
            (&["--help"], false, Role::Misused),
            (&["7101"], false, Role::Misused),
        ] {
            assert_eq!(Role::of(words, is_first), role, "{words:?}");
        }
    }
}
