//! What a guest's kernel reports about itself on the console: oopses, bugs, sanitizers' findings,
//! lock trouble, hung tasks, panics, warnings.
//!
//! ```text
//! console ─ lines ─ those of the kernel, by their time stamp ─ [`Report`]s, one for what belongs together
//! ```
//!
//! The console is read and not `/dev/kmsg`: it needs no call to the guest, so it costs nothing, works
//! for one that is dead, paused or without rights, and changes nothing in what a test observes. The
//! agent lets warnings through to it (`kernel.printk`), also where `quiet` kept the boot silent, and
//! kernels are started with `printk.time=1`, so that their lines differ from those of programs.
//! A kernel with another setting reports nothing here; and who may write to `/dev/kmsg` can
//! report anything.
//!
//! Bytes in, reports out. Which of them fail a test, and whose test that is, is decided elsewhere.

use std::fmt;

/// Reports of a kind that are kept. A kernel that goes wrong repeats itself.
const MOST: usize = 256;

/// Longest line that is waited for, bytes: no kernel writes a longer one.
const LONGEST_LINE: usize = 1 << 20;

/// Longest line that is kept of a report, bytes.
const LONGEST: usize = 512;

/// Something that the kernel said about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How bad it is.
    pub kind: ReportKind,
    /// Its first line, without the time.
    pub line: String,
}

/// How bad a report is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportKind {
    /// `WARN()` and the like: a defect that the kernel survived.
    Warning,
    /// Nothing that a sound kernel ever says.
    Fault,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)
    }
}

/// The kernel's reports in a console's text, in their order.
#[cfg(test)]
fn reports(text: &[u8]) -> Vec<Report> {
    let mut scanner = Scanner::default();
    scanner.take(text);
    scanner.end();
    scanner.found
}

/// Takes a console's text, in pieces of any size, and collects the reports in it.
#[derive(Debug, Default)]
pub struct Scanner {
    found: Vec<Report>,
    /// The beginning of a line whose end has not come.
    unfinished: Vec<u8>,
    /// A bug that has begun, up to its "end trace": what the oops says of itself belongs to it.
    in_bug: bool,
}

impl Scanner {
    /// Takes the next piece of the text.
    pub fn take(&mut self, text: &[u8]) {
        let mut lines = text.split(|byte| *byte == b'\n');
        // There is always a last piece, which has no end yet.
        let last = lines.next_back().unwrap_or_default();
        for line in lines {
            if self.unfinished.is_empty() {
                self.line(line);
            } else {
                let mut whole = std::mem::take(&mut self.unfinished);
                whole.extend_from_slice(line);
                self.line(&whole);
            }
        }
        self.unfinished.extend_from_slice(last);
        if self.unfinished.len() > LONGEST_LINE {
            self.end();
        }
    }

    /// Nothing more will come: the last line is complete.
    pub fn end(&mut self) {
        let last = std::mem::take(&mut self.unfinished);
        self.line(&last);
    }

    /// How many bytes of the last line have come, whose end has not.
    pub fn unread(&self) -> u64 {
        self.unfinished.len() as u64
    }

    /// The reports, in their order.
    pub fn into_reports(self) -> Vec<Report> {
        self.found
    }

    fn line(&mut self, line: &[u8]) {
        let Some(message) = of_kernel(line) else {
            return;
        };
        if message.starts_with(b"---[ end ") {
            self.in_bug = false;
            return;
        }
        let Some(sign) = sign_of(message) else {
            return;
        };
        let continues = sign == LineKind::Oops && self.in_bug;
        self.in_bug |= matches!(sign, LineKind::Bug | LineKind::Oops);
        if continues {
            return;
        }
        let kind = match sign {
            LineKind::Warning => ReportKind::Warning,
            LineKind::Bug | LineKind::Oops | LineKind::Other => ReportKind::Fault,
        };
        // Each kind by itself, so that no flood of warnings hides a fault.
        let so_far = self.found.iter().filter(|report| report.kind == kind);
        if so_far.count() == MOST {
            return;
        }
        let kept = message.len().min(LONGEST);
        let line = String::from_utf8_lossy(&message[..kept]).trim().to_owned();
        self.found.push(Report { kind, line });
    }
}

/// What a line of the kernel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LineKind {
    Warning,
    /// An oops may follow.
    Bug,
    Oops,
    Other,
}

