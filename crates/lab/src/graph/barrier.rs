//! A meeting point of tasks: opens when enough of them are in it, and is then new again.

use crate::error::LabError;
use crate::graph::scope::ResourceId;
use crate::lock::lock;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// The barriers of one file.
#[derive(Debug, Default)]
pub(crate) struct Barriers(Mutex<BTreeMap<Key, Round>>);

/// Who may meet, where not everybody in the file may; and the barrier's name.
type Key = (Option<ResourceId>, String);

/// One filling of a barrier.
#[derive(Debug)]
struct Round {
    count: usize,
    arrived: usize,
    /// The most that were in it at once: those whose time is up leave one after the other.
    most: usize,
    opened: Arc<watch::Sender<bool>>,
}

impl Barriers {
    /// Waits until `count` callers are in the barrier `name`, all of them of the scope `among`.
    pub(crate) async fn wait(
        &self,
        subject: &str,
        among: Option<ResourceId>,
        name: &str,
        count: usize,
        timeout: Duration,
    ) -> Result<(), LabError> {
        let call = format!("barrier(\"{name}\", {count})");
        if count == 0 {
            return Err(LabError::invalid(
                subject,
                call,
                "the count must be at least 1",
            ));
        }
        let key = (among, name.to_owned());
        let opened = {
            let mut rounds = lock(&self.0);
            let round = rounds.entry(key.clone()).or_insert_with(|| Round {
                count,
                arrived: 0,
                most: 0,
                opened: Arc::new(watch::Sender::new(false)),
            });
            if round.count != count {
                let why = format!("others wait in it with a count of {}", round.count);
                return Err(LabError::invalid(subject, call, why));
            }
            round.arrived += 1;
            round.most = round.most.max(round.arrived);
            if round.arrived == count {
                round.opened.send_replace(true);
                rounds.remove(&key);
                return Ok(());
            }
            Arc::clone(&round.opened)
        };
        // From here on this caller counts; if it goes away before the barrier opens, it is taken out.
        let mut seat = Seat {
            barriers: self,
            key,
            opened: Arc::clone(&opened),
            kept: false,
        };
        let mut receiver = opened.subscribe();
        if tokio::time::timeout(timeout, receiver.wait_for(|open| *open))
            .await
            .is_ok()
        {
            seat.kept = true;
            return Ok(());
        }
        let came = seat.came();
        let note = format!("; {came} of {count} came");
        Err(LabError::TimedOut {
            subject: subject.to_owned(),
            call,
            after: timeout,
            note,
        })
    }
}

/// A caller's place in a barrier that is not yet open.
struct Seat<'a> {
    barriers: &'a Barriers,
    key: Key,
    opened: Arc<watch::Sender<bool>>,
    kept: bool,
}

impl Seat<'_> {
    /// How many came.
    fn came(&self) -> usize {
        let rounds = lock(&self.barriers.0);
        rounds.get(&self.key).map_or(0, |round| round.most)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let mut rounds = lock(&self.barriers.0);
        if let Some(round) = rounds.get_mut(&self.key)
            && Arc::ptr_eq(&round.opened, &self.opened)
        {
            round.arrived -= 1;
            if round.arrived == 0 {
                rounds.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn opens_for_all_and_is_new_again() {
        let barriers = Barriers::default();
        for _ in 0..2 {
            let wait = || barriers.wait("lab", None, "b", 3, LONG);
            let (first, second, third) = tokio::join!(wait(), wait(), wait());
            assert!(first.is_ok() && second.is_ok() && third.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_of_another_scope_is_not_met() {
        let barriers = Barriers::default();
        let short = Duration::from_secs(1);
        let among = [None, Some(ResourceId::next()), Some(ResourceId::next())];
        let [all, one, other] = among.map(|among| barriers.wait("lab", among, "b", 2, short));
        let (all, one, other) = tokio::join!(all, one, other);
        assert!(all.is_err() && one.is_err() && other.is_err());
        let (first, second) = tokio::join!(
            barriers.wait("lab", among[1], "b", 2, short),
            barriers.wait("lab", among[1], "b", 2, short)
        );
        assert!(first.is_ok() && second.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn says_how_many_came_and_forgets_those_who_left() {
        let barriers = Barriers::default();
        let short = Duration::from_secs(1);
        let (first, second) = tokio::join!(
            barriers.wait("lab", None, "b", 3, short),
            barriers.wait("lab", None, "b", 3, short)
        );
        let text = first.unwrap_err().to_string();
        assert!(
            text.ends_with("barrier(\"b\", 3): not done within 1s; 2 of 3 came"),
            "{text}"
        );
        assert!(second.is_err());
        let other = barriers.wait("lab", None, "b", 1, short).await;
        assert!(
            other.is_ok(),
            "nobody is left in it, so another count is fine"
        );
    }
}
