//! A file's share of the host: what its boots take, from the file's claim or from the pool.
//!
//! Without a claim each boot takes from the pool that all files share, and waits while that is
//! empty. A claim sets an amount aside for the file: boots draw on it, fail at once when it is not
//! enough, and give back to it. VMs that run when the claim is taken have drawn on it already. What a
//! claim does not name, memory or vCPUs, boots go on taking from the pool.
//!
//! Does not share out the pool: that is the [`Budget`]'s business.

use crate::budget::{Budget, BudgetError, Grant, Need, StandingBy};
use crate::lock::lock;
use provium_events::{Amount, Event, Sink};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

/// What a file sets aside for itself. What is `None` stays the pool's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Claim {
    /// Bytes.
    pub memory: Option<u64>,
    /// vCPUs.
    pub cpus: Option<u32>,
}

/// Why no claim was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ClaimError {
    /// There is one, or one is on its way.
    Taken,
    /// It is not to be had.
    Budget(BudgetError),
}

impl Claim {
    pub(crate) fn amount(self) -> Need {
        Need {
            memory: self.memory.unwrap_or(0),
            cpus: self.cpus.unwrap_or(0),
        }
    }

    /// The part of `need` that the claim is about, and the rest.
    fn split(self, need: Need) -> (Need, Need) {
        let named = Need {
            memory: self.memory.map_or(0, |_| need.memory),
            cpus: self.cpus.map_or(0, |_| need.cpus),
        };
        (named, less(need, named))
    }
}

/// What one file has of the host.
#[derive(Clone, Default)]
pub(crate) struct Share(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Somebody waits for the pool to give what a claim needs.
    claiming: bool,
    taken: Option<Taken>,
    /// Grants of the pool's that belong to VMs, not to a claim.
    direct: BTreeMap<u64, Grant>,
    next: u64,
}

/// A claim that was taken. Told when it is, and when it is given back.
struct Taken {
    claim: Claim,
    /// Of what the claim names.
    left: Need,
    /// What it consists of; goes back to the pool with it.
    _grants: Vec<Grant>,
    told: Told,
}

/// Where a claim is told, and whose it is.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) sink: Sink,
    pub(crate) path: String,
}

impl Share {
    /// Sets `claim` aside, once; waits while the pool cannot give it.
    pub(crate) async fn claim(
        &self,
        budget: &dyn Budget,
        told: Told,
        claim: Claim,
    ) -> Result<(), ClaimError> {
        if let Some(total) = budget.total()
            && !claim.amount().fits(total)
        {
            let need = claim.amount();
            return Err(ClaimError::Budget(BudgetError::NeverFits { need, total }));
        }
        let _claiming = Claiming::begin(self)?;
        let mut grants = Vec::new();
        loop {
            // VMs may boot and end while the pool is waited for: what is missing is asked anew.
            let missing = {
                let mut state = lock(&self.0);
                let (held, _) = claim.split(state.held());
                if !held.fits(claim.amount()) {
                    let claim = claim.amount();
                    let error = BudgetError::ClaimTooSmall { held, claim };
                    return Err(ClaimError::Budget(error));
                }
                let left = less(claim.amount(), held);
                let missing = less(left, sum(&grants));
                if missing == Need::default() {
                    grants.extend(std::mem::take(&mut state.direct).into_values());
                    state.taken = Some(Taken::new(claim, left, grants, told));
                    return Ok(());
                }
                missing
            };
            let granted = budget.acquire(&told.path, missing).await;
            grants.push(granted.map_err(ClaimError::Budget)?);
        }
    }

    /// Takes what a boot needs.
    pub(crate) async fn acquire(
        &self,
        budget: &dyn Budget,
        path: &str,
        need: Need,
    ) -> Result<Grant, BudgetError> {
        loop {
            if let Some((drawn, rest)) = self.draw(need)? {
                if rest == Need::default() {
                    return Ok(drawn);
                }
                let pooled = budget.acquire(path, rest).await?;
                return Ok(Grant::new(need, move || drop((drawn, pooled))));
            }
            let pooled = budget.acquire(path, need).await?;
            if let Some(grant) = self.hold(need, pooled) {
                return Ok(grant);
            }
            // A claim was taken meanwhile: it is what boots draw on now.
        }
    }

    /// Takes what a boot needs, if it is there.
    pub(crate) fn try_acquire(&self, budget: &dyn Budget, path: &str, need: Need) -> Option<Grant> {
        match self.draw(need).ok()? {
            Some((drawn, rest)) if rest == Need::default() => Some(drawn),
            Some((drawn, rest)) => {
                let pooled = budget.try_acquire(path, rest)?;
                Some(Grant::new(need, move || drop((drawn, pooled))))
            }
            None => self.hold(need, budget.try_acquire(path, need)?),
        }
    }

