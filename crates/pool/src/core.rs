//! Which request is granted next: requests and returns go in, grants come out.
//!
//! It has no threads and no time, so it is tested as a pure function. The rules are in the crate's text.

use crate::activity::Activity;
use crate::error::PoolError;
use provium_events::Resources;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How often a request may be overtaken before others have to wait for it.
pub(crate) const OVERTAKEN_LIMIT: u32 = 8;

/// Identifies a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The state of the pool.
#[derive(Debug)]
pub(crate) struct PoolCore {
    total: Resources,
    files: BTreeMap<String, Account>,
    /// Files that were given up: they hold nothing and get nothing.
    revoked: BTreeSet<String>,
    queue: VecDeque<WaitingRequest>,
    next: u64,
}

/// What the pool knows of a file.
#[derive(Debug, Clone, Default)]
struct Account {
    held: Resources,
    /// The most it has held at a time.
    peak: Resources,
    reserved: Resources,
    running: bool,
    /// How many of its tasks wait for another file.
    blocked: u32,
    /// Its turns that do not wait.
    activity: Activity,
}

/// All files that hold something wait for each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Deadlock {
    /// The youngest of their requests.
    pub(crate) ticket: Ticket,
    /// What it asks for.
    pub(crate) need: Resources,
    /// The files, and what each holds.
    pub(crate) holders: Vec<(String, Resources)>,
    /// How often parts of them have begun or continued: as long as this is the same, none of them has done anything.
    pub(crate) begun: u64,
}

#[derive(Debug)]
struct WaitingRequest {
    ticket: Ticket,
    file: String,
    need: Resources,
    overtaken: u32,
}

impl PoolCore {
    pub(crate) fn new(total: Resources) -> Self {
        Self {
            total,
            files: BTreeMap::new(),
            revoked: BTreeSet::new(),
            queue: VecDeque::new(),
            next: 0,
        }
    }

    pub(crate) fn total(&self) -> Resources {
        self.total
    }

    /// The sum of what files hold.
    pub(crate) fn used(&self) -> Resources {
        self.files.values().map(|account| account.held).sum()
    }

    /// What is left.
    pub(crate) fn available(&self) -> Resources {
        self.total - self.used()
    }

    /// Whether a further file may start: its reservation fits beside those of the running files, and no
    /// request has been overtaken too often. One file may always run.
    pub(crate) fn admits(&self, reservation: Resources) -> bool {
        if self.files.is_empty() {
            return true;
        }
        let others = self.files.values();
        let others: Resources = others.map(|a| a.held.max(a.reserved)).sum();
        (others + reservation).fits(self.total) && !self.queue.iter().any(WaitingRequest::starves)
    }

    /// A file starts.
    pub(crate) fn begin(&mut self, file: &str, reservation: Resources, activity: Activity) {
        let account = self.files.entry(file.to_owned()).or_default();
        account.activity = activity;
        account.reserved = reservation;
        account.running = true;
    }

    /// A file has ended. What it still holds is returned by [`PoolCore::release`].
    pub(crate) fn end(&mut self, file: &str) {
        if let Some(account) = self.files.get_mut(file) {
            account.reserved = Resources::default();
            account.running = false;
        }
        self.forget(file);
    }

    /// A file is given up: takes back what it holds, and withdraws its requests, whose tickets are
    /// returned. Later requests of it are refused, and later returns are ignored.
    pub(crate) fn revoke(&mut self, file: &str) -> Vec<Ticket> {
        self.files.remove(file);
        self.revoked.insert(file.to_owned());
        let tickets = self.queue.iter().filter(|waiting| waiting.file == file);
        let tickets = tickets.map(|waiting| waiting.ticket).collect();
        self.queue.retain(|waiting| waiting.file != file);
        tickets
    }

    /// Whether a waiting request of `file` could be granted if other files returned what they hold.
    pub(crate) fn waits_for_others(&self, file: &str, need: Resources) -> bool {
        (self.held(file) + need).fits(self.total)
    }

    /// What a file holds.
    pub(crate) fn held(&self, file: &str) -> Resources {
        self.files
            .get(file)
            .map(|account| account.held)
            .unwrap_or_default()
    }

    /// The most that a running file has held at a time.
    pub(crate) fn peak(&self, file: &str) -> Resources {
        self.files
            .get(file)
            .map(|account| account.peak)
            .unwrap_or_default()
    }

