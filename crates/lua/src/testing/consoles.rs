//! The ends of the consoles of a failed test's VMs, since the test has begun.

use provium_events::ConsoleExcerpt;
use provium_lab::{Lab, ResourceId, Scope, Vm};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes kept of each console.
const TAIL: u64 = 4 * 1024;

/// Lines at the end of a console by which a message is recognised that contains them already.
const KNOWN_BY: usize = 3;

/// How far the consoles of VMs had been written at some time.
pub(super) type Positions = BTreeMap<ResourceId, u64>;

/// How far the consoles that a test in `scope` can see have been written.
pub(super) fn positions(lab: &Lab, scope: &Scope) -> Positions {
    let vms = visible(lab, scope).into_iter();
    vms.map(|vm| (vm.id(), vm.console().mark())).collect()
}

/// The ends of the consoles that a test in `scope` could see, as far as they were written since `before`; of VMs
/// that printed nothing there is none.
pub(super) fn excerpts(lab: &Lab, scope: &Scope, before: &Positions) -> Vec<ConsoleExcerpt> {
    let mut excerpts = Vec::new();
    for vm in visible(lab, scope) {
        let console = vm.console();
        let start = before.get(&vm.id()).copied().unwrap_or(0);
        let from = console.mark().saturating_sub(TAIL).max(start);
        let tail = console.since(from).unwrap_or_default();
        let text = String::from_utf8_lossy(&tail).replace('\r', "");
        if !text.trim().is_empty() {
            excerpts.push(ConsoleExcerpt {
                vm: vm.name().to_owned(),
                text: text.trim_end().to_owned(),
                in_reason: false,
            });
        }
    }
    excerpts
}

/// The VMs that a test in `scope` can see.
fn visible(lab: &Lab, scope: &Scope) -> Vec<Vm> {
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let vms = scopes.flat_map(|scope| lab.all_vms(scope));
    vms.filter(|vm| seen.insert(vm.id())).collect()
}

/// Marks the consoles whose end `reason` contains, as errors about a dead guest do.
pub(super) fn mark_contained(excerpts: &mut [ConsoleExcerpt], reason: &str) {
    for excerpt in excerpts {
        let lines = excerpt.text.trim_end().lines().rev().take(KNOWN_BY);
        let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
        excerpt.in_reason = lines.all(|line| reason.contains(line));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_whose_end_is_in_the_reason_is_marked() {
        let excerpt = |text: &str| ConsoleExcerpt {
            vm: "web".to_owned(),
            text: text.to_owned(),
            in_reason: false,
        };
        let mut excerpts = [excerpt("one\ntwo\n\n  three\nfour"), excerpt("four\nfive")];
        mark_contained(&mut excerpts, "it died:\n  | two\n  | three\n  | four");
        assert!(excerpts[0].in_reason);
        assert!(!excerpts[1].in_reason);
    }
}
