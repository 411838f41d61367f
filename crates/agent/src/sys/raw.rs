//! One syscall, with the arguments that the test gave.

#![expect(unsafe_code, reason = "makes whatever syscall a test wants")]

use super::memory;
use std::arch::asm;

/// The numbers that make processes or threads.
const FORKING: [i64; 3] = [libc::SYS_clone, libc::SYS_fork, libc::SYS_clone3];
const VFORK: i64 = libc::CLONE_VFORK as i64;
const VM: i64 = libc::CLONE_VM as i64;

/// Whether the call, in its child, returns into code that has no business running there.
pub(crate) fn forks(nr: i64) -> bool {
    FORKING.contains(&nr) || nr == libc::SYS_vfork
}

/// Whether the call makes the process another program.
pub(crate) fn executes(nr: i64) -> bool {
    nr == libc::SYS_execve || nr == libc::SYS_execveat
}

/// A `vfork` keeps the caller waiting for a child that, here, never continues; what else a test can see
/// of it is the same after a fork. Memory is shared only where the child has a stack of its own.
fn without_vfork(flags: i64, has_stack: bool) -> i64 {
    if flags & VFORK == 0 {
        return flags;
    }
    let kept = flags & !VFORK;
    if has_stack { kept } else { kept & !VM }
}

/// The arguments of a `clone3(2)` without `CLONE_VFORK`; `None`: they may stay as they are.
fn clone3_without_vfork(address: i64, len: i64) -> Option<Vec<u8>> {
    let len = usize::try_from(len)
        .ok()
        .filter(|len| (64..=4096).contains(len))?;
    // A pointer to nowhere is left to the kernel.
    let mut bytes = memory::read_at(address.cast_unsigned(), len).ok()?;
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes[at..].first_chunk::<8>().copied().unwrap_or_default();
        i64::from_ne_bytes(bytes)
    };
    let flags = word(&bytes, 0);
    let changed = without_vfork(flags, word(&bytes, 40) != 0);
    if changed == flags {
        return None;
    }
    bytes[..8].copy_from_slice(&changed.to_ne_bytes());
    Some(bytes)
}

/// Makes the call on this thread and returns what the kernel did: a negative errno on failure.
///
/// A child that it makes (of any kind) sleeps until a signal ends it; with `dies_along` it asks to
/// die with this thread. An `exit` ends the whole process: it is a process of one thread to the test.
pub(crate) fn syscall(nr: i64, args: [i64; 6], dies_along: bool) -> i64 {
    let (nr, mut args) = match nr {
        libc::SYS_exit => (libc::SYS_exit_group, args),
        libc::SYS_vfork => (libc::SYS_fork, args),
        _ => (nr, args),
    };
    let mut changed = None;
    if nr == libc::SYS_clone {
        args[0] = without_vfork(args[0], args[1] != 0);
    } else if nr == libc::SYS_clone3 {
        changed = clone3_without_vfork(args[0], args[1]);
    }
    if let Some(changed) = &changed {
        args[0] = changed.as_ptr().addr() as i64;
    }
    let child = if !forks(nr) {
        0
    } else if dies_along {
        2
    } else {
        1
    };
    let result = make(nr, args, child);
    drop(changed);
    result
}

/// A call of our own that makes no children. Uses nothing of the C library.
pub(crate) fn bare(nr: i64, args: [i64; 6]) -> i64 {
    make(nr, args, 0)
}

/// `child`: 0 when none is made, 1 when it sleeps, 2 when it also dies with its parent.
fn make(nr: i64, args: [i64; 6], child: i64) -> i64 {
    let result: i64;
    // SAFETY: what the call does to the process is what the test asked for, and this process runs
    // nothing else. The child of a fork touches no memory, so it needs no stack of its own.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "test {child}, {child}",
            "jz 3f",
            "cmp {child}, 2",
            "jne 2f",
            // prctl(PR_SET_PDEATHSIG, SIGKILL)
            "mov eax, 157",
            "mov edi, 1",
            "mov esi, 9",
            "syscall",
            // pause(), in a loop
            "2:",
            "mov eax, 34",
            "syscall",
            "jmp 2b",
            "3:",
            child = in(reg) child,
            inlateout("rax") nr => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            // Not `lateout`: the flag above must not share a register that `syscall` overwrites.
            out("rcx") _,
            out("r11") _,
        );
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_errors_come_back_as_the_kernel_gives_them() {
        assert_eq!(
            bare(libc::SYS_getpid, [0; 6]),
            i64::from(std::process::id())
        );
        assert_eq!(
            syscall(libc::SYS_close, [-1, 0, 0, 0, 0, 0], true),
            -i64::from(libc::EBADF)
        );
    }

    #[test]
    fn a_vfork_becomes_a_fork() {
        assert_eq!(without_vfork(VFORK | VM | 17, false), 17);
        assert_eq!(without_vfork(VFORK | VM | 17, true), VM | 17);
        assert_eq!(without_vfork(VM | 17, false), VM | 17);
        let mut arguments = [0_i64; 11];
        arguments[0] = VFORK;
        let address = arguments.as_ptr().addr() as i64;
        let changed = clone3_without_vfork(address, 88).unwrap();
        assert_eq!(changed, [0; 88]);
        assert_eq!(clone3_without_vfork(8, 88), None);
    }
}
