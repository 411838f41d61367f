//! The pool as files see it: boots wait here until they may take what they need.

use super::core::{PoolCore, Ticket};
use provium_events::{Amount, BlockReason, Event, Sink};
use provium_lab::{Activity, Budget, BudgetError, Grant, Need, StandingBy};
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// From this on the end of a wait is told.
const WORTH_TELLING: Duration = Duration::from_millis(100);

/// How large a pool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSize {
    /// Bytes.
    pub memory: u64,
    /// vCPUs.
    pub cpus: u32,
}

/// Memory and vCPUs, shared out among the files of a run. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    sink: Sink,
}

struct State {
    core: PoolCore,
    waiters: BTreeMap<Ticket, Waiter>,
    /// Since when the request on which all wait has been the same.
    stuck: Option<(Ticket, Instant)>,
    on_change: Option<Box<dyn Fn() + Send>>,
}

struct Waiter {
    file: String,
    need: Need,
    since: Instant,
    answer: oneshot::Sender<Result<Grant, BudgetError>>,
}

/// A file that runs; it counts with its reservation until this is dropped.
pub(crate) struct Running {
    pool: Pool,
    file: String,
}

/// A request that nobody waits for any more is taken back.
struct Request<'a> {
    pool: &'a Pool,
    ticket: Ticket,
}

impl Pool {
    /// A pool of that size; tells `sink` about files that have to wait.
    pub fn new(size: PoolSize, sink: Sink) -> Self {
        let total = Amount {
            memory_bytes: size.memory,
            cpus: size.cpus,
        };
        let state = State {
            core: PoolCore::new(total),
            waiters: BTreeMap::new(),
            stuck: None,
            on_change: None,
        };
        Self(Arc::new(Shared {
            state: Mutex::new(state),
            sink,
        }))
    }

    /// What is taken, and what is left.
    pub(crate) fn amounts(&self) -> (Amount, Amount) {
        let state = self.lock();
        (state.core.used(), state.core.available())
    }

    /// The most that a running file has held at a time.
    pub(crate) fn peak(&self, file: &str) -> Amount {
        self.lock().core.peak(file)
    }

    /// Whether a further file may start.
    pub(crate) fn admits(&self, reservation: Amount) -> bool {
        self.lock().core.admits(reservation)
    }

    /// A file starts.
    pub(crate) fn begin(&self, file: &str, reservation: Amount, activity: Activity) -> Running {
        self.lock().core.begin(file, reservation, activity);
        Running {
            pool: self.clone(),
            file: file.to_owned(),
        }
    }

    /// Takes back all that `file`, which is given up, holds or asks for.
    pub(crate) fn revoke(&self, file: &str) {
        let mut state = self.lock();
        let tickets = state.core.revoke(file);
        let waiters = tickets
            .iter()
            .filter_map(|ticket| state.waiters.remove(ticket));
        let waiters: Vec<Waiter> = waiters.collect();
        state.stuck = None;
        drop(state);
        // Whoever still waits is told by the end of the answer.
        drop(waiters);
        self.settle();
    }

    /// Calls `notify` whenever something was given back. It is called under the pool's lock and
    /// must not come back to the pool.
    pub(crate) fn on_change(&self, notify: impl Fn() + Send + 'static) {
        self.lock().on_change = Some(Box::new(notify));
    }

    /// Refuses a request if all that could give something back have waited for each other for
    /// `patience`, as of `now`.
    pub(crate) fn break_cycle(&self, now: Instant, patience: Duration) {
        let mut state = self.lock();
        let Some((ticket, _, holders)) = state.core.deadlock() else {
            state.stuck = None;
            return;
        };
        match state.stuck {
            Some((same, since)) if same == ticket => {
                if now.saturating_duration_since(since) < patience {
                    return;
                }
            }
            _ => {
                state.stuck = Some((ticket, now));
                return;
            }
        }
        state.stuck = None;
        state.core.withdraw(ticket);
        let waiter = state.waiters.remove(&ticket);
        drop(state);
        if let Some(Waiter { need, answer, .. }) = waiter {
            // Nobody waits any more: then the cycle is broken as well.
            let _ = answer.send(Err(BudgetError::Deadlock { need, holders }));
        }
        self.settle();
    }

