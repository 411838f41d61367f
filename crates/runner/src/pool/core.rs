//! Who gets what. Requests in, grants out; no threads, no time.

use provium_events::Amount;
use provium_lab::Activity;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How often a request may be overtaken before others have to wait for it.
const OVERTAKEN_LIMIT: u32 = 8;

/// Names a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket(u64);

/// The state of the pool.
#[derive(Debug)]
pub(crate) struct PoolCore {
    total: Amount,
    files: BTreeMap<String, Account>,
    /// Files that were given up: what they held is others', and they get no more.
    revoked: BTreeSet<String>,
    queue: VecDeque<Waiting>,
    next: u64,
}

/// What a file has of the pool.
#[derive(Debug, Clone, Default)]
struct Account {
    held: Amount,
    /// The most it held at a time.
    peak: Amount,
    reserved: Amount,
    running: bool,
    /// How many of its tasks wait for what another file does.
    standing_by: u32,
    /// Its calls that do not wait for the pool.
    activity: Activity,
}

#[derive(Debug)]
struct Waiting {
    ticket: Ticket,
    file: String,
    need: Amount,
    overtaken: u32,
}

impl PoolCore {
    pub(crate) fn new(total: Amount) -> Self {
        Self {
            total,
            files: BTreeMap::new(),
            revoked: BTreeSet::new(),
            queue: VecDeque::new(),
            next: 0,
        }
    }

    pub(crate) fn total(&self) -> Amount {
        self.total
    }

    /// What is taken.
    pub(crate) fn used(&self) -> Amount {
        self.files
            .values()
            .fold(Amount::default(), |sum, account| plus(sum, account.held))
    }

    /// What is left.
    pub(crate) fn available(&self) -> Amount {
        minus(self.total, self.used())
    }

    /// Whether a further file may start: it fits beside those that run, and nobody starves. One
    /// file may always run.
    pub(crate) fn admits(&self, reservation: Amount) -> bool {
        if self.files.is_empty() {
            return true;
        }
        let charged = self.files.values().fold(reservation, |sum, account| {
            plus(sum, larger(account.held, account.reserved))
        });
        fits(charged, self.total) && !self.queue.iter().any(Waiting::starves)
    }

    /// A file starts.
    pub(crate) fn begin(&mut self, file: &str, reservation: Amount, activity: Activity) {
        let account = self.files.entry(file.to_owned()).or_default();
        account.activity = activity;
        account.reserved = reservation;
        account.running = true;
    }

    /// A file is over. What it still holds comes back by [`PoolCore::release`].
    pub(crate) fn end(&mut self, file: &str) {
        if let Some(account) = self.files.get_mut(file) {
            account.reserved = Amount::default();
            account.running = false;
        }
        self.forget(file);
    }

    /// A file is given up: takes back what it holds, and its requests; the tickets of those. It gets
    /// nothing any more, and what it gives back later counts no more.
    pub(crate) fn revoke(&mut self, file: &str) -> Vec<Ticket> {
        self.files.remove(file);
        self.revoked.insert(file.to_owned());
        let tickets = self.queue.iter().filter(|waiting| waiting.file == file);
        let tickets = tickets.map(|waiting| waiting.ticket).collect();
        self.queue.retain(|waiting| waiting.file != file);
        tickets
    }

    /// Whether a request of `file` that waits could be granted if others gave back what they hold.
    pub(crate) fn waits_for_others(&self, file: &str, need: Amount) -> bool {
        let held = self.files.get(file).map(|account| account.held);
        fits(plus(held.unwrap_or_default(), need), self.total)
    }

    /// The most that a running file has held at a time.
    pub(crate) fn peak(&self, file: &str) -> Amount {
        self.files
            .get(file)
            .map(|account| account.peak)
            .unwrap_or_default()
    }

