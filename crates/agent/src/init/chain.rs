//! Handing PID 1 over to the image's own init, with the agent as a child of it.
//!
//! ```text
//! PID 1 (agent) ── fork ──▶ child
//!  │ exec /init               │ reads the pipe to its end, which exec closes
//!  │   … fails: next one,     │
//!  │   none left: kill child  ▼ serves
//!  ▼ is the init itself
//! ```
//! So the child serves only when the image's init does run, and why one of them did not is known
//! on whichever side goes on.

#![expect(unsafe_code, reason = "fork, exec and signal dispositions as PID 1 needs them")]

use super::checked::{c_string, checked};
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Those of the plan's inits that are there to be executed.
pub(super) fn candidates(inits: &[String]) -> Vec<&str> {
    let executable = |init: &str| {
        fs::metadata(Path::new(init))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    inits.iter().map(String::as_str).filter(|init| executable(init)).collect()
}

/// Who goes on after [`hand_over`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// This process is the child of the image's init.
    Child,
    /// This process is PID 1 still: none of the inits could be executed.
    Init,
}

/// Executes the first of the inits that works, and goes on in a child of it.
pub(super) fn hand_over(inits: &[&str], complaints: &mut Vec<String>) -> Role {
    match fork_and_exec(inits, complaints) {
        Ok(role) => role,
        Err(error) => {
            complaints.push(format!("start {}: {error}", inits.join(", ")));
            Role::Init
        }
    }
}

fn fork_and_exec(inits: &[&str], complaints: &mut Vec<String>) -> io::Result<Role> {
    let mut ends = [0; 2];
    // SAFETY: the pointer is to an array of two.
    checked(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: descriptors that were just made and belong to nobody else.
    let (mut news, mut teller) =
        unsafe { (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1])) };
    // SAFETY: this process has one thread, so the child may do whatever it likes.
    let child = checked(unsafe { libc::fork() })?;
    if child == 0 {
        drop(teller);
        let mut text = String::new();
        news.read_to_string(&mut text)?;
        complaints.extend(text.lines().map(str::to_owned));
        return Ok(Role::Child);
    }
    drop(news);
    for init in inits {
        let complaint = format!("start {init}: {}", execute(init));
        // The child may have to go on and tell it.
        writeln!(teller, "{complaint}")?;
        complaints.push(complaint);
    }
    // SAFETY: no pointers; the status is not asked for. The pipe is still open, so the child has
    // done nothing yet.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    Ok(Role::Init)
}

/// Becomes this program, with the arguments and environment that the kernel gave the agent; comes
/// back with the reason if it cannot.
fn execute(init: &str) -> io::Error {
    let args = std::env::args_os().skip(1).map(|arg| CString::new(arg.into_vec()));
    let argv: Vec<CString> = match c_string(init) {
        Ok(program) => std::iter::once(program).chain(args.flatten()).collect(),
        Err(error) => return error,
    };
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: the list ends with a null and its strings outlive the call. Rust's start-up ignores
    // SIGPIPE, which an executed program would inherit.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        libc::execv(pointers[0], pointers.as_ptr());
    }
    let error = io::Error::last_os_error();
    // SAFETY: no pointers.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    error
}

/// Where the kernel put `argv[0]`. `proc` is a path where a procfs is mounted.
pub(super) fn address_of_argv0(proc: &Path) -> Option<usize> {
    arg_start(&fs::read_to_string(proc.join("self/stat")).ok()?)
}

/// Field 48 of `/proc/PID/stat`, see `proc(5)`.
fn arg_start(stat: &str) -> Option<usize> {
    // The name (field 2) may hold anything, but nothing after its last parenthesis does.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(48 - 3)?.parse().ok()
}

/// Makes this process one that an init leaves alone when it ends all others: a session of its own,
/// deaf to polite requests, and with a name that begins with `@`, as systemd asks of daemons from
/// the initial RAM file system.
pub(super) fn stand_apart(argv0: Option<usize>) {
    // SAFETY: no pointers.
    unsafe {
        libc::setsid();
        for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGINT] {
            libc::signal(signal, libc::SIG_IGN);
        }
    }
    if let Some(address) = argv0 {
        // SAFETY: the kernel put the arguments' text at this address of the stack, writable, and
        // nobody in this process refers to it: `std::env::args` gives copies, made anew each time.
        unsafe { std::ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(b'@') };
    }
}

/// Spares this process, and what it forks, when memory runs out.
pub(super) fn protect_from_oom(proc_fd: BorrowedFd<'_>) -> io::Result<()> {
    let path = c"self/oom_score_adj";
    // SAFETY: the path is a C string.
    let fd = checked(unsafe {
        libc::openat(proc_fd.as_raw_fd(), path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC)
    })?;
    // SAFETY: a descriptor that was just made and belongs to nobody else.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(b"-1000")
}

/// Sees to it that descriptors 0 to 2 are open, so that no later one takes their number.
pub(super) fn open_standard_streams() {
    while let Ok(file) = OpenOptions::new().read(true).write(true).open("/dev/null") {
        if file.as_raw_fd() > 2 {
            break;
        }
        // Kept open for good.
        std::mem::forget(file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_the_arguments_is_found_behind_any_name() {
        let mut stat = String::from("1 (a) b) R");
        for field in 4..=52 {
            stat.push_str(&format!(" {field}"));
        }
        assert_eq!(arg_start(&stat), Some(48));
        assert_eq!(arg_start("1 (a) R 0"), None);
    }
}