    /// A task of the file begins to wait for another file.
    pub(crate) fn block(&mut self, file: &str) {
        self.files.entry(file.to_owned()).or_default().blocked += 1;
    }

    /// A task of the file no longer waits for another file.
    pub(crate) fn unblock(&mut self, file: &str) {
        if let Some(account) = self.files.get_mut(file) {
            account.blocked = account.blocked.saturating_sub(1);
        }
        self.forget(file);
    }

    /// Queues a request for `need`.
    ///
    /// # Errors
    /// When it is more than the pool has in all, or the file was given up.
    pub(crate) fn request(&mut self, file: &str, need: Resources) -> Result<Ticket, PoolError> {
        if self.revoked.contains(file) {
            return Err(PoolError::Closed);
        }
        if !need.fits(self.total) {
            let total = self.total;
            return Err(PoolError::NeverFits { need, total });
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back(WaitingRequest {
            ticket,
            file: file.to_owned(),
            need,
            overtaken: 0,
        });
        Ok(ticket)
    }

    /// Takes `need` if it is available and no request waits. Returns whether it did.
    pub(crate) fn take_now(&mut self, file: &str, need: Resources) -> bool {
        let taken =
            self.queue.is_empty() && need.fits(self.available()) && !self.revoked.contains(file);
        if taken {
            self.files.entry(file.to_owned()).or_default().take(need);
        }
        taken
    }

    /// Grants all requests that can be granted now.
    pub(crate) fn grant(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let mut passed_over = Vec::new();
        let mut starving = false;
        let mut index = 0;
        while let Some(waiting) = self.queue.get(index) {
            let holds = self
                .files
                .get(&waiting.file)
                .is_some_and(|a| !a.held.is_zero());
            // A file that holds something has to continue, or it would never return it.
            let may_pass = !starving || holds;
            if may_pass && waiting.need.fits(self.available()) {
                let account = self.files.entry(waiting.file.clone()).or_default();
                account.take(waiting.need);
                granted.push(waiting.ticket);
                self.queue.remove(index);
                for earlier in &passed_over {
                    if let Some(earlier) = self.queue.get_mut(*earlier) {
                        earlier.overtaken = earlier.overtaken.saturating_add(1);
                    }
                }
            } else {
                starving |= waiting.starves();
                passed_over.push(index);
                index += 1;
            }
        }
        while let Some(ticket) = self.overcommit_cpus() {
            granted.push(ticket);
        }
        granted
    }

    /// Grants the oldest request that lacks only vCPUs, and that no other file can help: those of a file
    /// that by itself wants more than there are, and all when every file that holds something waits. vCPUs
    /// can be shared, memory cannot. So a file may have more VMs than the host has processors.
    fn overcommit_cpus(&mut self) -> Option<Ticket> {
        // Also of a file that does something else meanwhile, which may never end, as a server does not.
        let all_wait = self.find_deadlock(|_| true).is_some();
        let memory = self.available().memory_bytes;
        let held = |file: &str| self.files.get(file).map(|account| account.held);
        let index = self.queue.iter().position(|waiting| {
            let held = held(&waiting.file).unwrap_or_default();
            let exceeds_all = held.cpus.saturating_add(waiting.need.cpus) > self.total.cpus;
            !held.is_zero() && waiting.need.memory_bytes <= memory && (all_wait || exceeds_all)
        })?;
        let waiting = self.queue.remove(index)?;
        let account = self.files.entry(waiting.file).or_default();
        account.take(waiting.need);
        Some(waiting.ticket)
    }

    /// Returns what was granted.
    pub(crate) fn release(&mut self, file: &str, need: Resources) {
        if let Some(account) = self.files.get_mut(file) {
            account.held = account.held - need;
        }
        self.forget(file);
    }

    /// Withdraws a request. Returns whether it was still waiting.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let before = self.queue.len();
        self.queue.retain(|waiting| waiting.ticket != ticket);
        before != self.queue.len()
    }

    /// The deadlock in which all files that hold something wait for each other, and none of them can
    /// return anything. A file of which a part does something else may still return what that part uses.
    pub(crate) fn deadlock(&self) -> Option<Deadlock> {
        self.find_deadlock(Activity::is_idle)
    }

