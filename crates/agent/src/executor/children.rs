//! The children of the executor: whose each is, and ends that came before that was known.

use super::call::lock;
use super::table::Table;
use crate::sys::process::ExitStatus;
use provium_protocol::Lane;
use std::sync::Mutex;

/// What a child of the executor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Child {
    /// The raw process of a lane.
    RawProcess(Lane),
    /// An operation process or a command: lane and slot.
    Operation(Lane, usize),
    /// A process whose exit code is not used, such as process 1 of a namespace.
    Other,
}

#[derive(Debug, Default)]
pub(super) struct Children(Mutex<ChildTable>);

#[derive(Debug, Default)]
struct ChildTable {
    children: Table<i32, Child>,
    /// Ends of unknown processes.
    early: Table<i32, ExitStatus>,
    /// Forks that have not been reported yet.
    forking: usize,
}

impl Children {
    /// A process is being forked: the end of an unknown process may be its end.
    pub(super) fn begin_fork(&self) {
        lock(&self.0).forking += 1;
    }

    pub(super) fn end_fork(&self) {
        let mut known = lock(&self.0);
        known.forking = known.forking.saturating_sub(1);
        if known.forking == 0 {
            // No fork is left that could belong to them.
            known.early.clear();
        }
    }

    /// Registers a child, which may have been known as something else. Returns its end if it has ended
    /// already.
    pub(super) fn adopt(&self, pid: i32, child: Child) -> Option<ExitStatus> {
        let mut known = lock(&self.0);
        let ending = known.early.remove(&pid);
        if ending.is_none() {
            known.children.insert(pid, child);
        }
        ending
    }

    /// A child has ended and was collected; returns what it was.
    pub(super) fn disown(&self, pid: i32, ending: ExitStatus) -> Option<Child> {
        let mut known = lock(&self.0);
        let child = known.children.remove(&pid);
        if child.is_none() && known.forking > 0 {
            known.early.insert(pid, ending);
        }
        child
    }

    /// Forgets a child that was registered after it had been collected; returns what it was.
    pub(super) fn forget(&self, pid: i32) -> Option<Child> {
        lock(&self.0).children.remove(&pid)
    }

    /// Commands and operation processes of a lane that run.
    pub(super) fn operations_of(&self, lane: Lane) -> Vec<i32> {
        let known = lock(&self.0);
        known
            .children
            .iter()
            .filter(|(_, child)| matches!(child, Child::Operation(of, _) if *of == lane))
            .map(|(pid, _)| *pid)
            .collect()
    }

    pub(super) fn all(&self) -> Vec<i32> {
        lock(&self.0).children.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_came_early_belongs_to_the_child_that_is_adopted() {
        let children = Children::default();
        children.begin_fork();
        assert_eq!(children.disown(7, ExitStatus::Exited(3)), None);
        let adopted = children.adopt(7, Child::Operation(Lane::VM, 0));
        assert_eq!(adopted, Some(ExitStatus::Exited(3)));
        assert_eq!(children.all(), []);
    }

    #[test]
    fn an_end_without_a_fork_is_not_kept_for_a_later_child() {
        let children = Children::default();
        assert_eq!(children.disown(7, ExitStatus::Exited(3)), None);
        children.begin_fork();
        assert_eq!(children.adopt(7, Child::Other), None);
        assert_eq!(
            children.disown(7, ExitStatus::Exited(0)),
            Some(Child::Other)
        );
    }
}
