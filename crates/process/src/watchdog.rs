//! A process that kills all that a command of the user has started.
//!
//! A parent-death signal is sent to the child only, and a process group contains only those that stay
//! in it. When this process is killed with SIGKILL, a shell's own children get neither. The watchdog
//! waits for the end of a pipe whose other end only this process holds, and then kills
//!
//! - every process whose environment has the command's mark, which descendants inherit, and
//! - every descendant of such a process, even if it has changed its environment.
//!
//! Each is stopped when it is found, so that it cannot start another one meanwhile; when a scan of
//! `/proc` finds no more of them, all are killed. A byte in the pipe means that the command has ended by
//! itself: processes that it left running are then not killed.
//!
//! The command stays a child of this process, so that its `$PPID` is what its author expects. The
//! watchdog is a fork without an exec, so that it keeps to async-signal-safe calls, as the rest of
//! [`sys`](crate::sys) does.
#![expect(
    unsafe_code,
    reason = "system calls in a forked child have no safe form there"
)]

use std::ffi::{CStr, c_int};
use std::os::fd::RawFd;

/// Maximum number of processes of one command.
const MAX_PROCESSES: usize = 4096;

/// Maximum number of scans of `/proc`: each finds at least one process that the previous one did not.
const MAX_SCANS: usize = 64;

