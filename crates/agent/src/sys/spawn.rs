//! Starting a program the quick way: the child borrows this process's memory until it has become
//! the program, so nothing is copied.
//!
//! All that the child needs is prepared before; it allocates nothing and takes no lock.

#![expect(
    unsafe_code,
    reason = "the child runs in the parent's memory until it execs"
)]

use super::process::{self, Identity};
use super::{Errno, Sys, check, fd, signal};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

/// What to start, and as what.
#[derive(Debug)]
pub(crate) struct Launch {
    /// Files to try in turn.
    pub(crate) candidates: Vec<CString>,
    pub(crate) arguments: Vec<CString>,
    pub(crate) environment: Vec<CString>,
    pub(crate) directory: Option<CString>,
    pub(crate) identity: Option<Identity>,
    /// Becomes descriptors 0, 1, 2.
    pub(crate) standard: [RawFd; 3],
    /// Descriptor 0 becomes its controlling terminal.
    pub(crate) terminal: bool,
    /// A descriptor of `/proc`, through which its OOM score goes back to 0.
    pub(crate) proc: Option<RawFd>,
}

/// What the child was at when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Fork,
    Standard,
    Terminal,
    Identity,
    Directory,
    Exec,
}

/// Why nothing was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LaunchError {
    pub(crate) step: Step,
    pub(crate) errno: Errno,
}

/// What the child leaves for the parent to read. In memory that is shared even when the child had
/// to be a real fork.
#[repr(C)]
struct Outcome {
    step: AtomicI32,
    errno: AtomicI32,
}

struct Child<'a> {
    launch: &'a Launch,
    arguments: Vec<*const c_char>,
    environment: Vec<*const c_char>,
    outcome: &'static Outcome,
}

const STACK: usize = 64 * 1024;

/// Pages that the child's stack and its outcome live in. Only one thread of a process starts
/// programs.
struct Pages {
    outcome: &'static Outcome,
    stack_top: *mut c_void,
}

// SAFETY: the addresses are never unmapped; who uses them is said above.
unsafe impl Sync for Pages {}
// SAFETY: as above.
unsafe impl Send for Pages {}

fn pages() -> Sys<&'static Pages> {
    static PAGES: OnceLock<Pages> = OnceLock::new();
    if let Some(pages) = PAGES.get() {
        return Ok(pages);
    }
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let base = unsafe { libc::mmap(ptr::null_mut(), 4096 + STACK, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping is large enough, zeroed, aligned, and never unmapped.
    let (outcome, stack_top) = unsafe { (&*base.cast::<Outcome>(), base.byte_add(4096 + STACK)) };
    Ok(PAGES.get_or_init(|| Pages { outcome, stack_top }))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain([ptr::null()])
        .collect()
}

/// Starts the program; returns its process id once it runs.
pub(crate) fn spawn(launch: &Launch) -> Result<i32, LaunchError> {
    let failed = |errno| LaunchError {
        step: Step::Fork,
        errno,
    };
    let pages = pages().map_err(failed)?;
    pages.outcome.errno.store(0, Ordering::Relaxed);
    let child = Child {
        launch,
        arguments: pointers(&launch.arguments),
        environment: pointers(&launch.environment),
        outcome: pages.outcome,
    };
    let argument = ptr::from_ref(&child).cast_mut().cast();
    let quick = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: this thread stands still until the child has exec'd or ended, so what the child
    // borrows stays; signals are blocked, so no handler runs in the borrowed memory. In a time
    // namespace that is not entered yet only a true fork is allowed; it borrows nothing.
    let pid = signal::all_blocked(|| unsafe {
        check(libc::clone(in_child, pages.stack_top, quick, argument)).or_else(|_| {
            check(libc::clone(
                in_child,
                pages.stack_top,
                libc::CLONE_VFORK | libc::SIGCHLD,
                argument,
            ))
        })
    })
    .map_err(failed)?;
    match pages.outcome.errno.load(Ordering::Acquire) {
        0 => Ok(pid),
        errno => {
            process::wait(pid);
            let step = match pages.outcome.step.load(Ordering::Relaxed) {
                1 => Step::Standard,
                2 => Step::Terminal,
                3 => Step::Identity,
                4 => Step::Directory,
                _ => Step::Exec,
            };
            Err(LaunchError {
                step,
                errno: Errno(errno),
            })
        }
    }
}

extern "C" fn in_child(argument: *mut c_void) -> c_int {
    // SAFETY: `spawn` passed this and stands still meanwhile.
    let child = unsafe { &*argument.cast::<Child<'_>>() };
    let LaunchError { step, errno } = become_program(child);
    child.outcome.step.store(step as i32, Ordering::Relaxed);
    child.outcome.errno.store(errno.0, Ordering::Release);
    process::exit(127)
}

/// Only returns when it failed.
fn become_program(child: &Child<'_>) -> LaunchError {
    match prepare(child.launch) {
        Ok(()) => LaunchError {
            step: Step::Exec,
            errno: exec(child),
        },
        Err(error) => error,
    }
}

fn prepare(launch: &Launch) -> Result<(), LaunchError> {
    let at = |step| move |errno| LaunchError { step, errno };
    process::new_session();
    for (number, source) in (0..).zip(launch.standard) {
        fd::copy_to_inheritable(source, number).map_err(at(Step::Standard))?;
    }
    if launch.terminal {
        // SAFETY: no pointers.
        let result = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
        check(result).map_err(at(Step::Terminal))?;
    }
    if let Some(proc) = launch.proc {
        reset_oom_score(proc);
    }
    if let Some(identity) = &launch.identity {
        identity.assume().map_err(at(Step::Identity))?;
    }
    if let Some(directory) = &launch.directory {
        // SAFETY: a terminated string.
        check(unsafe { libc::chdir(directory.as_ptr()) }).map_err(at(Step::Directory))?;
    }
    signal::unblock_all();
    Ok(())
}

fn reset_oom_score(proc: RawFd) {
    const NAME: &CStr = c"self/oom_score_adj";
    // SAFETY: a terminated string, and a buffer of the length given. Failure changes nothing that
    // the command could not live with.
    unsafe {
        let file = libc::openat(proc, NAME.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"0".as_ptr().cast(), 1);
            libc::close(file);
        }
    }
}

/// Tries the candidates as `execvp(3)` does: goes on after `ENOENT`, `ENOTDIR` and `EACCES`, and
/// tells of the `EACCES` if that is all there was.
fn exec(child: &Child<'_>) -> Errno {
    let mut worst = Errno::NOENT;
    for file in &child.launch.candidates {
        // SAFETY: a terminated string and two terminated lists of such.
        unsafe {
            libc::execve(
                file.as_ptr(),
                child.arguments.as_ptr(),
                child.environment.as_ptr(),
            )
        };
        match Errno::last() {
            Errno(libc::ENOENT | libc::ENOTDIR) => {}
            Errno(libc::EACCES) => worst = Errno(libc::EACCES),
            other => return other,
        }
    }
    worst
}

/// Becomes another program in place. Only returns when it failed.
pub(crate) fn replace(file: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: a terminated string and two terminated lists of such.
    unsafe { libc::execve(file.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    Errno::last()
}
