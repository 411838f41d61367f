//! The last of what the VMs of a test said on their consoles.

use provium_lab::{Lab, Scope};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Bytes kept of each console.
const TAIL: u64 = 4 * 1024;

/// The tails of the consoles that a test in `scope` could see, each under its VM's name; empty where
/// nothing booted.
pub(crate) fn tails(lab: &Lab, scope: &Scope) -> String {
    let mut text = String::new();
    let mut seen = BTreeSet::new();
    let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
    let vms = scopes.flat_map(|scope| lab.all_vms(scope));
    for vm in vms.filter(|vm| seen.insert(vm.id())) {
        let console = vm.console();
        let from = console.mark().saturating_sub(TAIL);
        let tail = console.since(from).unwrap_or_default();
        if !tail.is_empty() {
            let tail = String::from_utf8_lossy(&tail).replace('\r', "");
            let _ = writeln!(text, "--- console of vm `{}`", vm.name());
            let _ = writeln!(text, "{}", tail.trim_end());
        }
    }
    text
}
