//! Keeping all other tasks of the guest from running, for a moment.
//!
//! The calling thread, and a helper thread on every other CPU, run in the class SCHED_FIFO and never block,
//! so ordinary tasks get no CPU. Interrupts, and real-time tasks of a higher priority, are not affected.
//!
//! This has a time limit. The kernel takes the CPU away from real-time tasks that use more than 0.95 s of a
//! second (`kernel.sched_rt_runtime_us`), and a guest whose tasks do not run for long is not intact.

#![expect(unsafe_code, reason = "scheduling calls of the kernel")]

use super::{Sys, check, futex};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The longest time for which all CPUs are occupied.
const LIMIT: Duration = Duration::from_millis(500);
/// How long the helpers may take to occupy their CPUs. One that takes longer is done without.
const START_LIMIT: Duration = Duration::from_millis(100);
const HELPER_STACK: usize = 64 * 1024;
/// Turns of a helper between two looks at the clock.
const TURNS: u32 = 64;

/// While it exists, this thread runs before all ordinary tasks; while it also [spins](Exclusive::spins),
/// they do not run at all.
#[derive(Debug)]
pub(crate) struct Exclusive {
    helpers: Arc<Helpers>,
    until: Option<Instant>,
}

#[derive(Debug, Default)]
struct Helpers {
    /// How many occupy their CPUs, or cannot.
    ready: AtomicU32,
    over: AtomicBool,
}

impl Exclusive {
    /// Occupies all CPUs that this process may use. From then on the caller must not block while
    /// [`Exclusive::spins`].
    ///
    /// # Errors
    /// The kernel does not allow it, such as in a group without real-time bandwidth.
    pub(crate) fn begin() -> Sys<Self> {
        let until = Instant::now() + LIMIT;
        let allowed = affinity()?;
        let own = current_cpu()?;
        set_class(libc::SCHED_FIFO)?;
        let helpers = Arc::new(Helpers::default());
        let others: Vec<usize> = (0..CPUS).filter(|cpu| contains(&allowed, *cpu)).collect();
        if others.len() > 1 {
            // The helpers inherit class and CPU. They start when this thread waits, and move to their own
            // CPUs, where they need not wait for an ordinary task either.
            let _ = set_affinity(&only(own));
            for cpu in others.into_iter().filter(|cpu| *cpu != own) {
                start_helper(cpu, &helpers, until);
            }
            // This thread stays on its CPU as long as it does not block.
            let _ = set_affinity(&allowed);
        }
        // A process that is forked meanwhile is an ordinary one.
        set_class(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK)?;
        Ok(Self {
            helpers,
            until: Some(until),
        })
    }

    /// Whether the caller has to poll instead of waiting; not after the time limit.
    pub(crate) fn spins(&mut self) -> bool {
        if self.until.is_some_and(|until| Instant::now() >= until) {
            self.helpers.over.store(true, Ordering::Release);
            self.until = None;
        }
        self.until.is_some()
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        self.helpers.over.store(true, Ordering::Release);
        let _ = set_class(libc::SCHED_OTHER | libc::SCHED_RESET_ON_FORK);
    }
}

/// Starts a helper and waits until it occupies its CPU.
fn start_helper(cpu: usize, helpers: &Arc<Helpers>, until: Instant) {
    let before = helpers.ready.load(Ordering::Acquire);
    let started = std::thread::Builder::new().stack_size(HELPER_STACK).spawn({
        let helpers = Arc::clone(helpers);
        move || helpers.occupy(cpu, until)
    });
    let limit = Instant::now() + START_LIMIT;
    while started.is_ok() && helpers.ready.load(Ordering::Acquire) == before {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        futex::wait(&helpers.ready, before, Some(left));
    }
}

impl Helpers {
    fn occupy(&self, cpu: usize, until: Instant) {
        let moved = set_affinity(&only(cpu));
        self.ready.fetch_add(1, Ordering::AcqRel);
        futex::wake(&self.ready);
        while moved.is_ok() && !self.over.load(Ordering::Acquire) && Instant::now() < until {
            for _ in 0..TURNS {
                std::hint::spin_loop();
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