    /// The deadlock in which all files that hold something wait, for more or for another file. A file that
    /// waits counts if `counts` says so of its activity.
    fn find_deadlock(&self, counts: impl Fn(&Activity) -> bool) -> Option<Deadlock> {
        let holders = || {
            self.files
                .iter()
                .filter(|(_, account)| !account.held.is_zero())
        };
        let requests = |file: &str| self.queue.iter().any(|waiting| waiting.file == file);
        let waits = |(file, account): (&String, &Account)| {
            (account.blocked > 0 || requests(file)) && counts(&account.activity)
        };
        if self.queue.is_empty() || !holders().all(waits) {
            return None;
        }
        let holds = |file: &str| holders().any(|(holder, _)| holder == file);
        let youngest = self
            .queue
            .iter()
            .rev()
            .find(|waiting| holds(&waiting.file))?;
        Some(Deadlock {
            ticket: youngest.ticket,
            need: youngest.need,
            holders: holders()
                .map(|(file, account)| (file.clone(), account.held))
                .collect(),
            begun: holders()
                .map(|(_, account)| account.activity.begun())
                .fold(0, u64::wrapping_add),
        })
    }

    /// Drops the account of a file that neither runs nor holds anything.
    fn forget(&mut self, file: &str) {
        let idle = |a: &Account| a.held.is_zero() && !a.running && a.blocked == 0;
        if self.files.get(file).is_some_and(idle) {
            self.files.remove(file);
        }
    }
}

impl Account {
    fn take(&mut self, need: Resources) {
        self.held = self.held + need;
        self.peak = self.peak.max(self.held);
    }
}

