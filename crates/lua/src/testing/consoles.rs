//! The ends of the consoles of a failed test's VMs, since the test has begun.

use crate::engine::cut::Keep;
use provium_events::ConsoleExcerpt;
use provium_lab::{Console, Lab, ResourceId, Scope, Vm};
use std::collections::{BTreeMap, BTreeSet};

/// Bytes kept of each console.
const TAIL: u64 = 4 * 1024;

/// Lines that the report for people shows of a console. More of them are kept in a file.
const SHOWN_LINES: usize = 10;

/// Lines at the end of a console by which a message is recognised that contains them already.
const KNOWN_BY: usize = 3;

/// How far the consoles of VMs had been written at some time.
pub(super) type Positions = BTreeMap<ResourceId, u64>;

/// How far the consoles that a test in `scope` can see have been written.
pub(super) fn positions(lab: &Lab, scope: &Scope) -> Positions {
    let vms = visible(lab, scope).into_iter();
    vms.map(|vm| (vm.id(), vm.console().mark())).collect()
}

/// The end of a VM's console, and where all of it is.
pub(super) struct ConsoleEnd {
    excerpt: ConsoleExcerpt,
    console: Console,
    /// Where the test has begun.
    start: u64,
    /// Where the excerpt begins.
    from: u64,
}

/// The ends of the consoles that a test in `scope` could see, as far as they were written since `before`; of VMs
/// that printed nothing there is none.
pub(super) fn ends(lab: &Lab, scope: &Scope, before: &Positions) -> Vec<ConsoleEnd> {
    let mut ends = Vec::new();
    for vm in visible(lab, scope) {
        let console = vm.console();
        let start = before.get(&vm.id()).copied().unwrap_or(0);
        let from = console.mark().saturating_sub(TAIL).max(start);
        let tail = console.since(from).unwrap_or_default();
        let text = String::from_utf8_lossy(&tail).replace('\r', "");
        if !text.trim().is_empty() {
            let excerpt = ConsoleExcerpt {
                vm: vm.name().to_owned(),
                text: text.trim_end().to_owned(),
                in_reason: false,
                more_lines: 0,
                file: None,
            };
            ends.push(ConsoleEnd {
                excerpt,
                console,
                start,
                from,
            });
        }
    }
    ends
}

/// The excerpts of a failed test, which was reported with `reason`. Consoles that are longer than what is shown of them
/// are kept.
pub(super) fn excerpts(ends: Vec<ConsoleEnd>, reason: &str, keep: Keep<'_>) -> Vec<ConsoleExcerpt> {
    let excerpts = ends.into_iter().map(|end| {
        let ConsoleEnd {
            mut excerpt,
            console,
            start,
            from,
        } = end;
        mark_contained(&mut excerpt, reason);
        let lines = excerpt.text.lines().count();
        if from > start || lines > SHOWN_LINES {
            // A log that cannot be read is not kept.
            let whole = console.since(start).unwrap_or_default();
            let whole_lines = String::from_utf8_lossy(&whole).trim_end().lines().count();
            excerpt.more_lines = whole_lines.saturating_sub(lines) as u64;
            excerpt.file = keep(&format!("console of {}", excerpt.vm), &whole);
        }
        excerpt
    });
    excerpts.collect()
}

/// The VMs that a test in `scope` can see.
fn visible(lab: &Lab, scope: &Scope) -> Vec<Vm> {
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let vms = scopes.flat_map(|scope| lab.all_vms(scope));
    vms.filter(|vm| seen.insert(vm.id())).collect()
}

/// Marks the console if `reason` contains its end, as errors about a dead guest do.
fn mark_contained(excerpt: &mut ConsoleExcerpt, reason: &str) {
    let lines = excerpt.text.trim_end().lines().rev().take(KNOWN_BY);
    let mut lines = lines.map(str::trim).filter(|line| !line.is_empty());
    excerpt.in_reason = lines.all(|line| reason.contains(line));
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
            more_lines: 0,
            file: None,
        };
        let mut excerpts = [excerpt("one\ntwo\n\n  three\nfour"), excerpt("four\nfive")];
        for excerpt in &mut excerpts {
            mark_contained(excerpt, "it died:\n  | two\n  | three\n  | four");
        }
        assert!(excerpts[0].in_reason);
        assert!(!excerpts[1].in_reason);
    }
}
