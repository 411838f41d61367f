//! The pool as files see it: requests wait here until [`PoolCore`] grants them.

use crate::activity::{Activity, WaitingTurn};
use crate::caller::Caller;
use crate::core::{PoolCore, Ticket};
use crate::error::PoolError;
use crate::grant::{BlockedGuard, Grant};
use parking_lot::Mutex;
use provium_events::{BlockReason, Event, Resources, Sink};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Shorter waits are not reported when they end.
const SHORTEST_REPORTED_WAIT: Duration = Duration::from_millis(100);

/// Memory and vCPUs, shared out among the files of a run. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    sink: Sink,
}

struct State {
    core: PoolCore,
    waiters: BTreeMap<Ticket, Waiter>,
    /// The deadlock that was found.
    deadlocked: Option<FoundDeadlock>,
    on_return: Option<Box<dyn Fn() + Send>>,
}

struct Waiter {
    file: String,
    need: Resources,
    since: Instant,
    answer: oneshot::Sender<Result<Grant, PoolError>>,
    /// The turn that has made the request.
    waits: Option<WaitingTurn>,
}

/// A deadlock, which counts if it lasts.
struct FoundDeadlock {
    ticket: Ticket,
    begun: u64,
    since: Instant,
}

/// A running file; it counts with its reservation until this is dropped.
pub struct RunningFile {
    pool: Pool,
    file: String,
}