    /// A task of the file begins to wait for what another file does.
    pub(crate) fn stand_by(&mut self, file: &str) {
        self.files.entry(file.to_owned()).or_default().standing_by += 1;
    }

    /// It waits no more.
    pub(crate) fn go_on(&mut self, file: &str) {
        if let Some(account) = self.files.get_mut(file) {
            account.standing_by = account.standing_by.saturating_sub(1);
        }
        self.forget(file);
    }

    /// Asks for `need`; `None` if it is more than there will ever be.
    pub(crate) fn request(&mut self, file: &str, need: Amount) -> Option<Ticket> {
        if !fits(need, self.total) || self.revoked.contains(file) {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.queue.push_back(Waiting {
            ticket,
            file: file.to_owned(),
            need,
            overtaken: 0,
        });
        Some(ticket)
    }

    /// Takes `need` at once, if it is there and nobody waits; whether it did.
    pub(crate) fn take_now(&mut self, file: &str, need: Amount) -> bool {
        let taken =
            self.queue.is_empty() && fits(need, self.available()) && !self.revoked.contains(file);
        if taken {
            self.files.entry(file.to_owned()).or_default().take(need);
        }
        taken
    }

    /// Grants what can be granted now.
    pub(crate) fn grant(&mut self) -> Vec<Ticket> {
        let mut granted = Vec::new();
        let mut passed_over = Vec::new();
        let mut starving = false;
        let mut index = 0;
        while let Some(waiting) = self.queue.get(index) {
            let holds = self
                .files
                .get(&waiting.file)
                .is_some_and(|a| a.held != Amount::default());
            // Who holds something has to go on, or it would never give it back.
            let may_pass = !starving || holds;
            if may_pass && fits(waiting.need, self.available()) {
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
        while let Some(ticket) = self.lend_processors() {
            granted.push(ticket);
        }
        granted
    }

    /// When all who hold something wait, and the oldest of them lacks nothing but processors, it
    /// gets them: unlike memory they can be shared, at the price of time. So a file may have more
    /// VMs than the host has processors.
    fn lend_processors(&mut self) -> Option<Ticket> {
        // A file that does something else meanwhile gets them too: it may never come to an end, as a
        // server does not.
        self.stuck(|_| true)?;
        let memory = self.available().memory_bytes;
        let held = |file: &str| self.files.get(file).map(|account| account.held);
        let index = self.queue.iter().position(|waiting| {
            held(&waiting.file).is_some_and(|held| held != Amount::default())
                && waiting.need.memory_bytes <= memory
        })?;
        let waiting = self.queue.remove(index)?;
        let account = self.files.entry(waiting.file).or_default();
        account.take(waiting.need);
        Some(waiting.ticket)
    }

    /// Gives back what was granted.
    pub(crate) fn release(&mut self, file: &str, need: Amount) {
        if let Some(account) = self.files.get_mut(file) {
            account.held = minus(account.held, need);
        }
        self.forget(file);
    }

    /// Takes a request back; whether it was still waiting.
    pub(crate) fn withdraw(&mut self, ticket: Ticket) -> bool {
        let before = self.queue.len();
        self.queue.retain(|waiting| waiting.ticket != ticket);
        before != self.queue.len()
    }

    /// When all who hold something wait for each other, and none of them can give anything back: the
    /// youngest of their requests, what it needs, and who holds what. A file of which another task
    /// still does something may give back what that task uses.
    pub(crate) fn deadlock(&self) -> Option<(Ticket, Amount, String)> {
        self.stuck(Activity::is_idle)
    }

    /// When all who hold something wait, for more or for another file; of those who wait for more,
    /// `counts` says of their activity whether they do.
    fn stuck(&self, counts: impl Fn(&Activity) -> bool) -> Option<(Ticket, Amount, String)> {
        let holders = || {
            self.files
                .iter()
                .filter(|(_, account)| account.held != Amount::default())
        };
        let asks = |file: &str| self.queue.iter().any(|waiting| waiting.file == file);
        let waits = |(file, account): (&String, &Account)| {
            account.standing_by > 0 || (asks(file) && counts(&account.activity))
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
        let who: Vec<String> = holders()
            .map(|(file, account)| {
                let Amount { memory_bytes, cpus } = account.held;
                format!(
                    "`{file}` holds {} MiB and {cpus} vCPU(s)",
                    memory_bytes.div_ceil(1 << 20)
                )
            })
            .collect();
        Some((youngest.ticket, youngest.need, who.join(", ")))
    }

    /// Drops the account of a file that neither runs nor holds anything.
    fn forget(&mut self, file: &str) {
        let idle = |a: &Account| a.held == Amount::default() && !a.running && a.standing_by == 0;
        if self.files.get(file).is_some_and(idle) {
            self.files.remove(file);
        }
    }
}

impl Account {
    fn take(&mut self, need: Amount) {
        self.held = plus(self.held, need);
        self.peak = larger(self.peak, self.held);
    }
}

impl Waiting {
    fn starves(&self) -> bool {
        self.overtaken >= OVERTAKEN_LIMIT
    }
}

fn plus(one: Amount, other: Amount) -> Amount {
    Amount {
        memory_bytes: one.memory_bytes.saturating_add(other.memory_bytes),
        cpus: one.cpus.saturating_add(other.cpus),
    }
}

fn minus(one: Amount, other: Amount) -> Amount {
    Amount {
        memory_bytes: one.memory_bytes.saturating_sub(other.memory_bytes),
        cpus: one.cpus.saturating_sub(other.cpus),
    }
}

fn larger(one: Amount, other: Amount) -> Amount {
    Amount {
        memory_bytes: one.memory_bytes.max(other.memory_bytes),
        cpus: one.cpus.max(other.cpus),
    }
}

fn fits(need: Amount, room: Amount) -> bool {
    need.memory_bytes <= room.memory_bytes && need.cpus <= room.cpus
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cpus(cpus: u32) -> Amount {
        Amount {
            memory_bytes: u64::from(cpus) << 20,
            cpus,
        }
    }

    fn pool(total: u32) -> PoolCore {
        PoolCore::new(cpus(total))
    }

    #[test]
    fn what_never_fits_is_refused_and_the_rest_waits_its_turn() {
        let mut pool = pool(4);
        assert_eq!(pool.request("a", cpus(5)), None);
        let first = pool.request("a", cpus(3)).unwrap();
        let second = pool.request("b", cpus(3)).unwrap();
        assert_eq!(pool.grant(), [first]);
        assert_eq!(pool.available(), cpus(1));
        pool.release("a", cpus(3));
        assert_eq!(pool.grant(), [second]);
    }

    #[test]
    fn the_small_go_ahead_of_the_large_but_do_not_starve_it() {
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
            "no further file while somebody starves"
        );
        let late = pool.request("t", cpus(1)).unwrap();
        assert!(pool.grant().is_empty(), "nobody who holds nothing passes");
        let inside = pool.request("s", cpus(1)).unwrap();
        assert_eq!(pool.grant(), [inside], "who holds something does");
        pool.release("s", cpus(3));
        assert_eq!(pool.grant(), [large]);
        pool.release("large", cpus(4));
        assert_eq!(pool.grant(), [late]);
        assert!(held < late);
    }

    #[test]
    fn what_is_there_is_taken_at_once_unless_somebody_waits_for_it() {
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
    fn a_file_counts_with_its_reservation_when_others_start() {
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
    fn the_most_that_a_file_held_is_known_until_it_ends() {
        let mut pool = pool(4);
        pool.begin("a", Amount::default(), Activity::default());
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
        assert_eq!(pool.peak("a"), Amount::default());
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
        let (ticket, need, who) = pool.deadlock().unwrap();
        assert_eq!((ticket, need), (youngest, cpus(2)));
        assert_eq!(
            who,
            "`a` holds 2 MiB and 2 vCPU(s), `b` holds 2 MiB and 2 vCPU(s)"
        );
        assert!(pool.withdraw(ticket));
        assert!(pool.deadlock().is_none());
    }

    #[test]
    fn a_file_that_works_on_is_in_no_cycle() {
        let mut pool = pool(2);
        let activity = Activity::default();
        pool.begin("a", cpus(1), activity.clone());
        pool.request("a", cpus(1)).unwrap();
        assert_eq!(pool.grant().len(), 1);
        let call = activity.begin();
        // It lacks memory, which is not lent.
        let waits = pool.request("a", cpus(2)).unwrap();
        assert!(pool.grant().is_empty());
        assert!(
            pool.deadlock().is_none(),
            "its other task can give something back"
        );
        assert!(!pool.waits_for_others("a", cpus(2)));
        assert!(pool.waits_for_others("a", cpus(1)));
        drop(call);
        assert_eq!(pool.deadlock().unwrap().0, waits);
        pool.release("a", cpus(1));
        assert_eq!(pool.grant(), [waits]);
    }

    #[test]
    fn what_a_file_held_that_is_given_up_is_others_and_only_once() {
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
        assert!(pool.request("stuck", cpus(1)).is_none());
        assert!(!pool.take_now("stuck", cpus(0)));
        pool.release("other", cpus(2));
        assert_eq!(pool.used(), Amount::default());
        assert!(pool.admits(cpus(2)));
    }

    #[test]
    fn processors_are_lent_when_nobody_could_go_on_without() {
        let small = Amount {
            memory_bytes: 1,
            cpus: 1,
        };
        let mut pool = PoolCore::new(Amount {
            memory_bytes: 3,
            cpus: 1,
        });
        pool.request("a", small).unwrap();
        assert_eq!(pool.grant().len(), 1);
        let waits = pool.request("b", small).unwrap();
        assert!(pool.grant().is_empty(), "a can still go on");
        let lent = pool.request("a", small).unwrap();
        assert_eq!(pool.grant(), [lent]);
        pool.release(
            "a",
            Amount {
                memory_bytes: 2,
                cpus: 2,
            },
        );
        assert_eq!(pool.grant(), [waits]);
    }

    #[test]
    fn who_stands_by_for_another_file_gives_nothing_back() {
        let small = Amount {
            memory_bytes: 1,
            cpus: 1,
        };
        let mut pool = PoolCore::new(Amount {
            memory_bytes: 4,
            cpus: 2,
        });
        pool.request("waits", small).unwrap();
        pool.request("works", small).unwrap();
        assert_eq!(pool.grant().len(), 2);
        let more = pool.request("works", small).unwrap();
        assert!(pool.grant().is_empty(), "the other file can still end");
        assert!(pool.deadlock().is_none());
        pool.stand_by("waits");
        assert_eq!(pool.grant(), [more], "processors are lent");
        pool.go_on("waits");
        pool.request("works", small).unwrap();
        assert!(pool.deadlock().is_none());
    }

    proptest! {
        #[test]
        fn never_gives_more_than_there_is_and_everyone_is_served(
            needs in prop::collection::vec((0_u8..5, 1_u32..6, any::<bool>()), 1..60),
        ) {
            let mut pool = pool(5);
            let mut held: Vec<(String, Amount)> = Vec::new();
            let mut waiting: BTreeMap<Ticket, (String, Amount)> = BTreeMap::new();
            let collect = |pool: &mut PoolCore,
                               waiting: &mut BTreeMap<Ticket, (String, Amount)>,
                               held: &mut Vec<(String, Amount)>| {
                for ticket in pool.grant() {
                    held.push(waiting.remove(&ticket).unwrap());
                }
                assert!(fits(pool.used(), pool.total()));
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
            prop_assert_eq!(pool.used(), Amount::default());
        }
    }
}
