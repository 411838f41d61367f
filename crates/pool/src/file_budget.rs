//! What one file may use: its claim, or else the pool.
//!
//! Without a claim each boot takes from the pool that all files share, and waits while that is empty. A
//! claim reserves an amount for the file: boots draw on it, fail at once when it is not enough, and
//! return to it. VMs that run when the claim is taken have drawn on it already. What a claim does not
//! name, memory or vCPUs, boots still take from the pool.
//!
//! The build of a fixture has a budget of its own, which draws on that of the file that waits for the
//! fixture: what the build claims is taken from the file's budget and returned when the build ends.

use crate::error::PoolError;
use crate::grant::Grant;
use crate::pool::Pool;
use crate::waiting::wait_for_pool;
use parking_lot::Mutex;
use provium_events::{Event, Resources, Sink};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What a file reserves for itself. What is `None` stays with the pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Bytes.
    pub memory: Option<u64>,
    /// vCPUs.
    pub cpus: Option<u32>,
}

impl Claim {
    /// What it reserves.
    pub fn amount(self) -> Resources {
        Resources {
            memory_bytes: self.memory.unwrap_or(0),
            cpus: self.cpus.unwrap_or(0),
        }
    }

    /// The part of `need` that the claim names, and the rest.
    fn split(self, need: Resources) -> (Resources, Resources) {
        let named = Resources {
            memory_bytes: self.memory.map_or(0, |_| need.memory_bytes),
            cpus: self.cpus.map_or(0, |_| need.cpus),
        };
        (named, need - named)
    }
}

/// What one file may use. Clones are the same budget.
#[derive(Clone)]
pub struct FileBudget(Arc<Inner>);

struct Inner {
    source: Source,
    /// The file, as the pool and events name it.
    file: String,
    /// Receives the events of its claim.
    sink: Sink,
    state: Mutex<State>,
}

/// Where a budget takes what it has no claim for.
enum Source {
    Pool(Pool),
    /// The budget of the file that waits for a fixture's build.
    Waiting(FileBudget),
}

#[derive(Default)]
struct State {
    /// A task waits for the pool to grant a claim.
    claiming: bool,
    reserved: Option<ReservedClaim>,
    /// Grants of VMs that do not belong to a claim.
    direct: BTreeMap<u64, Grant>,
    next: u64,
}

/// A claim that was taken. That is reported, and so is its return.
struct ReservedClaim {
    claim: Claim,
    /// What is left of what the claim names.
    left: Resources,
    /// What it consists of; returned to the pool with it.
    _grants: Vec<Grant>,
    file: String,
    sink: Sink,
}

type BoxedGrant<'a> = Pin<Box<dyn Future<Output = Result<Grant, PoolError>> + Send + 'a>>;

impl FileBudget {
    /// The budget of `file`, which draws on `pool`. The events of its claim go to `sink`.
    pub fn new(pool: Pool, file: impl Into<String>, sink: Sink) -> Self {
        Self::draws_on(Source::Pool(pool), file.into(), sink)
    }

    /// The budget of the build of a fixture for which this file waits. A claim of the build is not the
    /// file's, and is not reported.
    #[must_use]
    pub fn for_build(&self) -> Self {
        let source = Source::Waiting(self.clone());
        Self::draws_on(source, self.0.file.clone(), Sink::discard())
    }

    fn draws_on(source: Source, file: String, sink: Sink) -> Self {
        Self(Arc::new(Inner {
            source,
            file,
            sink,
            state: Mutex::default(),
        }))
    }

    /// The pool that it draws on in the end.
    fn pool(&self) -> &Pool {
        match &self.0.source {
            Source::Pool(pool) => pool,
            Source::Waiting(outer) => outer.pool(),
        }
    }

    /// Reserves `claim` for the file, once; waits while the pool cannot grant it.
    ///
    /// # Errors
    /// When there is a claim, when the pool never has that much, or when the file's VMs hold more than
    /// the claim.
    pub async fn claim(&self, claim: Claim) -> Result<(), PoolError> {
        let need = claim.amount();
        wait_for_pool(self.pool(), &self.0.file, need, self.reserve(claim)).await
    }

    /// Takes what a boot needs; waits while the pool cannot grant it.
    ///
    /// # Errors
    /// When the claim has too little left, or as [`Pool::acquire`].
    pub async fn acquire(&self, need: Resources) -> Result<Grant, PoolError> {
        wait_for_pool(self.pool(), &self.0.file, need, self.take(need)).await
    }

