//! A wait for the pool stops the clocks of the file that waits.
//!
//! A test that waits until another file returns its grant is not slow, so that time does not count against
//! its limits: the [`Stopwatch`](crate::Stopwatch) of the test and that of its file are stopped. They run
//! while the file waits for what it holds itself, since only its own limits can then end the wait.

use crate::caller::Caller;
use crate::pool::Pool;
use crate::stopwatch::StopReason;
use futures_util::poll;
use provium_events::Resources;
use std::future::Future;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

/// Does work of the harness that no time limit counts, such as making an image of a disk: the clocks of its caller are
/// stopped meanwhile.
pub async fn uncounted<T>(work: impl Future<Output = T>) -> T {
    let _stopped = Caller::current().map(|caller| caller.stopwatch().stop(StopReason::Work));
    work.await
}

/// How often it is checked again which files a wait depends on.
const RECHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Waits for `granted`, a request of `file` for `need`.
pub(crate) async fn wait_for_pool<T>(
    pool: &Pool,
    file: &str,
    need: Resources,
    granted: impl Future<Output = T>,
) -> T {
    let Some(caller) = Caller::current() else {
        return granted.await;
    };
    let mut granted = pin!(granted);
    if let Poll::Ready(granted) = poll!(granted.as_mut()) {
        return granted;
    }
    let mut stopped = None;
    loop {
        if !pool.waits_for_others(file, need) {
            stopped = None;
        } else if stopped.is_none() {
            stopped = Some(caller.stopwatch().stop(StopReason::Pool));
        }
        tokio::select! {
            biased;
            granted = &mut granted => return granted,
            () = tokio::time::sleep(RECHECK_INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::FileWatch;
    use provium_events::Sink;

    fn cpus(cpus: u32) -> Resources {
        Resources {
            memory_bytes: u64::from(cpus),
            cpus,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_for_others_stops_the_clocks_of_the_test_and_its_file() {
        let file = FileWatch::default();
        let (test, other) = (file.caller().child(), file.caller().child());
        let pool = Pool::new(cpus(2), Sink::discard());
        let held = [1, 1].map(|one| pool.try_acquire("b", cpus(one)));
        {
            let wait = wait_for_pool(&pool, "a", cpus(2), pool.acquire("a", cpus(2)));
            let mut wait = pin!(test.take_turn(wait));
            assert!(!file.activity().is_idle(), "its turn has begun");
            assert!(poll!(wait.as_mut()).is_pending());
            assert!(test.stopwatch().is_stopped());
            assert!(file.caller().stopwatch().is_stopped());
            assert!(!other.stopwatch().is_stopped());
            assert!(file.activity().is_idle(), "its only turn waits");
            // Another task of the file gets what `b` returns: the request now waits for its own file.
            let mut own = pin!(pool.acquire("a", cpus(1)));
            assert!(poll!(own.as_mut()).is_pending());
            let [returned, _kept] = held;
            drop(returned);
            let own = own.await;
            assert!(own.is_ok());
            let waited = tokio::time::timeout(RECHECK_INTERVAL * 2, wait.as_mut()).await;
            assert!(waited.is_err());
            assert!(!test.stopwatch().is_stopped());
            assert!(!file.caller().stopwatch().is_stopped());
        }
        assert!(file.activity().is_idle());
        assert!(test.stopwatch().stopped_for(StopReason::Pool) > Duration::ZERO);
        assert_eq!(
            test.stopwatch().stopped_for(StopReason::Work),
            Duration::ZERO
        );
    }

    #[tokio::test]
    async fn a_turn_that_waits_for_another_one_does_not_count() {
        let file = FileWatch::default();
        let (done, working) = tokio::sync::oneshot::channel::<u8>();
        let inner = file.caller().take_turn(working);
        let mut outer = pin!(file.caller().take_turn(inner));
        assert!(poll!(outer.as_mut()).is_pending());
        assert!(!file.activity().is_idle(), "the inner one works");
        assert_eq!(done.send(7), Ok(()));
        assert_eq!(outer.await, Ok(7));
        let waits = Caller::wait_for_turns(std::future::pending::<()>());
        let mut waits = pin!(file.caller().take_turn(waits));
        assert!(poll!(waits.as_mut()).is_pending());
        assert!(file.activity().is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn uncounted_work_stops_the_clocks_of_the_test_and_its_file() {
        let file = FileWatch::default();
        let test = file.caller().child();
        let (done, working) = tokio::sync::oneshot::channel::<u8>();
        let mut work = pin!(test.enter(uncounted(working)));
        assert!(poll!(work.as_mut()).is_pending());
        assert!(test.stopwatch().is_stopped());
        assert!(file.caller().stopwatch().is_stopped());
        assert_eq!(done.send(7), Ok(()));
        assert_eq!(work.await, Ok(7));
        assert!(!test.stopwatch().is_stopped());
        assert!(test.stopwatch().stopped_for(StopReason::Work) > Duration::ZERO);
        assert_eq!(
            test.stopwatch().stopped_for(StopReason::Pool),
            Duration::ZERO
        );
        assert_eq!(uncounted(async { 8 }).await, 8, "without a caller");
    }

    #[tokio::test]
    async fn a_grant_without_a_wait_stops_no_clock() {
        let file = FileWatch::default();
        let pool = Pool::new(cpus(2), Sink::discard());
        let granted = wait_for_pool(&pool, "a", cpus(1), pool.acquire("a", cpus(1)));
        assert!(file.caller().enter(granted).await.is_ok());
        assert_eq!(file.waited(), Duration::ZERO);
    }
}