/// Beginnings of messages (Linux 4.9 to 6.12), the special before the general.
const BEGINNINGS: &[(&[u8], LineKind)] = &[
    (b"BUG: ", LineKind::Bug),
    (b"kernel BUG at ", LineKind::Bug),
    (b"watchdog: BUG: ", LineKind::Other),
    (b"Kernel panic - not syncing", LineKind::Other),
    (b"UBSAN: ", LineKind::Other),
    (b"Oops: ", LineKind::Oops),
    // kernel/hung_task.c
    (b"INFO: task ", LineKind::Other),
    // kernel/locking/lockdep.c, kernel/rcu/update.c
    (b"INFO: trying to register non-static key", LineKind::Other),
    (b"INFO: possible ", LineKind::Other),
    (b"WARNING: possible ", LineKind::Other),
    (b"WARNING: inconsistent lock state", LineKind::Other),
    (b"WARNING: bad unlock balance", LineKind::Other),
    (b"WARNING: bad contention", LineKind::Other),
    (b"WARNING: held lock freed", LineKind::Other),
    (b"WARNING: lock held when returning", LineKind::Other),
    (b"WARNING: Nested lock was not taken", LineKind::Other),
    (b"WARNING: HARDIRQ-", LineKind::Other),
    (b"WARNING: SOFTIRQ-", LineKind::Other),
    (b"WARNING: suspicious RCU usage", LineKind::Other),
    (b"WARNING: ", LineKind::Warning),
    // A host that is short of processors can bring these about.
    (b"rcu: INFO: ", LineKind::Warning),
    (b"INFO: rcu", LineKind::Warning),
];

fn sign_of(message: &[u8]) -> Option<LineKind> {
    let known = BEGINNINGS
        .iter()
        .find(|(beginning, _)| message.starts_with(beginning));
    match known {
        Some((beginning, _)) if *beginning == b"INFO: task " => {
            let hung = memchr::memmem::find(message, b" blocked for more than ").is_some();
            hung.then_some(LineKind::Other)
        }
        Some((_, sign)) => Some(*sign),
        None => is_oops(message).then_some(LineKind::Oops),
    }
}

/// `die()` numbers what it prints: "invalid opcode: 0000 [#1] PREEMPT SMP".
fn is_oops(message: &[u8]) -> bool {
    memchr::memmem::find_iter(message, b" [#")
        .any(|at| message.get(at + 3).is_some_and(u8::is_ascii_digit))
}

/// The message of a kernel's line: what follows its time stamp, `[    1.234567] `, and behind
/// its caller, `[    T1] `, where the kernel names it. The stamp need not be the first thing: a
/// program may have left its line unfinished.
fn of_kernel(line: &[u8]) -> Option<&[u8]> {
    memchr::memchr_iter(b'[', line).find_map(|open| {
        let rest = after_stamp(&line[open + 1..])?;
        Some(after_caller(rest).unwrap_or(rest).trim_ascii_end())
    })
}

fn after_stamp(text: &[u8]) -> Option<&[u8]> {
    let (seconds, rest) = text.split_at_checked(text.iter().position(|byte| *byte == b'.')?)?;
    let seconds = seconds.trim_ascii_start();
    let (fraction, rest) = rest.strip_prefix(b".")?.split_at_checked(6)?;
    let digits = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    (digits(seconds) && digits(fraction)).then_some(())?;
    rest.strip_prefix(b"] ").or_else(|| {
        rest.strip_prefix(b"]")
            .filter(|rest| rest.starts_with(b"["))
    })
}

