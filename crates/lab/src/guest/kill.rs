//! Ends commands whose owner is closed.

use crate::guest::wait::KILL_GRACE;
use futures_util::future::join_all;
use provium_guest::{Command, RunningCommand};
use provium_protocol::op::SignalTarget;
use std::future::Future;
use std::time::Duration;

/// Time between SIGTERM and SIGKILL for commands that are closed.
const CLOSE_GRACE: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;
const SIGKILL: i32 = 9;

/// A command that can be ended.
pub(crate) trait TerminableCommand {
    /// Signals its process and all descendants.
    fn signal_tree(&self, signal: i32) -> impl Future<Output = ()> + Send;
    /// Returns when it has ended, or when its end can no longer be observed.
    fn ended(&self) -> impl Future<Output = ()> + Send;
}

impl TerminableCommand for Command {
    async fn signal_tree(&self, signal: i32) {
        // What cannot be signalled has ended.
        let _ = self.signal_to(signal, SignalTarget::Tree).await;
    }
    async fn ended(&self) {
        let _ = self.wait().await;
    }
}

impl TerminableCommand for RunningCommand {
    async fn signal_tree(&self, signal: i32) {
        // What cannot be signalled has ended.
        let _ = self.signal(signal).await;
    }
    async fn ended(&self) {
        let _ = self.wait().await;
    }
}

/// Ends commands: SIGTERM to all of them, SIGKILL to those that are left after 2 s. Returns whether all
/// have ended.
pub(crate) async fn end_all<T: TerminableCommand>(commands: &[&T]) -> bool {
    for (signal, grace) in [(SIGTERM, CLOSE_GRACE), (SIGKILL, KILL_GRACE)] {
        let ended = join_all(commands.iter().map(|command| async move {
            // Do not wait for the answer to the signal: the end of the process may come first.
            let signalled = async {
                command.signal_tree(signal).await;
                std::future::pending().await
            };
            tokio::select! {
                biased;
                () = command.ended() => {}
                () = signalled => {}
            }
        }));
        if tokio::time::timeout(grace, ended).await.is_ok() {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::Notify;
    use tokio::time::Instant;

    /// Ends at one signal, and does not answer any.
    struct StubbornCommand {
        but_to: i32,
        got: Mutex<Vec<i32>>,
        end: Notify,
    }

    impl StubbornCommand {
        fn new(but_to: i32) -> Self {
            Self {
                but_to,
                got: Mutex::default(),
                end: Notify::new(),
            }
        }
    }

    impl TerminableCommand for StubbornCommand {
        async fn signal_tree(&self, signal: i32) {
            self.got.lock().unwrap().push(signal);
            if signal == self.but_to {
                self.end.notify_one();
            }
            std::future::pending().await
        }
        async fn ended(&self) {
            self.end.notified().await;
            self.end.notify_one();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_have_sigterm_at_once_and_the_deaf_are_killed_together() {
        let mild = StubbornCommand::new(SIGTERM);
        let deaf: Vec<_> = (0..20).map(|_| StubbornCommand::new(SIGKILL)).collect();
        let mut all: Vec<&StubbornCommand> = deaf.iter().collect();
        all.push(&mild);
        let began = Instant::now();
        assert!(end_all(&all).await);
        assert_eq!(began.elapsed(), CLOSE_GRACE);
        assert_eq!(*mild.got.lock().unwrap(), [SIGTERM]);
        for deaf in &deaf {
            assert_eq!(*deaf.got.lock().unwrap(), [SIGTERM, SIGKILL]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_killed_is_waited_for_as_long_as_the_grace() {
        let stuck = StubbornCommand::new(0);
        let began = Instant::now();
        assert!(!end_all(&[&stuck]).await);
        assert_eq!(began.elapsed(), CLOSE_GRACE + KILL_GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn an_empty_list_is_not_waited_for() {
        let began = Instant::now();
        assert!(end_all::<StubbornCommand>(&[]).await);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
