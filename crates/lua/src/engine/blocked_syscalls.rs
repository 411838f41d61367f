//! Raw syscalls that have not returned, for which a cancelled call may have waited.

use crate::engine::syscall_table;
use provium_lab::{Lab, Member, Scope, SyscallInProgress};
use std::fmt::Write as _;

/// The raw syscalls in progress in the VMs that a task in `scope` can see, for the end of a message about
/// `call`; empty where there are none, or where the call is such a syscall itself.
pub(crate) fn note(lab: &Lab, scope: &Scope, call: &str) -> String {
    if [":syscall(", ":ioctl("]
        .iter()
        .any(|raw| call.contains(raw))
    {
        return String::new();
    }
    let mut calls = Vec::new();
    for scope in std::iter::successors(Some(scope), |scope| scope.parent()) {
        collect(lab, scope, &mut calls);
    }
    describe(calls)
}

fn describe(calls: Vec<SyscallInProgress>) -> String {
    let mut text = String::new();
    for SyscallInProgress { owner, nr, waiting } in calls {
        let name = syscall_table::name(nr).map_or_else(|| nr.to_string(), ToOwned::to_owned);
        let _ = write!(
            text,
            "; the raw syscall `{name}` of {owner} has been in progress for {:.1} s, and what needs its \
             process waits for it",
            waiting.as_secs_f64()
        );
    }
    text
}

fn collect(lab: &Lab, scope: &Scope, calls: &mut Vec<SyscallInProgress>) {
    for member in lab.members(scope) {
        match member {
            Member::Vm(vm) => calls.extend(vm.ops().syscalls_in_progress()),
            Member::Bridge(_) => {}
            Member::Lab(inner) => collect(&inner, scope, calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_syscall_is_named_with_its_owner_and_its_time() {
        let call = |owner: &str, nr| SyscallInProgress {
            owner: owner.to_owned(),
            nr,
            waiting: Duration::from_millis(2500),
        };
        assert_eq!(describe(Vec::new()), "");
        let text = describe(vec![
            call("vm `v`", 34),
            call("worker 20 of vm `v`", 99_999),
        ]);
        assert!(
            text.starts_with("; the raw syscall `pause` of vm `v` has been in progress for 2.5 s"),
            "{text}"
        );
        assert!(text.contains("`99999` of worker 20 of vm `v`"), "{text}");
    }
}
