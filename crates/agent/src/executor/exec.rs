//! Starting a command: from an [`Exec`] to a process with its pipes. Runs on the main thread, so
//! that the command gets the lane's identity.

use super::call::{Call, lock};
use super::job::Started;
use super::shared::Shared;
use crate::failure;
use crate::ops::identity::{self, User};
use crate::roots;
use crate::sys::spawn::{self, Launch, LaunchError, Step};
use crate::sys::terminal;
use crate::sys::{Errno, Sys, clock, fd, process};
use provium_protocol::op::{Exec, Program, Stdin};
use provium_protocol::{Channel, Event, WireError};
use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What the commands of a lane start with.
#[derive(Debug, Clone, Default)]
pub(crate) struct Surroundings {
    /// Added to the usual environment.
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whose HOME it is.
    pub(crate) user: Option<User>,
}

/// Starts the command and hands it to the I/O thread.
pub(super) fn start(
    shared: &Shared,
    call: &Arc<Call>,
    exec: Exec,
    around: &Surroundings,
) -> Result<(), WireError> {
    let user = match &exec.user {
        Some(name) => Some(identity::find(name)?),
        None => None,
    };
    let environment = environment(&exec, around, user.as_ref());
    let (program, arguments) = arguments(exec.program)?;
    let candidates = candidates(&program, &environment);
    let pipes = Pipes::open(shared, &exec.stdin, exec.tty).map_err(|errno| {
        failure::os(
            if exec.tty {
                "open a terminal"
            } else {
                "open pipes"
            },
            errno,
        )
    })?;
    let launch = Launch {
        candidates: strings(candidates)?,
        arguments: strings(arguments)?,
        environment: strings(environment.into_iter().map(|(mut name, value)| {
            name.push(b'=');
            name.extend(value);
            name
        }))?,
        directory: match &exec.cwd {
            Some(cwd) => Some(string(cwd.to_vec())?),
            None => None,
        },
        identity: user.map(|user| user.identity),
        standard: [
            pipes.theirs.stdin.as_raw_fd(),
            pipes.theirs.stdout.as_raw_fd(),
            pipes
                .theirs
                .stderr
                .as_ref()
                .unwrap_or(&pipes.theirs.stdout)
                .as_raw_fd(),
        ],
        terminal: exec.tty,
        proc: Some(roots::PROC),
    };
    let starting = lock(&shared.starting);
    let started = clock::monotonic();
    let pid = spawn::spawn(&launch).map_err(|error| explain(error, &program, &launch))?;
    call.process_started(pid);
    if call.is_cancelled() {
        let _ = call.signal(libc::SIGKILL, true);
    }
    drop(starting);
    drop(pipes.theirs);
    shared.event(
        call,
        &Event::Started {
            pid: pid.unsigned_abs(),
        },
    );
    let end = shared.tuck_away(watch(pid).map_err(|errno| failure::os("watch a process", errno))?);
    shared.hand_over(Started {
        call: Arc::clone(call),
        pid,
        started,
        end,
        outputs: pipes.outputs,
        input: pipes.input,
        input_bytes: match exec.stdin {
            Stdin::Bytes(bytes) => Some(bytes.into_vec()),
            Stdin::Null => Some(Vec::new()),
            Stdin::Channel => None,
        },
        terminal: exec.tty,
        collect: exec.collect.map(|limit| limit as usize),
    });
    Ok(())
}

/// A descriptor that becomes readable when the process ends.
fn watch(pid: i32) -> Sys<OwnedFd> {
    match process::watch(pid) {
        Err(Errno::NOSYS) => {}
        other => return other,
    }
    // Before Linux 5.3: a thread that waits, and closes a pipe.
    let (read, write) = fd::pipe()?;
    super::threads::detached(c"provium-wait", move || {
        process::await_end(pid);
        drop(write);
    })?;
    Ok(read)
}

fn explain(error: LaunchError, program: &[u8], launch: &Launch) -> WireError {
    let program = String::from_utf8_lossy(program);
    let tried = match error.step {
        Step::Fork => "start a process".to_owned(),
        Step::Standard => "set up standard input and output".to_owned(),
        Step::Terminal => "take the terminal".to_owned(),
        Step::Identity => "become the user".to_owned(),
        Step::Directory => {
            let directory = launch.directory.as_deref().unwrap_or_default();
            format!("chdir {}", directory.to_string_lossy())
        }
        Step::Exec => format!("exec {program}"),
    };
    failure::os(tried, error.errno)
}

fn string(bytes: Vec<u8>) -> Result<CString, WireError> {
    CString::new(bytes).map_err(|_| failure::invalid("a zero byte in an argument or variable"))
}