fn after_caller(text: &[u8]) -> Option<&[u8]> {
    let inner = text.strip_prefix(b"[")?.trim_ascii_start();
    let number = inner
        .strip_prefix(b"T")
        .or_else(|| inner.strip_prefix(b"C"))?;
    let end = number.iter().position(|byte| !byte.is_ascii_digit())?;
    number[end..].strip_prefix(b"] ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ReportKind::{Fault, Warning};

    fn found(text: &str) -> Vec<(ReportKind, String)> {
        let reports = reports(text.as_bytes()).into_iter();
        reports.map(|report| (report.kind, report.line)).collect()
    }

    fn one(line: &str) -> Option<ReportKind> {
        let found = found(&format!("[   12.345678] {line}\r\n"));
        assert!(found.len() <= 1);
        let (kind, reported) = found.into_iter().next()?;
        assert_eq!(reported, line);
        Some(kind)
    }

    #[test]
    fn faults() {
        for line in [
            "BUG: unable to handle page fault for address: ffffc90000000000",
            "BUG: KASAN: slab-out-of-bounds in kmalloc_oob_right+0xa8/0xbc [test_kasan]",
            "BUG: KFENCE: use-after-free read in test_use_after_free_read+0xb3/0x143",
            "BUG: sleeping function called from invalid context at mm/slab.h:421",
            "BUG: scheduling while atomic: swapper/0/1/0x00000002",
            "kernel BUG at fs/ext4/inode.c:2721!",
            "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [dd:123]",
            "Oops: 0002 [#1] PREEMPT SMP NOPTI",
            "Oops: general protection fault, probably for non-canonical address: 0000 [#1] SMP",
            "invalid opcode: 0000 [#1] PREEMPT SMP NOPTI",
            "general protection fault, probably for non-canonical address 0xdead: 0000 [#2] SMP",
            "Kernel panic - not syncing: sysrq triggered crash",
            "UBSAN: array-index-out-of-bounds in drivers/x.c:10:3",
            "INFO: task mount:321 blocked for more than 120 seconds.",
            "WARNING: possible circular locking dependency detected",
            "WARNING: inconsistent lock state",
            "WARNING: suspicious RCU usage",
        ] {
            assert_eq!(one(line), Some(Fault), "{line}");
        }
    }

    #[test]
    fn warnings() {
        for line in [
            "WARNING: CPU: 0 PID: 1 at kernel/x.c:12 f+0x1/0x2",
            "rcu: INFO: rcu_preempt self-detected stall on CPU",
        ] {
            assert_eq!(one(line), Some(Warning), "{line}");
        }
    }

    #[test]
    fn lines_of_a_sound_kernel_are_not_reports() {
        for line in [
            "Linux version 6.1.0 (debian) #1 SMP PREEMPT_DYNAMIC Debian",
            "DEBUG: nothing",
            "INFO: lockdep is turned off.",
            "INFO: task begins",
            "traps: a.out[99] general protection fault ip:401000 sp:7ffc error:0 in a.out",
            "x86/fpu: x87 FPU will use FXSAVE",
            "systemd[1]: BUG: no",
            "random: crng init done",
            "Call Trace:",
        ] {
            assert_eq!(one(line), None, "{line}");
        }
    }

    #[test]
    fn only_the_kernels_lines_count() {
        assert!(found("BUG: said a program\r\nKernel panic - not syncing: no\n").is_empty());
        assert!(found("[1.5] BUG: a\n[ x.123456] BUG: b\n[    1.123456 BUG: c\n").is_empty());
        // A prompt without an end, and a kernel that names who speaks.
        let text = "login: [    1.000001] BUG: one\r\n[    2.000001][    T1] BUG: two\n\
                    [12345.000001] [   C13] BUG: three\nBUG: [    3.000001] BUG: four";
        let lines = ["BUG: one", "BUG: two", "BUG: three", "BUG: four"];
        assert_eq!(found(text), lines.map(|line| (Fault, line.to_owned())));
    }

    #[test]
    fn an_oops_is_one_report() {
        let text = "[    5.0] nothing\n\
            [    5.000001] BUG: kernel NULL pointer dereference, address: 0000000000000000\n\
            [    5.000002] #PF: supervisor write access in kernel mode\n\
            [    5.000003] Oops: 0002 [#1] PREEMPT SMP NOPTI\n\
            [    5.000004] Call Trace:\n\
            [    5.000005] ---[ end trace 0000000000000000 ]---\n\
            [    5.000006] Kernel panic - not syncing: Fatal exception\n\
            [    5.000007] ---[ end Kernel panic - not syncing: Fatal exception ]---\n\
            [    6.000001] Oops: 0000 [#2] SMP\n";
        let lines: Vec<String> = found(text).into_iter().map(|(_, line)| line).collect();
        assert_eq!(
            lines,
            [
                "BUG: kernel NULL pointer dereference, address: 0000000000000000",
                "Kernel panic - not syncing: Fatal exception",
                "Oops: 0000 [#2] SMP",
            ]
        );
    }

    #[test]
    fn reports_are_found_however_the_text_is_cut() {
        let text = b"\r\n[    1.000001] BUG: one\r\nlogin: [    2.000001] WARNING: two\n[    3.000001] BUG: th";
        let whole = reports(text);
        assert_eq!(whole.len(), 3);
        for size in 1..text.len() {
            let mut scanner = Scanner::default();
            for piece in text.chunks(size) {
                scanner.take(piece);
            }
            assert_eq!(scanner.found, whole[..2], "in pieces of {size}");
            assert_eq!(scanner.unfinished, b"[    3.000001] BUG: th");
            scanner.end();
            assert_eq!(scanner.found, whole);
        }
    }

    #[test]
    fn a_guest_cannot_make_the_report_large() {
        let long = "x".repeat(1 << 20);
        let text = format!("[    1.000000] BUG: {long}\n").repeat(40);
        let found = reports(text.as_bytes());
        assert_eq!(found.len(), 40);
        assert!(found.iter().all(|report| report.line.len() <= LONGEST));
        // No form of a line makes it fail.
        for odd in [
            "[",
            "[.",
            "[1.",
            "[    1.123456",
            "[    1.123456]",
            "[ 1.123456][",
            "[ 1.123456][T",
        ] {
            assert!(found_none(odd), "{odd}");
        }
    }

    #[test]
    fn warnings_do_not_hide_a_fault() {
        let text = "[    1.000000] WARNING: x\n".repeat(1000) + "[    1.000000] BUG: y\n";
        let found = reports(text.as_bytes());
        assert_eq!(found.len(), MOST + 1);
        assert_eq!(found[MOST].kind, Fault);
    }

    fn found_none(text: &str) -> bool {
        reports(text.as_bytes()).is_empty()
    }
}