impl WaitingRequest {
    fn starves(&self) -> bool {
        self.overtaken >= OVERTAKEN_LIMIT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::activity::Turn;
    use proptest::prelude::*;

    fn cpus(cpus: u32) -> Resources {
        Resources {
            memory_bytes: u64::from(cpus) << 20,
            cpus,
        }
    }

    fn pool(total: u32) -> PoolCore {
        PoolCore::new(cpus(total))
    }

    #[test]
    fn a_request_that_never_fits_is_refused_and_others_wait() {
        let mut pool = pool(4);
        let never = PoolError::NeverFits {
            need: cpus(5),
            total: cpus(4),
        };
        assert_eq!(pool.request("a", cpus(5)), Err(never));
        let first = pool.request("a", cpus(3)).unwrap();
        let second = pool.request("b", cpus(3)).unwrap();
        assert_eq!(pool.grant(), [first]);
        assert_eq!(pool.available(), cpus(1));
        pool.release("a", cpus(3));
        assert_eq!(pool.grant(), [second]);
    }

    #[test]
    fn small_requests_overtake_a_large_one_but_do_not_starve_it() {
        let mut pool = pool(4);
        pool.begin("large", cpus(1), Activity::default());
        let mut held = pool.request("s", cpus(2)).unwrap();
        assert_eq!(pool.grant(), [held]);
        let large = pool.request("large", cpus(4)).unwrap();
        for _ in 0..OVERTAKEN_LIMIT {
            // Another small one comes each time before the last one goes: the large never fits.
            let next = pool.request("t", cpus(2)).unwrap();
            assert_eq!(pool.grant(), [next]);
            pool.release("t", cpus(2));
            assert!(pool.grant().is_empty());
            held = next;
        }
        assert!(
            !pool.admits(cpus(1)),
            "no further file while a request starves"
        );
        let late = pool.request("t", cpus(1)).unwrap();
        assert!(
            pool.grant().is_empty(),
            "a file without grants does not pass"
        );
        let inside = pool.request("s", cpus(1)).unwrap();
        assert_eq!(pool.grant(), [inside], "a file with grants does");
        pool.release("s", cpus(3));
        assert_eq!(pool.grant(), [large]);
        pool.release("large", cpus(4));
        assert_eq!(pool.grant(), [late]);
        assert!(held < late);
    }

    #[test]
    fn take_now_fails_while_a_request_waits() {
        let mut pool = pool(4);
        assert!(pool.take_now("a", cpus(3)));
        assert!(!pool.take_now("a", cpus(2)));
        let waits = pool.request("b", cpus(2)).unwrap();
        assert!(pool.grant().is_empty());
        assert!(!pool.take_now("a", cpus(1)), "b comes first");
        pool.release("a", cpus(3));
        assert_eq!(pool.grant(), [waits]);
        assert!(pool.take_now("a", cpus(2)));
        assert_eq!(pool.available(), cpus(0));
    }

    #[test]
    fn a_running_file_counts_with_its_reservation() {
        let mut pool = pool(2);
        assert!(pool.admits(cpus(9)), "one file may always run");
        pool.begin("a", cpus(1), Activity::default());
        assert!(pool.admits(cpus(1)));
        pool.begin("b", cpus(1), Activity::default());
        assert!(!pool.admits(cpus(1)));
        // A reservation does not keep a running file from booting something larger.
        let both = pool.request("a", cpus(2)).unwrap();
        assert_eq!(pool.grant(), [both]);
        pool.end("b");
        assert!(!pool.admits(cpus(1)));
        pool.end("a");
        pool.release("a", cpus(2));
        assert!(pool.admits(cpus(2)));
    }

    #[test]
    fn the_peak_of_a_file_is_known_until_it_ends() {
        let mut pool = pool(4);
        pool.begin("a", Resources::default(), Activity::default());
        for (takes, most) in [(1, 1), (2, 3), (1, 3)] {
            pool.request("a", cpus(takes)).unwrap();
            assert_eq!(pool.grant().len(), 1);
            assert_eq!(pool.peak("a"), cpus(most));
            if most == 3 {
                pool.release("a", cpus(takes));
            }
        }
        pool.release("a", cpus(1));
        assert_eq!(pool.peak("a"), cpus(3));
        pool.end("a");
        assert_eq!(pool.peak("a"), Resources::default());
    }

    #[test]
    fn a_wait_cycle_is_seen_and_names_the_youngest() {
        let mut pool = pool(4);
        for file in ["a", "b"] {
            pool.begin(file, cpus(1), Activity::default());
            pool.request(file, cpus(2)).unwrap();
        }
        assert_eq!(pool.grant().len(), 2);
        pool.request("a", cpus(1)).unwrap();
        assert!(pool.grant().is_empty());
        assert!(pool.deadlock().is_none(), "b still runs");
        let youngest = pool.request("b", cpus(2)).unwrap();
        assert!(pool.grant().is_empty());
        let deadlock = pool.deadlock().unwrap();
        assert_eq!((deadlock.ticket, deadlock.need), (youngest, cpus(2)));
        let holders = ["a", "b"].map(|file| (file.to_owned(), cpus(2)));
        assert_eq!(deadlock.holders, holders);
        assert!(pool.withdraw(youngest));
        assert!(pool.deadlock().is_none());
    }

    #[test]
    fn a_file_with_another_active_task_is_not_deadlocked() {
        let mut pool = pool(2);
        let activity = Activity::default();
        pool.begin("a", cpus(1), activity.clone());
        pool.request("a", cpus(1)).unwrap();
        assert_eq!(pool.grant().len(), 1);
        let turn = Turn::begin(&activity);
        // It lacks memory, which is not overcommitted.
        let waits = pool.request("a", cpus(2)).unwrap();
        assert!(pool.grant().is_empty());
        assert!(
            pool.deadlock().is_none(),
            "its other task can return something"
        );
        assert!(!pool.waits_for_others("a", cpus(2)));
        assert!(pool.waits_for_others("a", cpus(1)));
        drop(turn);
        assert_eq!(pool.deadlock().unwrap().ticket, waits);
        // Nor is one of which a task waits for another file's fixture.
        pool.block("a");
        assert!(pool.deadlock().is_some());
        let turn = Turn::begin(&activity);
        assert!(pool.deadlock().is_none());
        drop(turn);
        pool.unblock("a");
        pool.release("a", cpus(1));
        assert_eq!(pool.grant(), [waits]);
    }

    #[test]
    fn grants_of_a_revoked_file_are_returned_once() {
        let mut pool = pool(2);
        pool.begin("stuck", cpus(2), Activity::default());
        pool.request("stuck", cpus(2)).unwrap();
        assert_eq!(pool.grant().len(), 1);
        let more = pool.request("stuck", cpus(1)).unwrap();
        let other = pool.request("other", cpus(2)).unwrap();
        assert!(pool.grant().is_empty());
        assert_eq!(pool.revoke("stuck"), [more]);
        assert_eq!(pool.grant(), [other]);
        // Its machines end only now.
        pool.release("stuck", cpus(2));
        pool.end("stuck");
        assert_eq!(pool.used(), cpus(2));
        assert_eq!(pool.request("stuck", cpus(1)), Err(PoolError::Closed));
        assert!(!pool.take_now("stuck", cpus(0)));
        pool.release("other", cpus(2));
        assert_eq!(pool.used(), Resources::default());
        assert!(pool.admits(cpus(2)));
    }

    #[test]
    fn cpus_are_overcommitted_when_all_holders_wait() {
        let small = Resources {
            memory_bytes: 1,
            cpus: 1,
        };
        let mut pool = PoolCore::new(Resources {
            memory_bytes: 3,
            cpus: 1,
        });
        pool.request("a", small).unwrap();
        assert_eq!(pool.grant().len(), 1);
        let waits = pool.request("b", small).unwrap();
        assert!(pool.grant().is_empty(), "a can still end");
        let lent = pool.request("a", small).unwrap();
        assert_eq!(pool.grant(), [lent]);
        pool.release(
            "a",
            Resources {
                memory_bytes: 2,
                cpus: 2,
            },
        );
        assert_eq!(pool.grant(), [waits]);
    }

    #[test]
    fn a_file_that_wants_more_cpus_than_there_are_does_not_wait_for_others() {
        let small = Resources {
            memory_bytes: 1,
            cpus: 1,
        };
        let mut pool = PoolCore::new(Resources {
            memory_bytes: 5,
            cpus: 2,
        });
        pool.request("works", small).unwrap();
        pool.request("many", small).unwrap();
        assert_eq!(pool.grant().len(), 2);
        let second = pool.request("many", small).unwrap();
        assert!(
            pool.grant().is_empty(),
            "the other file has what it waits for"
        );
        pool.release("works", small);
        assert_eq!(pool.grant(), [second]);
        let third = pool.request("many", small).unwrap();
        let other = pool.request("works", small).unwrap();
        assert_eq!(pool.grant(), [third], "the other file could not help it");
        let fourth = pool.request("many", small).unwrap();
        assert_eq!(pool.grant(), [fourth]);
        let too_large = Resources {
            memory_bytes: 2,
            cpus: 1,
        };
        pool.request("many", too_large).unwrap();
        assert!(pool.grant().is_empty(), "memory is not overcommitted");
        let three = Resources {
            memory_bytes: 3,
            cpus: 3,
        };
        pool.release("many", three);
        assert!(pool.grant().contains(&other));
    }

    #[test]
    fn a_blocked_file_returns_nothing() {
        let small = Resources {
            memory_bytes: 1,
            cpus: 1,
        };
        let mut pool = PoolCore::new(Resources {
            memory_bytes: 4,
            cpus: 2,
        });
        pool.request("blocked", small).unwrap();
        pool.request("works", small).unwrap();
        assert_eq!(pool.grant().len(), 2);
        let more = pool.request("works", small).unwrap();
        assert!(pool.grant().is_empty(), "the other file can still end");
        assert!(pool.deadlock().is_none());
        pool.block("blocked");
        assert_eq!(pool.grant(), [more], "vCPUs are overcommitted");
        pool.unblock("blocked");
        pool.request("works", small).unwrap();
        assert!(pool.deadlock().is_none());
    }

    proptest! {
        #[test]
        fn never_grants_more_than_the_total_and_serves_all(
            needs in prop::collection::vec((0_u8..5, 1_u32..6, any::<bool>()), 1..60),
        ) {
            let mut pool = pool(5);
            let mut held: Vec<(String, Resources)> = Vec::new();
            let mut waiting: BTreeMap<Ticket, (String, Resources)> = BTreeMap::new();
            let collect = |pool: &mut PoolCore,
                               waiting: &mut BTreeMap<Ticket, (String, Resources)>,
                               held: &mut Vec<(String, Resources)>| {
                for ticket in pool.grant() {
                    held.push(waiting.remove(&ticket).unwrap());
                }
                assert!(pool.used().fits(pool.total()));
            };
            for (file, need, give_back) in needs {
                let (file, need) = (format!("f{file}"), cpus(need));
                let ticket = pool.request(&file, need).unwrap();
                waiting.insert(ticket, (file, need));
                collect(&mut pool, &mut waiting, &mut held);
                if give_back && !held.is_empty() {
                    let (file, need) = held.remove(0);
                    pool.release(&file, need);
                    collect(&mut pool, &mut waiting, &mut held);
                }
            }
            while !held.is_empty() {
                let (file, need) = held.remove(0);
                pool.release(&file, need);
                collect(&mut pool, &mut waiting, &mut held);
            }
            prop_assert!(waiting.is_empty(), "still waiting: {waiting:?}");
            prop_assert_eq!(pool.used(), Resources::default());
        }
    }
}