    /// Hands out what can be handed out.
    fn settle(&self) {
        let mut state = self.lock();
        let granted = state.core.grant();
        let granted: Vec<Waiter> = granted
            .iter()
            .filter_map(|ticket| state.waiters.remove(ticket))
            .collect();
        if !granted.is_empty() {
            state.stuck = None;
        }
        drop(state);
        // Without the lock: a grant that nobody takes is dropped here, and comes back to the pool.
        for Waiter {
            file,
            need,
            since,
            answer,
        } in granted
        {
            let waited = since.elapsed();
            if waited >= WORTH_TELLING {
                self.0.sink.emit(Event::FileUnblocked {
                    path: file.clone(),
                    amount: amount(need),
                    waited_ns: u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX),
                });
            }
            let _ = answer.send(Ok(self.granted(file, need)));
        }
    }

    /// What `file` was given, which comes back when it is dropped.
    fn granted(&self, file: String, need: Need) -> Grant {
        let pool = self.clone();
        Grant::new(need, move || pool.give_back(&file, need))
    }

    fn give_back(&self, file: &str, need: Need) {
        let mut state = self.lock();
        state.core.release(file, amount(need));
        state.stuck = None;
        if let Some(notify) = &state.on_change {
            notify();
        }
        drop(state);
        self.settle();
    }

    fn ask(
        &self,
        file: &str,
        need: Need,
    ) -> Result<(Ticket, oneshot::Receiver<Result<Grant, BudgetError>>), BudgetError> {
        let (answer, receiver) = oneshot::channel();
        let ticket = {
            let mut state = self.lock();
            let Some(ticket) = state.core.request(file, amount(need)) else {
                let total = state.core.total();
                let total = Need {
                    memory: total.memory_bytes,
                    cpus: total.cpus,
                };
                return Err(BudgetError::NeverFits { need, total });
            };
            state.waiters.insert(
                ticket,
                Waiter {
                    file: file.to_owned(),
                    need,
                    since: Instant::now(),
                    answer,
                },
            );
            ticket
        };
        self.settle();
        if self.lock().waiters.contains_key(&ticket) {
            self.0.sink.emit(Event::FileBlocked {
                path: file.to_owned(),
                waiting_for: amount(need),
                reason: BlockReason::PoolFull,
            });
        }
        Ok((ticket, receiver))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Budget for Pool {
    fn stand_by(&self, file: &str) -> StandingBy {
        self.lock().core.stand_by(file);
        // Whoever the file waits for may go on with processors that are lent.
        self.settle();
        let (pool, file) = (self.clone(), file.to_owned());
        StandingBy::new(move || pool.lock().core.go_on(&file))
    }

    fn waits_for_others(&self, file: &str, need: Need) -> bool {
        self.lock().core.waits_for_others(file, amount(need))
    }

    fn room(&self) -> u64 {
        self.lock().core.available().memory_bytes
    }

    fn total(&self) -> Option<Need> {
        let total = self.lock().core.total();
        Some(Need {
            memory: total.memory_bytes,
            cpus: total.cpus,
        })
    }

    fn acquire<'a>(
        &'a self,
        file: &'a str,
        need: Need,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>> {
        Box::pin(async move {
            let (ticket, receiver) = self.ask(file, need)?;
            let _request = Request { pool: self, ticket };
            // The sender is kept until it has answered; if it is gone, so is the pool's reason.
            receiver.await.unwrap_or_else(|_| {
                Err(BudgetError::Deadlock {
                    need,
                    holders: "the run has ended".to_owned(),
                })
            })
        })
    }

    fn try_acquire(&self, file: &str, need: Need) -> Option<Grant> {
        let taken = self.lock().core.take_now(file, amount(need));
        taken.then(|| self.granted(file.to_owned(), need))
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("core", &self.lock().core)
            .finish_non_exhaustive()
    }
}

impl Drop for Request<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        let withdrawn = state.core.withdraw(self.ticket);
        let waiter = state.waiters.remove(&self.ticket);
        drop(state);
        drop(waiter);
        if withdrawn {
            self.pool.settle();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.pool.lock().core.end(&self.file);
    }
}

