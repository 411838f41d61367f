//! One syscall, exactly as asked.

#![expect(unsafe_code, reason = "makes whatever syscall a test wants")]

use std::arch::asm;

/// The numbers that make processes or threads.
const FORKING: [i64; 3] = [libc::SYS_clone, libc::SYS_fork, libc::SYS_clone3];

/// Whether the call, in its child, returns into code that has no business running there.
fn forks(nr: i64) -> bool {
    FORKING.contains(&nr)
}

/// A `vfork` would run its child in this very memory and keep the caller waiting for it; what a
/// test can see of it is the same after a fork.
fn without_vfork(nr: i64, mut args: [i64; 6]) -> (i64, [i64; 6]) {
    const BORROWING: i64 = (libc::CLONE_VFORK | libc::CLONE_VM) as i64;
    if nr == libc::SYS_vfork {
        return (libc::SYS_fork, args);
    }
    let borrows = args[0] & BORROWING == BORROWING && args[1] == 0;
    if nr == libc::SYS_clone && borrows {
        args[0] &= !BORROWING;
    }
    (nr, args)
}

/// Makes the call on this thread and returns what the kernel did: a negative errno on failure.
///
/// A child that it makes (of any kind) asks to die with its parent and then sleeps until a signal
/// ends it. An `exit` ends the whole process: it is a process of one thread to the test.
pub(crate) fn syscall(nr: i64, args: [i64; 6]) -> i64 {
    let nr = if nr == libc::SYS_exit {
        libc::SYS_exit_group
    } else {
        nr
    };
    let (nr, args) = without_vfork(nr, args);
    let child_sleeps = i64::from(forks(nr));
    let result: i64;
    // SAFETY: what the call does to the process is what the test asked for, and this process runs
    // nothing else. The child of a fork touches no memory, so it needs no stack of its own.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 3f",
            "test {child_sleeps}, {child_sleeps}",
            "jz 3f",
            // prctl(PR_SET_PDEATHSIG, SIGKILL)
            "mov eax, 157",
            "mov edi, 1",
            "mov esi, 9",
            "syscall",
            // pause(), for ever
            "2:",
            "mov eax, 34",
            "syscall",
            "jmp 2b",
            "3:",
            child_sleeps = in(reg) child_sleeps,
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
            syscall(libc::SYS_getpid, [0; 6]),
            i64::from(std::process::id())
        );
        assert_eq!(
            syscall(libc::SYS_close, [-1, 0, 0, 0, 0, 0]),
            -i64::from(libc::EBADF)
        );
    }

    #[test]
    fn a_vfork_becomes_a_fork() {
        let flags = i64::from(libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD);
        let (nr, args) = without_vfork(libc::SYS_clone, [flags, 0, 0, 0, 0, 0]);
        assert_eq!((nr, args[0]), (libc::SYS_clone, i64::from(libc::SIGCHLD)));
        assert_eq!(without_vfork(libc::SYS_vfork, [0; 6]).0, libc::SYS_fork);
    }
}