    /// Takes what a boot needs if it is available now.
    pub fn try_acquire(&self, need: Resources) -> Option<Grant> {
        match self.draw(need).ok()? {
            Some((drawn, rest)) if rest.is_zero() => Some(drawn),
            Some((drawn, rest)) => {
                let pooled = self.try_take_from_source(rest)?;
                Some(Grant::new(need, move || drop((drawn, pooled))))
            }
            None => self.hold(need, self.try_take_from_source(need)?),
        }
    }

    async fn reserve(&self, claim: Claim) -> Result<(), PoolError> {
        let (need, total) = (claim.amount(), self.pool().total());
        if !need.fits(total) {
            return Err(PoolError::NeverFits { need, total });
        }
        let _claiming = ClaimGuard::begin(self)?;
        let mut grants: Vec<Grant> = Vec::new();
        loop {
            // VMs may boot and end during the wait for the pool: what is missing is computed again.
            let missing = {
                let mut state = self.0.state.lock();
                let held = state.direct.values().map(Grant::amount).sum();
                let (held, _) = claim.split(held);
                if !held.fits(need) {
                    return Err(PoolError::ClaimTooSmall { held, claim: need });
                }
                let left = need - held;
                let missing = left - grants.iter().map(Grant::amount).sum();
                if missing.is_zero() {
                    grants.extend(std::mem::take(&mut state.direct).into_values());
                    let reserved = ReservedClaim {
                        claim,
                        left,
                        _grants: grants,
                        file: self.0.file.clone(),
                        sink: self.0.sink.clone(),
                    };
                    reserved.report(|path, amount| Event::ClaimAcquired { path, amount });
                    state.reserved = Some(reserved);
                    return Ok(());
                }
                missing
            };
            grants.push(self.take_from_source(missing).await?);
        }
    }

    /// Takes what a boot needs, from the claim or the source.
    async fn take(&self, need: Resources) -> Result<Grant, PoolError> {
        loop {
            if let Some((drawn, rest)) = self.draw(need)? {
                if rest.is_zero() {
                    return Ok(drawn);
                }
                let pooled = self.take_from_source(rest).await?;
                return Ok(Grant::new(need, move || drop((drawn, pooled))));
            }
            let pooled = self.take_from_source(need).await?;
            if let Some(grant) = self.hold(need, pooled) {
                return Ok(grant);
            }
            // A claim was taken meanwhile: boots draw on it from now on.
        }
    }

    fn take_from_source(&self, need: Resources) -> BoxedGrant<'_> {
        match &self.0.source {
            Source::Pool(pool) => Box::pin(pool.acquire(&self.0.file, need)),
            Source::Waiting(outer) => Box::pin(outer.take(need)),
        }
    }

    fn try_take_from_source(&self, need: Resources) -> Option<Grant> {
        match &self.0.source {
            Source::Pool(pool) => pool.try_acquire(&self.0.file, need),
            Source::Waiting(outer) => outer.try_acquire(need),
        }
    }

    /// The claim's part of `need`, and what is left to take from the source; `None` without a claim.
    fn draw(&self, need: Resources) -> Result<Option<(Grant, Resources)>, PoolError> {
        let mut state = self.0.state.lock();
        let Some(reserved) = state.reserved.as_mut() else {
            return Ok(None);
        };
        let (named, rest) = reserved.claim.split(need);
        if !named.fits(reserved.left) {
            let left = reserved.left;
            return Err(PoolError::OverClaim { need: named, left });
        }
        reserved.left = reserved.left - named;
        let budget = self.clone();
        let drawn = Grant::new(named, move || budget.return_to_claim(named));
        Ok(Some((drawn, rest)))
    }

    /// Notes that a VM has a grant of the source's. With a claim it returns the grant, and `None`.
    fn hold(&self, need: Resources, granted: Grant) -> Option<Grant> {
        let mut state = self.0.state.lock();
        if state.reserved.is_some() {
            drop(state);
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.direct.insert(number, granted);
        let budget = self.clone();
        Some(Grant::new(need, move || budget.release(number, need)))
    }

    /// The VM of a grant of the source's has ended.
    fn release(&self, number: u64, need: Resources) {
        let granted = self.0.state.lock().direct.remove(&number);
        match granted {
            // Dropped without the lock, since it wakes waiting requests.
            Some(granted) => drop(granted),
            // It has become a part of the claim.
            None => self.return_to_claim(need),
        }
    }

    fn return_to_claim(&self, need: Resources) {
        if let Some(reserved) = self.0.state.lock().reserved.as_mut() {
            let (named, _) = reserved.claim.split(need);
            reserved.left = reserved.left + named;
        }
    }
}