    /// The claim's part of `need`, and what is left to be had of the pool; `None` without a claim.
    fn draw(&self, need: Need) -> Result<Option<(Grant, Need)>, BudgetError> {
        let mut state = lock(&self.0);
        let Some(taken) = state.taken.as_mut() else {
            return Ok(None);
        };
        let (named, rest) = taken.claim.split(need);
        if !named.fits(taken.left) {
            let left = taken.left;
            return Err(BudgetError::OverClaim { need: named, left });
        }
        taken.left = less(taken.left, named);
        let share = self.clone();
        let drawn = Grant::new(named, move || share.give_back(named));
        Ok(Some((drawn, rest)))
    }

    /// Notes that a VM has a grant of the pool's; `None`, and the grant goes back, with a claim.
    fn hold(&self, need: Need, pooled: Grant) -> Option<Grant> {
        let mut state = lock(&self.0);
        if state.taken.is_some() {
            drop(state);
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.direct.insert(number, pooled);
        let share = self.clone();
        Some(Grant::new(need, move || share.release(number, need)))
    }

    /// The VM of a grant of the pool's is gone.
    fn release(&self, number: u64, need: Need) {
        let pooled = lock(&self.0).direct.remove(&number);
        match pooled {
            // Dropped here, without the lock: it wakes who waits for it.
            Some(pooled) => drop(pooled),
            // It has become a part of the claim.
            None => self.give_back(need),
        }
    }

    fn give_back(&self, need: Need) {
        if let Some(taken) = lock(&self.0).taken.as_mut() {
            let (named, _) = taken.claim.split(need);
            taken.left.memory += named.memory;
            taken.left.cpus += named.cpus;
        }
    }
}

/// The pool, behind the shares of those that a fixture is built for: what the build takes, they take.
pub(crate) struct Within<'a> {
    pool: &'a dyn Budget,
    /// Outermost first.
    shares: &'a [Share],
}

impl<'a> Within<'a> {
    pub(crate) fn new(pool: &'a dyn Budget, shares: &'a [Share]) -> Self {
        Self { pool, shares }
    }

    /// The innermost share, and what that one draws on.
    fn innermost(&self) -> Option<(&'a Share, Self)> {
        let (share, outer) = self.shares.split_last()?;
        Some((share, Self::new(self.pool, outer)))
    }
}

impl Budget for Within<'_> {
    fn room(&self) -> u64 {
        self.pool.room()
    }

    fn acquire<'a>(
        &'a self,
        file: &'a str,
        need: Need,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>> {
        Box::pin(async move {
            match self.innermost() {
                Some((share, outer)) => share.acquire(&outer, file, need).await,
                None => self.pool.acquire(file, need).await,
            }
        })
    }

    fn try_acquire(&self, file: &str, need: Need) -> Option<Grant> {
        match self.innermost() {
            Some((share, outer)) => share.try_acquire(&outer, file, need),
            None => self.pool.try_acquire(file, need),
        }
    }

    fn total(&self) -> Option<Need> {
        self.pool.total()
    }

    fn waits_for_others(&self, file: &str, need: Need) -> bool {
        self.pool.waits_for_others(file, need)
    }

    fn stand_by(&self, file: &str) -> StandingBy {
        self.pool.stand_by(file)
    }
}

impl State {
    fn held(&self) -> Need {
        sum(self.direct.values())
    }
}

impl Taken {
    fn new(claim: Claim, left: Need, grants: Vec<Grant>, told: Told) -> Self {
        let taken = Self {
            claim,
            left,
            _grants: grants,
            told,
        };
        taken.tell(|path, amount| Event::ClaimAcquired { path, amount });
        taken
    }

    fn tell(&self, event: impl FnOnce(String, Amount) -> Event) {
        let Need { memory, cpus } = self.claim.amount();
        let amount = Amount {
            memory_bytes: memory,
            cpus,
        };
        let Told { sink, path } = &self.told;
        sink.emit(event(path.clone(), amount));
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.tell(|path, amount| Event::ClaimReleased { path, amount });
    }
}

/// Marks that a claim is on its way, until it is there or given up.
struct Claiming(Share);

impl Claiming {
    fn begin(share: &Share) -> Result<Self, ClaimError> {
        let mut state = lock(&share.0);
        if state.claiming || state.taken.is_some() {
            return Err(ClaimError::Taken);
        }
        state.claiming = true;
        Ok(Self(share.clone()))
    }
}

impl Drop for Claiming {
    fn drop(&mut self) {
        lock(&self.0.0).claiming = false;
    }
}