fn strings(list: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CString>, WireError> {
    list.into_iter().map(string).collect()
}

/// The program's name and all arguments, the zeroth included.
fn arguments(program: Program) -> Result<(Vec<u8>, Vec<Vec<u8>>), WireError> {
    match program {
        Program::Shell(text) => {
            let shell = b"/bin/sh".to_vec();
            Ok((shell.clone(), vec![shell, b"-c".to_vec(), text.into_vec()]))
        }
        Program::Argv(list) => {
            let list: Vec<Vec<u8>> = list
                .into_iter()
                .map(|argument| argument.into_vec())
                .collect();
            match list.first() {
                Some(first) if !first.is_empty() => Ok((first.clone(), list)),
                _ => Err(failure::invalid("a command needs a program")),
            }
        }
    }
}

type Variables = Vec<(Vec<u8>, Vec<u8>)>;

fn set(variables: &mut Variables, name: &[u8], value: &[u8]) {
    match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_vec(),
        None => variables.push((name.to_vec(), value.to_vec())),
    }
}

fn environment(exec: &Exec, around: &Surroundings, user: Option<&User>) -> Variables {
    let mut variables = Variables::new();
    if !exec.env_clear {
        set(&mut variables, b"PATH", DEFAULT_PATH);
        set(&mut variables, b"TERM", b"linux");
        set(&mut variables, b"HOME", b"/root");
        if let Some(user) = user.or(around.user.as_ref()) {
            set(&mut variables, b"HOME", &user.home);
            set(&mut variables, b"USER", &user.name);
            set(&mut variables, b"LOGNAME", &user.name);
        }
        for (name, value) in &around.env {
            set(&mut variables, name, value);
        }
    }
    for (name, value) in &exec.env {
        set(&mut variables, name, value);
    }
    variables
}

/// The files that a program's name may stand for.
fn candidates(program: &[u8], environment: &Variables) -> Vec<Vec<u8>> {
    if program.contains(&b'/') {
        return vec![program.to_vec()];
    }
    let path = environment.iter().find(|(name, _)| name == b"PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let folders = path.split(|byte| *byte == b':');
    folders
        .map(|folder| {
            let mut file = if folder.is_empty() {
                b".".to_vec()
            } else {
                folder.to_vec()
            };
            file.push(b'/');
            file.extend_from_slice(program);
            file
        })
        .collect()
}

/// The ends that the command gets.
struct Theirs {
    stdin: OwnedFd,
    stdout: OwnedFd,
    /// Where standard output goes, when `None`.
    stderr: Option<OwnedFd>,
}

struct Pipes {
    theirs: Theirs,
    outputs: Vec<(Channel, OwnedFd)>,
    input: Option<OwnedFd>,
}

impl Pipes {
    fn open(shared: &Shared, stdin: &Stdin, tty: bool) -> Sys<Self> {
        if tty {
            Self::terminal(shared)
        } else {
            Self::plain(shared, stdin)
        }
    }

    fn terminal(shared: &Shared) -> Sys<Self> {
        let (master, slave) = terminal::open_pair()?;
        let (master, slave) = (shared.tuck_away(master), shared.tuck_away(slave));
        fd::set_nonblocking(master.as_raw_fd())?;
        let writing = fd::move_up(
            master.try_clone().map_err(|_| Errno::last())?,
            if shared.raw { roots::FIRST_FREE } else { 3 },
        );
        let stdin = slave.try_clone().map_err(|_| Errno::last())?;
        Ok(Self {
            theirs: Theirs {
                stdin: shared.tuck_away(stdin),
                stdout: slave,
                stderr: None,
            },
            outputs: vec![(Channel::Output, master)],
            input: Some(writing),
        })
    }

    fn plain(shared: &Shared, stdin: &Stdin) -> Sys<Self> {
        let pipe = || {
            let (read, write) = fd::pipe()?;
            Ok((shared.tuck_away(read), shared.tuck_away(write)))
        };
        let empty = match stdin {
            Stdin::Null => true,
            Stdin::Bytes(bytes) => bytes.is_empty(),
            Stdin::Channel => false,
        };
        let (stdin, input) = if empty {
            (shared.tuck_away(null()?), None)
        } else {
            let (read, write) = pipe()?;
            fd::set_nonblocking(write.as_raw_fd())?;
            (read, Some(write))
        };
        let (out, stdout) = pipe()?;
        let (err, stderr) = pipe()?;
        fd::set_nonblocking(out.as_raw_fd())?;
        fd::set_nonblocking(err.as_raw_fd())?;
        Ok(Self {
            theirs: Theirs {
                stdin,
                stdout,
                stderr: Some(stderr),
            },
            outputs: vec![(Channel::Output, out), (Channel::Error, err)],
            input,
        })
    }
}

/// Nothing to read. The end of a pipe nobody writes to does where there is no `/dev/null`.
fn null() -> Sys<OwnedFd> {
    match roots::null() {
        Err(_) => fd::pipe().map(|(read, _)| read),
        found => found,
    }
}