/// A waiting request; dropping it withdraws the request.
struct Request<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Pool {
    /// A pool of that size, which reports to `sink` which files have to wait.
    pub fn new(total: Resources, sink: Sink) -> Self {
        let state = State {
            core: PoolCore::new(total),
            waiters: BTreeMap::new(),
            deadlocked: None,
            on_return: None,
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            sink,
        }))
    }

    /// A pool that grants every request.
    pub fn unlimited() -> Self {
        Self::new(Resources::UNLIMITED, Sink::discard())
    }

    /// The pool's size.
    pub fn total(&self) -> Resources {
        self.0.state.lock().core.total()
    }

    /// The sum of what files hold.
    pub fn used(&self) -> Resources {
        self.0.state.lock().core.used()
    }

    /// What is left.
    pub fn available(&self) -> Resources {
        self.0.state.lock().core.available()
    }

    /// What a file holds.
    pub fn held(&self, file: &str) -> Resources {
        self.0.state.lock().core.held(file)
    }

    /// The most that a running file has held at a time.
    pub fn peak(&self, file: &str) -> Resources {
        self.0.state.lock().core.peak(file)
    }

    /// Whether a further file may start.
    pub fn admits(&self, reservation: Resources) -> bool {
        self.0.state.lock().core.admits(reservation)
    }

    /// A file starts.
    pub fn begin(&self, file: &str, reservation: Resources, activity: Activity) -> RunningFile {
        let mut state = self.0.state.lock();
        state.core.begin(file, reservation, activity);
        drop(state);
        RunningFile {
            pool: self.clone(),
            file: file.to_owned(),
        }
    }

    /// Takes back all that `file`, which is given up, holds, and refuses its requests from now on.
    pub fn revoke(&self, file: &str) {
        let mut state = self.0.state.lock();
        let tickets = state.core.revoke(file);
        let waiters = tickets
            .iter()
            .filter_map(|ticket| state.waiters.remove(ticket));
        let waiters: Vec<Waiter> = waiters.collect();
        state.deadlocked = None;
        drop(state);
        // Their requests fail with `Closed`.
        drop(waiters);
        self.grant();
    }

    /// Calls `notify` whenever a grant is returned. It is called under the pool's lock and must not
    /// call the pool.
    pub fn on_return(&self, notify: impl Fn() + Send + 'static) {
        self.0.state.lock().on_return = Some(Box::new(notify));
    }

    /// Refuses a request if all files that could return something have waited for each other for `limit`, as of `now`,
    /// and none has done anything meanwhile. Called regularly.
    pub fn break_deadlock(&self, now: Instant, limit: Duration) {
        let mut state = self.0.state.lock();
        let Some(deadlock) = state.core.deadlock() else {
            state.deadlocked = None;
            return;
        };
        let same = |found: &FoundDeadlock| {
            found.ticket == deadlock.ticket && found.begun == deadlock.begun
        };
        match state.deadlocked.take_if(|found| same(found)) {
            Some(found) if now.saturating_duration_since(found.since) >= limit => {}
            found => {
                state.deadlocked = Some(found.unwrap_or(FoundDeadlock {
                    ticket: deadlock.ticket,
                    begun: deadlock.begun,
                    since: now,
                }));
                return;
            }
        }
        state.core.withdraw(deadlock.ticket);
        let waiter = state.waiters.remove(&deadlock.ticket);
        drop(state);
        if let Some(Waiter {
            answer,
            file,
            waits,
            ..
        }) = waiter
        {
            drop(waits);
            // If the request was dropped meanwhile, the deadlock is broken as well.
            let _ = answer.send(Err(PoolError::Deadlock {
                file,
                need: deadlock.need,
                holders: deadlock.holders,
            }));
        }
        self.grant();
    }

    /// Waits until `need` is available for `file`, and takes it. Dropping the future withdraws the
    /// request.
    ///
    /// # Errors
    /// When it can never be granted, when all running files wait for each other, or when the file was
    /// given up.
    pub async fn acquire(&self, file: &str, need: Resources) -> Result<Grant, PoolError> {
        let (ticket, answer) = self.request(file, need)?;
        let _request = Request { pool: self, ticket };
        answer.await.unwrap_or(Err(PoolError::Closed))
    }

    /// Takes `need` for `file` if it is available and no request waits.
    pub fn try_acquire(&self, file: &str, need: Resources) -> Option<Grant> {
        let taken = self.0.state.lock().core.take_now(file, need);
        taken.then(|| self.granted(file.to_owned(), need))
    }

    /// Whether a waiting request of `file` waits for what other files hold, and not (only) for what the
    /// file itself holds.
    pub fn waits_for_others(&self, file: &str, need: Resources) -> bool {
        self.0.state.lock().core.waits_for_others(file, need)
    }

    /// Notes that a task of `file` waits for another file and returns nothing until then. Without it,
    /// files that wait for each other would not be found.
    pub fn block(&self, file: &str) -> BlockedGuard {
        self.0.state.lock().core.block(file);
        // The other file may continue with overcommitted vCPUs.
        self.grant();
        let (pool, file) = (self.clone(), file.to_owned());
        BlockedGuard::new(move || pool.0.state.lock().core.unblock(&file))
    }

    /// Grants what can be granted now.
    fn grant(&self) {
        let mut state = self.0.state.lock();
        let granted = state.core.grant();
        let mut granted: Vec<Waiter> = granted
            .iter()
            .filter_map(|ticket| state.waiters.remove(ticket))
            .collect();
        // With the lock: a file may return something as soon as its request is granted.
        for waiter in &mut granted {
            waiter.waits = None;
        }
        if !granted.is_empty() {
            state.deadlocked = None;
        }
        drop(state);
        // Without the lock: a grant of a request that was dropped meanwhile returns to the pool here.
        for Waiter {
            file,
            need,
            since,
            answer,
            ..
        } in granted
        {
            let waited = since.elapsed();
            if waited >= SHORTEST_REPORTED_WAIT {
                self.0.sink.emit(Event::FileUnblocked {
                    path: file.clone(),
                    amount: need,
                    waited_ns: u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX),
                });
            }
            let _ = answer.send(Ok(self.granted(file, need)));
        }
    }

    /// A grant of what was taken for `file`.
    fn granted(&self, file: String, amount: Resources) -> Grant {
        let pool = self.clone();
        Grant::new(amount, move || pool.release(&file, amount))
    }

    fn release(&self, file: &str, amount: Resources) {
        let mut state = self.0.state.lock();
        state.core.release(file, amount);
        state.deadlocked = None;
        if let Some(notify) = &state.on_return {
            notify();
        }
        drop(state);
        self.grant();
    }

    fn request(
        &self,
        file: &str,
        need: Resources,
    ) -> Result<(Ticket, oneshot::Receiver<Result<Grant, PoolError>>), PoolError> {
        let (answer, receiver) = oneshot::channel();
        let mut state = self.0.state.lock();
        let ticket = state.core.request(file, need)?;
        let waiter = Waiter {
            file: file.to_owned(),
            need,
            since: Instant::now(),
            answer,
            waits: Caller::current_waits(),
        };
        state.waiters.insert(ticket, waiter);
        drop(state);
        self.grant();
        if self.0.state.lock().waiters.contains_key(&ticket) {
            self.0.sink.emit(Event::FileBlocked {
                path: file.to_owned(),
                waiting_for: need,
                reason: BlockReason::PoolFull,
            });
        }
        Ok((ticket, receiver))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("core", &self.0.state.lock().core)
            .finish_non_exhaustive()
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.0.state.lock();
        let withdrawn = state.core.withdraw(self.ticket);
        let waiter = state.waiters.remove(&self.ticket);
        drop(state);
        drop(waiter);
        if withdrawn {
            self.pool.grant();
        }
    }
}