fn sum<'a>(grants: impl IntoIterator<Item = &'a Grant>) -> Need {
    let needs = grants.into_iter().map(Grant::need);
    needs.fold(Need::default(), |sum, need| Need {
        memory: sum.memory + need.memory,
        cpus: sum.cpus + need.cpus,
    })
}

/// What `from` has on top of `need`.
fn less(from: Need, need: Need) -> Need {
    Need {
        memory: from.memory.saturating_sub(need.memory),
        cpus: from.cpus.saturating_sub(need.cpus),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    /// A pool of ten vCPUs and ten bytes that refuses what it does not have.
    #[derive(Clone)]
    struct Pool(Arc<Mutex<Need>>);

    impl Pool {
        fn new() -> Self {
            Self(Arc::new(Mutex::new(TEN)))
        }

        fn left(&self) -> (u64, u32) {
            let left = lock(&self.0);
            (left.memory, left.cpus)
        }
    }

    const TEN: Need = Need {
        memory: 10,
        cpus: 10,
    };

    impl Budget for Pool {
        fn acquire<'a>(
            &'a self,
            _file: &'a str,
            need: Need,
        ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>> {
            let mut left = lock(&self.0);
            if !need.fits(*left) {
                return Box::pin(std::future::pending());
            }
            *left = less(*left, need);
            let pool = Arc::clone(&self.0);
            let grant = Grant::new(need, move || {
                let mut left = lock(&pool);
                left.memory += need.memory;
                left.cpus += need.cpus;
            });
            Box::pin(async move { Ok(grant) })
        }

        fn try_acquire(&self, file: &str, need: Need) -> Option<Grant> {
            self.acquire(file, need).now_or_never()?.ok()
        }

        fn total(&self) -> Option<Need> {
            Some(TEN)
        }
    }

    fn need(memory: u64, cpus: u32) -> Need {
        Need { memory, cpus }
    }

    fn both(memory: u64, cpus: u32) -> Claim {
        Claim {
            memory: Some(memory),
            cpus: Some(cpus),
        }
    }

    fn told() -> Told {
        Told {
            sink: Sink::discard(),
            path: "a".to_owned(),
        }
    }

    fn claim(share: &Share, pool: &Pool, claim: Claim) -> Result<(), ClaimError> {
        let claimed = share.claim(pool, told(), claim).now_or_never();
        claimed.expect("the pool has it")
    }

    fn boot(share: &Share, pool: &Pool, need: Need) -> Result<Grant, BudgetError> {
        let booted = share.acquire(pool, "a", need).now_or_never();
        booted.expect("the pool has it")
    }

    #[test]
    fn boots_draw_on_the_claim_and_give_back_to_it() {
        let (share, pool) = (Share::default(), Pool::new());
        claim(&share, &pool, both(6, 3)).unwrap();
        assert_eq!(pool.left(), (4, 7));
        let vm = boot(&share, &pool, need(4, 2)).unwrap();
        assert_eq!(pool.left(), (4, 7));
        let error = boot(&share, &pool, need(4, 1)).unwrap_err();
        let (asked, left) = (need(4, 1), need(2, 1));
        assert_eq!(error, BudgetError::OverClaim { need: asked, left });
        drop(vm);
        drop(boot(&share, &pool, need(6, 3)).unwrap());
        assert_eq!(claim(&share, &pool, both(1, 1)), Err(ClaimError::Taken));
        drop(share);
        assert_eq!(pool.left(), (10, 10));
    }

    #[test]
    fn vms_that_run_already_have_drawn_on_it() {
        let (share, pool) = (Share::default(), Pool::new());
        let early = boot(&share, &pool, need(4, 1)).unwrap();
        claim(&share, &pool, both(6, 2)).unwrap();
        assert_eq!(pool.left(), (4, 8), "the claim is all that the file holds");
        assert!(boot(&share, &pool, need(3, 1)).is_err());
        let late = boot(&share, &pool, need(2, 1)).unwrap();
        drop(early);
        assert_eq!(pool.left(), (4, 8), "what ends comes back to the claim");
        drop(boot(&share, &pool, need(4, 1)).unwrap());
        drop((late, share));
        assert_eq!(pool.left(), (10, 10));
    }

    #[test]
    fn a_claim_below_what_is_held_is_refused_and_takes_nothing() {
        let (share, pool) = (Share::default(), Pool::new());
        let early = boot(&share, &pool, need(4, 1)).unwrap();
        let error = claim(&share, &pool, both(3, 2)).unwrap_err();
        let (held, asked) = (need(4, 1), need(3, 2));
        let too_small = BudgetError::ClaimTooSmall { held, claim: asked };
        assert_eq!(error, ClaimError::Budget(too_small));
        assert_eq!(pool.left(), (6, 9));
        claim(&share, &pool, both(4, 1)).expect("a refused claim is no claim");
        drop(early);
    }

    #[test]
    fn what_a_claim_does_not_name_is_the_pools() {
        let (share, pool) = (Share::default(), Pool::new());
        let memory = Claim {
            memory: Some(5),
            cpus: None,
        };
        claim(&share, &pool, memory).unwrap();
        assert_eq!(pool.left(), (5, 10));
        let vm = boot(&share, &pool, need(5, 4)).unwrap();
        assert_eq!(pool.left(), (5, 6));
        assert!(boot(&share, &pool, need(1, 1)).is_err());
        drop(vm);
        assert_eq!(pool.left(), (5, 10));
        let waiting = share.acquire(&pool, "a", need(1, 11)).now_or_never();
        assert!(waiting.is_none(), "the pool is waited for");
        drop(boot(&share, &pool, need(5, 1)).expect("who gave up waiting has given back"));
    }

    #[test]
    fn what_is_only_tried_takes_all_it_needs_or_nothing() {
        let (share, pool) = (Share::default(), Pool::new());
        let tried = |memory, cpus| share.try_acquire(&pool, "a", need(memory, cpus));
        let direct = tried(4, 1).expect("the pool has it");
        assert!(tried(7, 1).is_none());
        let memory = Claim {
            memory: Some(6),
            cpus: None,
        };
        claim(&share, &pool, memory).unwrap();
        assert!(tried(3, 1).is_none(), "the claim has 2 left");
        assert!(tried(2, 10).is_none(), "the pool has 9 left");
        let drawn = tried(2, 9).expect("what was tried in vain has come back");
        assert!(tried(1, 0).is_none());
        drop((direct, drawn, share));
        assert_eq!(pool.left(), (10, 10));
    }

    #[test]
    fn what_a_build_claims_is_taken_from_who_wants_it_and_comes_back() {
        let (file, pool) = (Share::default(), Pool::new());
        let shares = [file.clone()];
        let within = Within::new(&pool, &shares);
        let build = Share::default();
        let claimed = build.claim(&within, told(), both(6, 3)).now_or_never();
        claimed.unwrap().unwrap();
        assert_eq!(pool.left(), (4, 7));
        let vm = build.acquire(&within, "a", need(4, 2)).now_or_never();
        let over = build.acquire(&within, "a", need(4, 1)).now_or_never();
        assert!(over.unwrap().is_err());
        assert_eq!(pool.left(), (4, 7), "a boot draws on the build's claim");
        drop((vm, build));
        assert_eq!(pool.left(), (10, 10));

        // The file may claim for itself, and a build within draws on that.
        claim(&file, &pool, both(5, 5)).unwrap();
        let build = Share::default();
        let claimed = build.claim(&within, told(), both(6, 3)).now_or_never();
        assert!(matches!(claimed, Some(Err(ClaimError::Budget(_)))));
        let claimed = build.claim(&within, told(), both(5, 3)).now_or_never();
        claimed.unwrap().unwrap();
        assert!(boot(&file, &pool, need(1, 1)).is_err());
        drop(build);
        drop(boot(&file, &pool, need(5, 5)).unwrap());
    }

    #[test]
    fn more_than_there_ever_is_is_refused_at_once() {
        let (share, pool) = (Share::default(), Pool::new());
        let _early = boot(&share, &pool, need(8, 1)).unwrap();
        let error = claim(&share, &pool, both(11, 1)).unwrap_err();
        let (asked, total) = (need(11, 1), TEN);
        let never = BudgetError::NeverFits { need: asked, total };
        assert_eq!(error, ClaimError::Budget(never));
    }

    #[test]
    fn a_claim_that_waits_is_not_doubled_and_can_be_given_up() {
        let (share, pool) = (Share::default(), Pool::new());
        let other = pool.acquire("b", need(8, 1)).now_or_never().unwrap();
        let mut waiting = Box::pin(share.claim(&pool, told(), both(6, 1)));
        assert!((&mut waiting).now_or_never().is_none());
        assert_eq!(claim(&share, &pool, both(1, 1)), Err(ClaimError::Taken));
        drop(waiting);
        drop(other);
        claim(&share, &pool, both(6, 1)).unwrap();
    }

    #[test]
    fn a_boot_that_waited_while_the_claim_came_draws_on_it() {
        let (share, pool) = (Share::default(), Pool::new());
        let pooled = pool.acquire("a", need(4, 1)).now_or_never().unwrap();
        claim(&share, &pool, both(5, 2)).unwrap();
        assert!(share.hold(need(4, 1), pooled.unwrap()).is_none());
        assert_eq!(pool.left(), (5, 8), "its grant went back");
    }
}
