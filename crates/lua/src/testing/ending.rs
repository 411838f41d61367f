//! Ends what a test, or a file, has begun: its tasks and its scope.

use crate::engine::failure::Failure;
use crate::engine::task::Task;
use provium_lab::Scope;
use std::rc::Rc;
use std::time::Duration;

/// Time that closing a scope has; the lab has shorter deadlines of its own for each resource.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(60);

/// Ends the tasks that still run; returns the errors of others that were not passed to a caller.
pub(crate) async fn end_tasks(tasks: &[Rc<Task>]) -> Vec<Failure> {
    // What a task raised before its end was asked for counts; what comes of ending it does not.
    let failures = tasks.iter().filter_map(|task| task.unseen_failure());
    let failures = failures.map(|mut failure| {
        failure.message = format!("in a task that was not joined: {}", failure.message);
        failure
    });
    let failures = failures.collect();
    for task in tasks {
        task.stop();
    }
    for task in tasks {
        task.ended().await;
    }
    failures
}

/// Closes a scope; says what could not be closed.
pub(crate) async fn close(scope: &Scope) -> Vec<String> {
    match tokio::time::timeout(CLOSE_TIMEOUT, scope.close()).await {
        Ok(failures) => failures.iter().map(ToString::to_string).collect(),
        Err(_) => vec![format!(
            "closing what the test made: timed out after {CLOSE_TIMEOUT:?}"
        )],
    }
}