fn amount(need: Need) -> Amount {
    Amount {
        memory_bytes: need.memory,
        cpus: need.cpus,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const MIB: u64 = 1 << 20;

    fn need(cpus: u32) -> Need {
        Need {
            memory: u64::from(cpus) * MIB,
            cpus,
        }
    }

    fn pool(cpus: u32) -> Pool {
        Pool::new(
            PoolSize {
                memory: u64::from(cpus) * MIB,
                cpus,
            },
            Sink::discard(),
        )
    }

    #[test]
    fn a_grant_comes_back_when_it_is_dropped_and_wakes_who_waits() {
        let pool = pool(2);
        let first = pool.acquire("a", need(2)).now_or_never().unwrap().unwrap();
        let mut second = pool.acquire("b", need(1));
        assert!((&mut second).now_or_never().is_none());
        drop(first);
        let second = second.now_or_never().unwrap().unwrap();
        assert_eq!(second.need(), need(1));
        drop(second);
        assert_eq!(pool.amounts().0, Amount::default());
    }

    #[test]
    fn who_stops_waiting_leaves_nothing_behind() {
        let pool = pool(2);
        let first = pool.acquire("a", need(2)).now_or_never().unwrap().unwrap();
        let mut given_up = pool.acquire("b", need(2));
        assert!((&mut given_up).now_or_never().is_none());
        // Granted, and then given up before it was looked at.
        drop(first);
        drop(given_up);
        assert_eq!(pool.amounts().0, Amount::default());
        assert!(pool.lock().waiters.is_empty());
    }

    #[test]
    fn what_is_only_tried_is_had_at_once_or_not_and_comes_back() {
        let pool = pool(2);
        let first = pool.try_acquire("a", need(1)).expect("it is there");
        assert!(pool.try_acquire("a", need(2)).is_none());
        let mut waits = pool.acquire("b", need(2));
        assert!((&mut waits).now_or_never().is_none());
        assert!(pool.try_acquire("a", need(1)).is_none(), "b comes first");
        drop(first);
        drop(waits.now_or_never().unwrap().unwrap());
        assert_eq!(pool.amounts().0, Amount::default());
    }

    #[test]
    fn more_than_there_is_fails_at_once() {
        let error = pool(2)
            .acquire("a", need(3))
            .now_or_never()
            .unwrap()
            .unwrap_err();
        assert!(matches!(error, BudgetError::NeverFits { .. }));
    }

    #[test]
    fn a_cycle_that_lasts_is_broken_with_its_name() {
        let pool = pool(2);
        let start = Instant::now();
        let patience = Duration::from_secs(10);
        let _held = pool.acquire("a", need(1)).now_or_never().unwrap().unwrap();
        let _other = pool.acquire("b", need(1)).now_or_never().unwrap().unwrap();
        let mut a = pool.acquire("a", need(1));
        let mut b = pool.acquire("b", need(1));
        assert!((&mut a).now_or_never().is_none());
        pool.break_cycle(start, patience);
        assert!((&mut b).now_or_never().is_none());
        pool.break_cycle(start, patience);
        pool.break_cycle(start + patience / 2, patience);
        assert!((&mut b).now_or_never().is_none());
        pool.break_cycle(start + patience, patience);
        let error = b.now_or_never().unwrap().unwrap_err();
        assert!(
            error.to_string().contains("`a` holds 1 MiB and 1 vCPU(s)"),
            "{error}"
        );
        assert!((&mut a).now_or_never().is_none());
    }

    #[test]
    fn waiting_is_told() {
        let (sink, events) = Sink::channel();
        let pool = Pool::new(
            PoolSize {
                memory: MIB,
                cpus: 1,
            },
            sink,
        );
        let _first = pool.acquire("a", need(1)).now_or_never().unwrap().unwrap();
        let _ = pool.acquire("b", need(1)).now_or_never();
        let told: Vec<Event> = events.try_iter().map(|stamped| stamped.event).collect();
        assert_eq!(
            told,
            [Event::FileBlocked {
                path: "b".into(),
                waiting_for: amount(need(1)),
                reason: BlockReason::PoolFull,
            }]
        );
    }
}