impl ReservedClaim {
    fn report(&self, event: impl FnOnce(String, Resources) -> Event) {
        self.sink
            .emit(event(self.file.clone(), self.claim.amount()));
    }
}

impl Drop for ReservedClaim {
    fn drop(&mut self) {
        self.report(|path, amount| Event::ClaimReleased { path, amount });
    }
}

/// Marks that a task waits for a claim, until it has it or gives up.
struct ClaimGuard<'a>(&'a FileBudget);

impl<'a> ClaimGuard<'a> {
    fn begin(budget: &'a FileBudget) -> Result<Self, PoolError> {
        let mut state = budget.0.state.lock();
        if state.claiming || state.reserved.is_some() {
            return Err(PoolError::AlreadyClaimed);
        }
        state.claiming = true;
        Ok(Self(budget))
    }
}

impl Drop for ClaimGuard<'_> {
    fn drop(&mut self) {
        self.0.0.state.lock().claiming = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    const TEN: Resources = Resources {
        memory_bytes: 10,
        cpus: 10,
    };

    /// A pool of ten bytes and ten vCPUs, and the budget of a file that draws on it.
    fn setup() -> (FileBudget, Pool) {
        let pool = Pool::new(TEN, Sink::discard());
        (FileBudget::new(pool.clone(), "a", Sink::discard()), pool)
    }

    fn left(pool: &Pool) -> (u64, u32) {
        let left = pool.available();
        (left.memory_bytes, left.cpus)
    }

    fn need(memory_bytes: u64, cpus: u32) -> Resources {
        Resources { memory_bytes, cpus }
    }

    fn both(memory: u64, cpus: u32) -> Claim {
        Claim {
            memory: Some(memory),
            cpus: Some(cpus),
        }
    }

    fn claim(budget: &FileBudget, claim: Claim) -> Result<(), PoolError> {
        let claimed = budget.claim(claim).now_or_never();
        claimed.expect("the pool has it")
    }

    fn boot(budget: &FileBudget, need: Resources) -> Result<Grant, PoolError> {
        let booted = budget.acquire(need).now_or_never();
        booted.expect("the pool has it")
    }

    #[test]
    fn boots_draw_on_the_claim_and_return_to_it() {
        let (budget, pool) = setup();
        claim(&budget, both(6, 3)).unwrap();
        assert_eq!(left(&pool), (4, 7));
        let vm = boot(&budget, need(4, 2)).unwrap();
        assert_eq!(left(&pool), (4, 7));
        let error = boot(&budget, need(4, 1)).unwrap_err();
        let over = PoolError::OverClaim {
            need: need(4, 1),
            left: need(2, 1),
        };
        assert_eq!(error, over);
        drop(vm);
        drop(boot(&budget, need(6, 3)).unwrap());
        assert_eq!(claim(&budget, both(1, 1)), Err(PoolError::AlreadyClaimed));
        drop(budget);
        assert_eq!(left(&pool), (10, 10));
    }

    #[test]
    fn running_vms_have_drawn_on_a_later_claim() {
        let (budget, pool) = setup();
        let early = boot(&budget, need(4, 1)).unwrap();
        claim(&budget, both(6, 2)).unwrap();
        assert_eq!(left(&pool), (4, 8), "the claim is all that the file holds");
        assert!(boot(&budget, need(3, 1)).is_err());
        let late = boot(&budget, need(2, 1)).unwrap();
        drop(early);
        assert_eq!(left(&pool), (4, 8), "a VM that ends returns to the claim");
        drop(boot(&budget, need(4, 1)).unwrap());
        drop((late, budget));
        assert_eq!(left(&pool), (10, 10));
    }

    #[test]
    fn a_claim_below_what_is_held_is_refused_and_takes_nothing() {
        let (budget, pool) = setup();
        let early = boot(&budget, need(4, 1)).unwrap();
        let error = claim(&budget, both(3, 2)).unwrap_err();
        let too_small = PoolError::ClaimTooSmall {
            held: need(4, 1),
            claim: need(3, 2),
        };
        assert_eq!(error, too_small);
        assert_eq!(left(&pool), (6, 9));
        claim(&budget, both(4, 1)).expect("a refused claim can be repeated");
        drop(early);
    }

    #[test]
    fn what_a_claim_does_not_name_comes_from_the_pool() {
        let (budget, pool) = setup();
        let memory = Claim {
            memory: Some(5),
            cpus: None,
        };
        claim(&budget, memory).unwrap();
        assert_eq!(left(&pool), (5, 10));
        let vm = boot(&budget, need(5, 4)).unwrap();
        assert_eq!(left(&pool), (5, 6));
        assert!(boot(&budget, need(1, 1)).is_err());
        drop(vm);
        assert_eq!(left(&pool), (5, 10));
        let other = pool.try_acquire("b", need(0, 8)).unwrap();
        let waiting = budget.acquire(need(1, 3)).now_or_never();
        assert!(waiting.is_none(), "it waits for the pool");
        drop(boot(&budget, need(5, 1)).expect("the dropped request has returned its part"));
        drop(other);
    }

    #[test]
    fn try_acquire_takes_all_or_nothing() {
        let (budget, pool) = setup();
        let tried = |memory, cpus| budget.try_acquire(need(memory, cpus));
        let direct = tried(4, 1).expect("the pool has it");
        assert!(tried(7, 1).is_none());
        let memory = Claim {
            memory: Some(6),
            cpus: None,
        };
        claim(&budget, memory).unwrap();
        assert!(tried(3, 1).is_none(), "the claim has 2 left");
        assert!(tried(2, 10).is_none(), "the pool has 9 left");
        let drawn = tried(2, 9).expect("refused attempts have returned all");
        assert!(tried(1, 0).is_none());
        drop((direct, drawn, budget));
        assert_eq!(left(&pool), (10, 10));
    }

    #[test]
    fn the_claim_of_a_build_is_taken_from_the_waiting_file_and_returned() {
        let (file, pool) = setup();
        let build = file.for_build();
        claim(&build, both(6, 3)).unwrap();
        assert_eq!(left(&pool), (4, 7));
        let vm = boot(&build, need(4, 2)).unwrap();
        assert!(boot(&build, need(4, 1)).is_err());
        assert_eq!(left(&pool), (4, 7), "a boot draws on the build's claim");
        drop((vm, build));
        assert_eq!(left(&pool), (10, 10));

        // The file may claim for itself, and a build draws on that.
        claim(&file, both(5, 5)).unwrap();
        let build = file.for_build();
        assert!(claim(&build, both(6, 3)).is_err());
        claim(&build, both(5, 3)).unwrap();
        assert!(boot(&file, need(1, 1)).is_err());
        drop(build);
        drop(boot(&file, need(5, 5)).unwrap());
    }

    #[test]
    fn a_claim_of_more_than_the_pool_has_is_refused_at_once() {
        let (budget, _pool) = setup();
        let _early = boot(&budget, need(8, 1)).unwrap();
        let error = claim(&budget, both(11, 1)).unwrap_err();
        let never = PoolError::NeverFits {
            need: need(11, 1),
            total: TEN,
        };
        assert_eq!(error, never);
    }

    #[test]
    fn a_waiting_claim_excludes_another_and_can_be_dropped() {
        let (budget, pool) = setup();
        let other = pool.try_acquire("b", need(8, 1)).unwrap();
        let mut waiting = Box::pin(budget.claim(both(6, 1)));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(claim(&budget, both(1, 1)), Err(PoolError::AlreadyClaimed));
        drop(waiting);
        drop(other);
        claim(&budget, both(6, 1)).unwrap();
    }

    #[test]
    fn a_boot_that_waited_while_the_claim_was_taken_draws_on_it() {
        let (budget, pool) = setup();
        let pooled = pool.try_acquire("a", need(4, 1)).unwrap();
        claim(&budget, both(5, 2)).unwrap();
        assert!(budget.hold(need(4, 1), pooled).is_none());
        assert_eq!(left(&pool), (5, 8), "its grant was returned");
    }

    #[test]
    fn a_claim_and_its_return_are_reported_but_not_those_of_a_build() {
        let (sink, events) = Sink::channel();
        let pool = Pool::new(TEN, Sink::discard());
        let budget = FileBudget::new(pool, "a", sink);
        claim(&budget.for_build(), both(1, 1)).unwrap();
        claim(&budget, both(5, 2)).unwrap();
        drop(budget);
        let (path, amount) = ("a".to_owned(), need(5, 2));
        let reported: Vec<Event> = events.try_iter().map(|stamped| stamped.event).collect();
        let acquired = Event::ClaimAcquired {
            path: path.clone(),
            amount,
        };
        assert_eq!(reported, [acquired, Event::ClaimReleased { path, amount }]);
    }
}