/// Becomes the watchdog of a command whose environment holds the entry `mark`.
///
/// # Safety
/// Only in a freshly forked child that has all signals blocked.
pub(crate) unsafe fn watch(parent: libc::pid_t, lifeline: RawFd, mark: &CStr) -> ! {
    // SAFETY: async-signal-safe system calls on plain numbers and on memory of this frame.
    unsafe {
        libc::setpgid(0, 0);
        libc::prctl(libc::PR_SET_NAME, c"provium-watch".as_ptr(), 0, 0, 0);
        close_all_but(lifeline);
        let mut byte = 0_u8;
        // The pipe also ends when the parent has died already.
        loop {
            let read = libc::read(lifeline, (&raw mut byte).cast(), 1);
            if read == 1 && libc::getppid() == parent {
                libc::_exit(0);
            }
            if read >= 0 || *libc::__errno_location() != libc::EINTR {
                break;
            }
        }
        let mut found = Descendants {
            pids: [0; MAX_PROCESSES],
            count: 0,
        };
        for _ in 0..MAX_SCANS {
            let before = found.count;
            scan(&mut found, mark.to_bytes());
            if found.count == before {
                break;
            }
        }
        for pid in found.all() {
            libc::kill(*pid, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}

/// The processes of the command, each stopped.
struct Descendants {
    pids: [libc::pid_t; MAX_PROCESSES],
    count: usize,
}

impl Descendants {
    fn all(&self) -> &[libc::pid_t] {
        &self.pids[..self.count]
    }

    fn has(&self, pid: libc::pid_t) -> bool {
        self.all().contains(&pid)
    }

    fn add(&mut self, pid: libc::pid_t) {
        if self.count < MAX_PROCESSES && !self.has(pid) {
            // SAFETY: a signal to a process id.
            unsafe { libc::kill(pid, libc::SIGSTOP) };
            self.pids[self.count] = pid;
            self.count += 1;
        }
    }
}

/// Adds the processes of the command that `/proc` shows.
fn scan(found: &mut Descendants, mark: &[u8]) {
    let Some(folder) = open(c"/proc") else { return };
    // Entries of `linux_dirent64` (`getdents64(2)`), which begin at multiples of eight.
    let mut entries = [0_u64; 4096];
    loop {
        // SAFETY: the buffer is as long as it is said to be.
        let length = unsafe {
            let size = size_of_val(&entries);
            libc::syscall(libc::SYS_getdents64, folder, entries.as_mut_ptr(), size)
        };
        let Ok(length @ 1..) = usize::try_from(length) else {
            break;
        };
        // SAFETY: any bytes are bytes, and the kernel has written `length` of them.
        let bytes = unsafe { std::slice::from_raw_parts(entries.as_ptr().cast::<u8>(), length) };
        let mut rest = bytes;
        // Inode and offset (8 bytes each), the entry's length (2), a type (1), the name.
        while let [_, .., _] = rest {
            let Some(size) = rest.get(16..18) else { break };
            let size = usize::from(u16::from_ne_bytes([size[0], size[1]]));
            let Some(name) = rest.get(19..size) else {
                break;
            };
            if let Some(pid) = number(name) {
                add_if_related(found, pid, mark);
            }
            rest = &rest[size..];
        }
    }
    close(folder);
}

/// Adds a process, if it belongs to the command.
fn add_if_related(found: &mut Descendants, pid: libc::pid_t, mark: &[u8]) {
    if found.has(pid) {
        return;
    }
    if parent_of(pid).is_some_and(|parent| found.has(parent)) || is_marked(pid, mark) {
        found.add(pid);
    }
}

/// The parent of a process: the fourth field of `proc_pid_stat(5)`, behind the name in parentheses.
fn parent_of(pid: libc::pid_t) -> Option<libc::pid_t> {
    let mut text = [0_u8; 512];
    let file = open_of(pid, b"/stat")?;
    let text = read(file, &mut text)?;
    close(file);
    let end = text.iter().rposition(|byte| *byte == b')')?;
    number(text.get(end + 4..)?)
}

/// Whether the environment of a process has the entry `mark`.
fn is_marked(pid: libc::pid_t, mark: &[u8]) -> bool {
    let Some(file) = open_of(pid, b"/environ") else {
        return false;
    };
    // The end of what was read stays in front of what is read next, since an entry may lie across.
    let mut text = [0_u8; 8192];
    let mut kept = 0;
    let mut marked = false;
    while let Some(more) = read(file, &mut text[kept..]).map(<[u8]>::len) {
        let filled = kept + more;
        marked = text[..filled].windows(mark.len()).any(|part| part == mark);
        if marked || more == 0 {
            break;
        }
        kept = filled.min(mark.len());
        text.copy_within(filled - kept..filled, 0);
    }
    close(file);
    marked
}

/// The number that `text` begins with, if all up to its end, a blank or a null are digits.
fn number(text: &[u8]) -> Option<libc::pid_t> {
    let mut number: libc::pid_t = 0;
    let mut digits = 0;
    for byte in text {
        match byte {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add((byte - b'0').into())?,
            0 | b' ' => break,
            _ => return None,
        }
        digits += 1;
    }
    (digits > 0).then_some(number)
}

/// Opens a file of a process in `/proc`.
fn open_of(pid: libc::pid_t, name: &[u8]) -> Option<RawFd> {
    let mut digits = [0_u8; 12];
    let mut at = digits.len();
    let mut rest = pid;
    while rest > 0 {
        at -= 1;
        digits[at] = b'0' + u8::try_from(rest % 10).ok()?;
        rest /= 10;
    }
    let mut path = [0_u8; 48];
    let mut length = 0;
    for part in [b"/proc/", &digits[at..], name] {
        path.get_mut(length..length + part.len())?
            .copy_from_slice(part);
        length += part.len();
    }
    open(CStr::from_bytes_until_nul(&path).ok()?)
}

fn open(path: &CStr) -> Option<RawFd> {
    // SAFETY: the path ends in a null.
    let file = unsafe { libc::open(path.as_ptr(), libc::O_RDONLY) };
    (file >= 0).then_some(file)
}

fn read(file: RawFd, buffer: &mut [u8]) -> Option<&[u8]> {
    // SAFETY: the buffer is as long as it is said to be.
    let length = unsafe { libc::read(file, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length)
        .ok()
        .and_then(|length| buffer.get(..length))
}

fn close(file: RawFd) {
    // SAFETY: a file of this module's own.
    unsafe { libc::close(file) };
}

/// Closes every file but one: those of the process that this is a copy of.
///
/// # Safety
/// Only in the watchdog.
unsafe fn close_all_but(kept: RawFd) {
    let kept = kept.unsigned_abs();
    // SAFETY: system calls on plain numbers.
    unsafe {
        if libc::syscall(libc::SYS_close_range, kept + 1, u32::MAX, 0) == 0 {
            libc::syscall(libc::SYS_close_range, 0, kept - 1, 0);
            return;
        }
        // Linux before 5.9.
        let open_max = libc::sysconf(libc::_SC_OPEN_MAX).clamp(3, 65_536) as c_int;
        for number in (0..open_max).filter(|number| number.unsigned_abs() != kept) {
            libc::close(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_without_the_standard_library() {
        let own = libc::pid_t::try_from(std::process::id()).unwrap();
        let parent = libc::pid_t::try_from(std::os::unix::process::parent_id()).unwrap();
        assert_eq!(parent_of(own), Some(parent));
        let (name, value) = std::env::vars_os().next().unwrap();
        let entry = format!("{}={}", name.to_string_lossy(), value.to_string_lossy());
        assert!(is_marked(own, entry.as_bytes()));
        assert!(!is_marked(own, b"PROVIUM_NO_SUCH=1"));
        assert_eq!(parent_of(libc::pid_t::MAX), None);
    }

    #[test]
    fn only_numbers_are_processes() {
        assert_eq!(number(b"123\0\0"), Some(123));
        assert_eq!(number(b"7 S"), Some(7));
        for none in [&b"self\0"[..], b"12a\0", b"", b"99999999999\0"] {
            assert_eq!(number(none), None);
        }
    }
}