impl Drop for RunningFile {
    fn drop(&mut self) {
        self.pool.0.state.lock().core.end(&self.file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::FileWatch;
    use futures_util::FutureExt as _;

    const MIB: u64 = 1 << 20;

    fn need(cpus: u32) -> Resources {
        Resources {
            memory_bytes: u64::from(cpus) * MIB,
            cpus,
        }
    }

    fn pool(cpus: u32) -> Pool {
        Pool::new(need(cpus), Sink::discard())
    }

    fn take(pool: &Pool, file: &str, cpus: u32) -> Grant {
        let granted = pool.acquire(file, need(cpus)).now_or_never();
        granted.expect("it is available").unwrap()
    }

    #[test]
    fn a_dropped_grant_is_returned_and_wakes_a_waiting_request() {
        let pool = pool(2);
        let first = take(&pool, "a", 2);
        let mut second = Box::pin(pool.acquire("b", need(1)));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let second = second.now_or_never().unwrap().unwrap();
        assert_eq!(second.amount(), need(1));
        drop(second);
        assert!(pool.used().is_zero());
    }

    #[test]
    fn a_dropped_request_leaves_nothing_behind() {
        let pool = pool(2);
        let first = take(&pool, "a", 2);
        let mut dropped = Box::pin(pool.acquire("b", need(2)));
        assert!((&mut dropped).now_or_never().is_none());
        // Granted, and then dropped before it is polled again.
        drop(first);
        drop(dropped);
        assert!(pool.used().is_zero());
        assert!(pool.0.state.lock().waiters.is_empty());
    }

    #[test]
    fn try_acquire_does_not_overtake_a_waiting_request() {
        let pool = pool(2);
        let first = pool.try_acquire("a", need(1)).expect("it is available");
        assert!(pool.try_acquire("a", need(2)).is_none());
        let mut waits = Box::pin(pool.acquire("b", need(2)));
        assert!((&mut waits).now_or_never().is_none());
        assert!(pool.try_acquire("a", need(1)).is_none(), "b comes first");
        drop(first);
        drop(waits.now_or_never().unwrap().unwrap());
        assert!(pool.used().is_zero());
    }

    #[test]
    fn a_request_for_more_than_the_pool_has_fails_at_once() {
        let pool = pool(2);
        let refused = pool.acquire("a", need(3)).now_or_never().unwrap();
        assert!(matches!(refused, Err(PoolError::NeverFits { .. })));
    }

    #[test]
    fn an_unlimited_pool_grants_every_request() {
        let pool = Pool::unlimited();
        let _first = take(&pool, "a", 1 << 20);
        let _second = take(&pool, "b", 1 << 20);
    }

    #[test]
    fn a_revoked_file_returns_its_grants_and_gets_no_more() {
        let pool = pool(2);
        let held = take(&pool, "a", 2);
        let mut waits = Box::pin(pool.acquire("a", need(1)));
        assert!((&mut waits).now_or_never().is_none());
        pool.revoke("a");
        let refused = waits.now_or_never().unwrap().unwrap_err();
        assert_eq!(refused, PoolError::Closed);
        let other = take(&pool, "b", 2);
        drop(held);
        assert_eq!(pool.used(), other.amount());
    }

    #[test]
    fn a_deadlock_that_lasts_is_broken_by_refusing_the_youngest_request() {
        let pool = pool(2);
        let start = Instant::now();
        let limit = Duration::from_secs(10);
        let _held = take(&pool, "a", 1);
        let _other = take(&pool, "b", 1);
        let mut a = Box::pin(pool.acquire("a", need(1)));
        let mut b = Box::pin(pool.acquire("b", need(1)));
        assert!((&mut a).now_or_never().is_none());
        pool.break_deadlock(start, limit);
        assert!((&mut b).now_or_never().is_none());
        pool.break_deadlock(start, limit);
        pool.break_deadlock(start + limit / 2, limit);
        assert!((&mut b).now_or_never().is_none());
        pool.break_deadlock(start + limit, limit);
        let error = b.now_or_never().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "needs 1 MiB and 1 vCPU, but every running file waits for memory that another one holds: `a` holds 1 MiB \
             and 1 vCPU, `b` holds 1 MiB and 1 vCPU; let each file claim what it needs in all, or run with a larger \
             --mem"
        );
        assert!((&mut a).now_or_never().is_none());
    }

    #[test]
    fn a_deadlock_counts_only_if_no_file_does_anything_meanwhile() {
        let pool = pool(2);
        let start = Instant::now();
        let limit = Duration::from_secs(2);
        let watch = FileWatch::default();
        let _running = pool.begin("a", need(1), watch.activity().clone());
        let _held = take(&pool, "a", 2);
        // One test waits for the pool, in a turn of its own; another one works.
        let waits = watch.caller().take_turn(pool.acquire("a", need(1)));
        let mut waits = Box::pin(waits);
        assert!((&mut waits).now_or_never().is_none());
        let works = watch.caller().take_turn(std::future::pending::<()>());
        pool.break_deadlock(start, limit);
        pool.break_deadlock(start + limit * 10, limit);
        assert!((&mut waits).now_or_never().is_none());
        drop(works);
        let idle = start + limit * 20;
        pool.break_deadlock(idle, limit);
        // Between two looks a part of the file continues, and waits again.
        drop(watch.caller().take_turn(std::future::pending::<()>()));
        pool.break_deadlock(idle + limit, limit);
        assert!((&mut waits).now_or_never().is_none());
        pool.break_deadlock(idle + limit * 2, limit);
        let error = waits.now_or_never().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "needs 1 MiB and 1 vCPU, but this file waits for memory that only it holds, 2 MiB and 2 vCPUs, and no \
             other part of it works meanwhile; hold fewer VMs at a time, give them less `memory`, or run with a \
             larger --mem"
        );
    }

    #[test]
    fn a_file_goes_on_as_soon_as_its_request_is_granted() {
        let pool = pool(2);
        let watch = FileWatch::default();
        let held = take(&pool, "b", 2);
        let waits = watch.caller().take_turn(pool.acquire("a", need(1)));
        let mut waits = Box::pin(waits);
        assert!((&mut waits).now_or_never().is_none());
        assert!(watch.activity().is_idle());
        drop(held);
        assert!(!watch.activity().is_idle(), "before it is polled");
        drop(waits);
        assert!(watch.activity().is_idle());
    }

    #[test]
    fn a_wait_is_reported() {
        let (sink, events) = Sink::channel();
        let pool = Pool::new(need(1), sink);
        let _first = take(&pool, "a", 1);
        let _ = pool.acquire("b", need(1)).now_or_never();
        let reported: Vec<Event> = events.try_iter().map(|stamped| stamped.event).collect();
        assert_eq!(
            reported,
            [Event::FileBlocked {
                path: "b".into(),
                waiting_for: need(1),
                reason: BlockReason::PoolFull,
            }]
        );
    }
}
