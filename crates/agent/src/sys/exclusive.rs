//! Keeping all other tasks of the guest from running, for a moment.
//!
//! The calling thread, and a helper thread on every other CPU, run in the class SCHED_FIFO and do not block,
//! so ordinary tasks get no CPU. Interrupts, and real-time tasks of a higher priority, are not affected.
//!
//! This has a time limit. The kernel takes the CPU away from real-time tasks that use more than 0.95 s of a
//! second (`kernel.sched_rt_runtime_us`), and a guest whose tasks do not run for long is not intact.
//!
//! Helpers sleep between two uses. If they ended, each restored guest would begin with that, and under
//! emulation, where code is translated when it is first executed, it takes longer than the rest.

#![expect(unsafe_code, reason = "scheduling calls of the kernel")]

use super::{Sys, check, futex};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The longest time for which all CPUs are occupied.
const LIMIT: Duration = Duration::from_millis(500);
/// How long the helpers may take to occupy their CPUs. One that takes longer is done without.
const START_LIMIT: Duration = Duration::from_millis(100);
const HELPER_STACK: usize = 64 * 1024;
/// Rounds of a helper between two looks at the clock.
const SPINS: u32 = 64;

/// Occupies all CPUs while it [holds](Exclusive::holds) them.
#[derive(Debug, Default)]
pub(crate) struct Exclusive {
    is_active: bool,
    until: Option<Instant>,
    /// The CPUs that have a helper.
    helpers: Vec<usize>,
    shared: Arc<HelperTurns>,
}

#[derive(Debug, Default)]
struct HelperTurns {
    /// Counts the changes: odd while the CPUs are to be occupied.
    turn: AtomicU32,
    /// How many helpers have begun this turn.
    ready: AtomicU32,
    /// The CPU of the caller, which needs no helper.
    own: AtomicUsize,
}

impl Exclusive {
    /// Occupies all CPUs that this process may use. From then on the caller must not block while this
    /// [holds](Exclusive::holds). If the kernel does not allow it, such as in a group without real-time
    /// bandwidth, it never holds.
    pub(crate) fn begin(&mut self) {
        self.end();
        let (Ok(own), Ok(allowed)) = (current_cpu(), affinity()) else {
            return;
        };
        if set_class(libc::SCHED_FIFO).is_err() {
            return;
        }
        self.is_active = true;
        let others: Vec<usize> = (0..CPUS)
            .filter(|cpu| *cpu != own && contains(&allowed, *cpu))
            .collect();
        if !others.is_empty() {
            self.shared.own.store(own, Ordering::Relaxed);
            self.shared.ready.store(0, Ordering::Relaxed);
            self.shared.turn.fetch_add(1, Ordering::Release);
            futex::wake(&self.shared.turn);
            if others.iter().all(|cpu| self.helpers.contains(cpu)) {
                self.await_helpers(others.len(), false);
            } else {
                // New helpers inherit class and CPU. They start when this thread waits, and move to their
                // own CPUs, where they need not wait for an ordinary task either.
                let _ = set_affinity(&only(own));
                for cpu in &others {
                    self.add_helper(*cpu);
                }
                self.await_helpers(others.len(), true);
                let _ = set_affinity(&allowed);
            }
            // From here on this thread stays on its CPU, since it does not block.
        }
        // A process that is forked meanwhile is an ordinary one.
        let _ = set_class(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK);
        self.until = Some(Instant::now() + LIMIT);
    }

    fn add_helper(&mut self, cpu: usize) {
        if self.helpers.contains(&cpu) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = std::thread::Builder::new().stack_size(HELPER_STACK);
        if thread.spawn(move || shared.help(cpu)).is_ok() {
            self.helpers.push(cpu);
        }
    }

    /// Waits until so many helpers occupy their CPUs; `blocks`: they need this one to get there.
    fn await_helpers(&self, count: usize, blocks: bool) {
        let limit = Instant::now() + START_LIMIT;
        loop {
            let ready = self.shared.ready.load(Ordering::Acquire);
            let left = limit.saturating_duration_since(Instant::now());
            if ready as usize >= count || left.is_zero() {
                return;
            }
            if blocks {
                futex::wait(&self.shared.ready, ready, Some(left));
            } else {
                std::hint::spin_loop();
            }
        }
    }

    /// Whether the caller has to poll instead of waiting; not after the time limit.
    pub(crate) fn holds(&mut self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.release_helpers();
        }
        self.until.is_some()
    }

    fn release_helpers(&mut self) {
        self.until = None;
        if self.shared.turn.load(Ordering::Relaxed) & 1 == 1 {
            self.shared.turn.fetch_add(1, Ordering::Release);
        }
    }

    /// Lets other tasks run. Does nothing if they may already.
    pub(crate) fn end(&mut self) {
        self.release_helpers();
        if mem::take(&mut self.is_active) {
            let _ = set_class(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK);
        }
    }
}

impl HelperTurns {
    /// Occupies a CPU in each turn that begins.
    fn help(&self, cpu: usize) {
        let mut done = 0;
        loop {
            let turn = self.turn.load(Ordering::Acquire);
            if turn & 1 == 0 || turn == done {
                futex::wait(&self.turn, turn, None);
                continue;
            }
            done = turn;
            if cpu == self.own.load(Ordering::Relaxed) {
                continue;
            }
            let is_there = current_cpu() == Ok(cpu) || set_affinity(&only(cpu)).is_ok();
            let until = Instant::now() + LIMIT;
            self.ready.fetch_add(1, Ordering::AcqRel);
            futex::wake(&self.ready);
            while is_there && self.turn.load(Ordering::Acquire) == turn && Instant::now() < until {
                for _ in 0..SPINS {
                    std::hint::spin_loop();
                }
            }
        }
    }
}

/// Sets the scheduling class of this thread.
fn set_class(class: i32) -> Sys<()> {
    // SAFETY: all zeros is a valid parameter, of a plain number or, in some libraries, several.
    let mut parameter: libc::sched_param = unsafe { mem::zeroed() };
    // The lowest real-time priority, since interrupts may be handled by threads with a higher one.
    let is_real_time = class & libc::SCHED_FIFO != 0;
    parameter.sched_priority = i32::from(is_real_time);
    // SAFETY: the parameter outlives the call, which only reads it.
    check(unsafe { libc::sched_setscheduler(0, class, &raw const parameter) }).map(drop)
}

const CPUS: usize = libc::CPU_SETSIZE as usize;

fn contains(set: &libc::cpu_set_t, cpu: usize) -> bool {
    // SAFETY: the number is below the size of the set.
    unsafe { libc::CPU_ISSET(cpu, set) }
}

fn only(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: all zeros is the empty set; `CPU_SET` ignores numbers beyond its size.
    unsafe {
        let mut set = mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

fn affinity() -> Sys<libc::cpu_set_t> {
    // SAFETY: all zeros is the empty set, and there is room for it.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        check(libc::sched_getaffinity(0, size_of_val(&set), &raw mut set))?;
        Ok(set)
    }
}

fn set_affinity(set: &libc::cpu_set_t) -> Sys<()> {
    // SAFETY: a set of the size given, which is only read.
    check(unsafe { libc::sched_setaffinity(0, size_of_val(set), set) }).map(drop)
}

fn current_cpu() -> Sys<usize> {
    // SAFETY: no pointers.
    let cpu = check(unsafe { libc::sched_getcpu() })?;
    usize::try_from(cpu).map_err(|_| super::Errno::INVAL)
}
