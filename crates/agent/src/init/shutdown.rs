//! Switching the guest off.
//!
//! As PID 1: everybody is asked to end, then made to; then what is dirty is written back and the
//! file systems on disks are made read-only. In any other process only the writing back is done:
//! the image's init is not ours to imitate, and whoever calls here wants the machine off.

#![expect(unsafe_code, reason = "reboot, kill and wait have no function in std")]

use super::checked::c_string;
use std::fs;
use std::time::{Duration, Instant};

/// What processes get between SIGTERM and SIGKILL. Cut short once none is left.
const GRACE: Duration = Duration::from_millis(300);

/// Writes back what is dirty and switches the machine off.
pub(crate) fn power_off() -> ! {
    end(libc::RB_POWER_OFF)
}

/// Writes back what is dirty and stops the CPUs, power on.
pub(crate) fn halt() -> ! {
    end(libc::RB_HALT_SYSTEM)
}

/// Writes back what is dirty and reboots.
pub(crate) fn reboot() -> ! {
    end(libc::RB_AUTOBOOT)
}

fn end(how: libc::c_int) -> ! {
    // SAFETY: no pointers, in all calls here.
    let is_init = unsafe { libc::getpid() } == 1;
    if is_init {
        end_processes();
    }
    // SAFETY: as above.
    unsafe { libc::sync() };
    if is_init {
        make_disks_read_only();
    }
    // The thread that asks ends when the machine cannot do it, and an ending PID 1 is a panic: so
    // a child asks.
    // SAFETY: the child makes two calls that a fork may make, nothing else.
    let child = if is_init { unsafe { libc::fork() } } else { -1 };
    if child <= 0 {
        // SAFETY: as above.
        unsafe {
            libc::reboot(how);
            if child == 0 {
                libc::_exit(0);
            }
        }
    }
    loop {
        // SAFETY: as above.
        unsafe { libc::pause() };
    }
}

fn end_processes() {
    // SAFETY: no pointers. -1 spares PID 1.
    unsafe { libc::kill(-1, libc::SIGTERM) };
    let deadline = Instant::now() + GRACE;
    // SAFETY: `sigset_t` is plain data that `sigemptyset` then fills.
    let mut child_ended: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are to a `sigset_t`. Blocked, the signal is kept for `sigtimedwait`.
    unsafe {
        libc::sigemptyset(&mut child_ended);
        libc::sigaddset(&mut child_ended, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_BLOCK, &child_ended, std::ptr::null_mut());
    }
    while !all_reaped() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let left = libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::c_long::from(left.subsec_nanos()),
        };
        // SAFETY: pointers to a `sigset_t` and a `timespec`; what came is not asked for.
        unsafe { libc::sigtimedwait(&child_ended, std::ptr::null_mut(), &left) };
    }
    // SAFETY: no pointers.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Reaps those that have ended; true when no child is left.
fn all_reaped() -> bool {
    loop {
        // SAFETY: the status is not asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } {
            0 => return false,
            -1 => return true,
            _ => {}
        }
    }
}

/// Makes what is mounted from a block device read-only, newest first, so that it is clean.
fn make_disks_read_only() {
    let Ok(mounts) = fs::read_to_string("/proc/self/mounts") else { return };
    for line in mounts.lines().rev() {
        let mut words = line.split(' ');
        let (Some(source), Some(target)) = (words.next(), words.next()) else { continue };
        if !source.starts_with("/dev/") {
            continue;
        }
        let Ok(target) = c_string(unescape(target)) else { continue };
        // SAFETY: the target is a C string; the other pointers may be null for a remount. Failure
        // leaves it as it is, which `sync` has already made safe.
        unsafe {
            libc::mount(
                std::ptr::null(),
                target.as_ptr(),
                std::ptr::null(),
                libc::MS_REMOUNT | libc::MS_RDONLY,
                std::ptr::null(),
            );
        }
    }
}

/// Undoes the octal escapes of `/proc/mounts` (`\040` for a blank).
fn unescape(word: &str) -> String {
    let mut plain = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        plain.push_str(before);
        let escaped = after.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match escaped {
            Some(byte) => {
                plain.push(char::from(byte));
                rest = &after[3..];
            }
            None => {
                plain.push('\\');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_the_mount_table_are_undone() {
        assert_eq!(unescape(r"/mnt/a\040b\134c"), r"/mnt/a b\c");
        assert_eq!(unescape(r"/mnt/odd\"), r"/mnt/odd\");
    }
}
