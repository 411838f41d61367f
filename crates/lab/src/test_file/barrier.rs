//! Meeting points of tasks: a barrier opens when enough tasks wait in it, and can then be used again.

use crate::error::LabError;
use crate::lock::lock;
use crate::resource::ResourceId;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;

/// The barriers of one file.
#[derive(Debug, Default)]
pub(crate) struct Barriers(Mutex<BTreeMap<Key, Round>>);

/// The scope whose tasks meet, unless it is the whole file; and the barrier's name.
type Key = (Option<ResourceId>, String);

/// The tasks that wait for a barrier to open once.
#[derive(Debug)]
struct Round {
    count: usize,
    arrived: usize,
    /// The most that waited at once: those that time out leave one after the other.
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
        // From here on this caller counts, until it is dropped or the barrier opens.
        let mut seat = WaiterGuard {
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

/// A caller that waits in a barrier; dropping it takes the caller out unless the barrier has opened.
struct WaiterGuard<'a> {
    barriers: &'a Barriers,
    key: Key,
    opened: Arc<watch::Sender<bool>>,
    kept: bool,
}

impl WaiterGuard<'_> {
    /// How many came.
    fn came(&self) -> usize {
        let rounds = lock(&self.barriers.0);
        rounds.get(&self.key).map_or(0, |round| round.most)
    }
}

impl Drop for WaiterGuard<'_> {
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
    async fn a_barrier_opens_for_all_and_can_be_used_again() {
        let barriers = Barriers::default();
        for _ in 0..2 {
            let wait = || barriers.wait("lab", None, "b", 3, LONG);
            let (first, second, third) = tokio::join!(wait(), wait(), wait());
            assert!(first.is_ok() && second.is_ok() && third.is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn tasks_of_different_scopes_do_not_meet() {
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
    async fn a_timeout_reports_how_many_came_and_takes_the_task_out() {
        let barriers = Barriers::default();
        let short = Duration::from_secs(1);
        let (first, second) = tokio::join!(
            barriers.wait("lab", None, "b", 3, short),
            barriers.wait("lab", None, "b", 3, short)
        );
        let text = first.unwrap_err().to_string();
        assert!(
            text.ends_with("barrier(\"b\", 3): timed out after 1s; 2 of 3 came"),
            "{text}"
        );
        assert!(second.is_err());
        let other = barriers.wait("lab", None, "b", 1, short).await;
        assert!(
            other.is_ok(),
            "no task is left in it, so another count is fine"
        );
    }
}
