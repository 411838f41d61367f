//! Keeps the first failure of a run.

use crate::kept::catalogue::KeptFailures;
use crate::kept::manifest::{KeptState, KeptVm};
use provium_store::Key;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many digits of a key the user types.
const DIGITS: usize = 12;

/// Keeps the first failure of a run.
#[derive(Debug)]
pub(crate) struct FailureKeeper {
    failures: KeptFailures,
    /// The command that enters a failure, up to its key.
    enter: String,
    /// A failure was kept, or is being kept.
    taken: AtomicBool,
    kept: OnceLock<KeptFailureSummary>,
}

/// The right to keep a failure. Unless one is kept, the next failure has it.
#[derive(Debug)]
pub(crate) struct KeepPermit<'a>(&'a FailureKeeper);

/// What was kept of a failed test.
#[derive(Debug, Clone)]
pub struct KeptFailureSummary {
    /// The entry in the cache.
    pub key: Key,
    /// The test's name.
    pub test: String,
    /// The test's VMs.
    pub vms: Vec<KeptVm>,
    enter: String,
}

impl FailureKeeper {
    pub(crate) fn new(failures: KeptFailures, enter: String) -> Self {
        Self {
            failures,
            enter,
            taken: AtomicBool::new(false),
            kept: OnceLock::new(),
        }
    }

    /// What was kept.
    pub(crate) fn kept(&self) -> Option<&KeptFailureSummary> {
        self.kept.get()
    }

    /// The right to keep a failure; `None` if one was kept, or is being kept.
    pub(crate) fn permit(&self) -> Option<KeepPermit<'_>> {
        let is_free = !self.taken.swap(true, Ordering::AcqRel);
        is_free.then_some(KeepPermit(self))
    }
}

impl KeepPermit<'_> {
    /// Where the failure is kept.
    pub(crate) fn failures(&self) -> &KeptFailures {
        &self.0.failures
    }

    /// The failure is in the cache.
    pub(crate) fn kept(&self, key: Key, test: &str, vms: Vec<KeptVm>) -> &KeptFailureSummary {
        let enter = self.0.enter.clone();
        let test = test.to_owned();
        let kept = || KeptFailureSummary {
            key,
            test,
            vms,
            enter,
        };
        self.0.kept.get_or_init(kept)
    }
}

impl Drop for KeepPermit<'_> {
    fn drop(&mut self) {
        if self.0.kept.get().is_none() {
            self.0.taken.store(false, Ordering::Release);
        }
    }
}

impl KeptFailureSummary {
    /// How the user enters the VMs, as a sentence without a full stop.
    pub fn hint(&self) -> String {
        let key = self.key.as_str();
        let command = format!("{} {}", self.enter, key.get(..DIGITS).unwrap_or(key));
        let is_saved = |vm: &&KeptVm| vm.state == KeptState::Saved;
        let (saved, others): (Vec<_>, Vec<_>) = self.vms.iter().partition(is_saved);
        let names = |vms: &[&KeptVm]| {
            let names: Vec<String> = vms.iter().map(|vm| format!("`{}`", vm.name)).collect();
            names.join(", ")
        };
        match (saved.as_slice(), others.is_empty()) {
            ([one], true) => format!("vm `{}` is kept; enter it with `{command}`", one.name),
            ([], _) => format!(
                "only the console of {} is kept; print it with `{command} {}`",
                names(&others),
                others.first().map_or("", |vm| vm.name.as_str())
            ),
            ([first, ..], true) => format!(
                "the VMs {} are kept; enter one with `{command} {}`",
                names(&saved),
                first.name
            ),
            ([first, ..], false) => format!(
                "{} kept, and the console of {}; enter one with `{command} {}`",
                match saved.len() {
                    1 => format!("vm {} is", names(&saved)),
                    _ => format!("the VMs {} are", names(&saved)),
                },
                names(&others),
                first.name
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;
    use provium_store::{Cache, KeyBuilder};

    fn vm(name: &str, state: KeptState) -> KeptVm {
        KeptVm {
            name: name.to_owned(),
            profile: "default".to_owned(),
            part: name.to_owned(),
            state,
        }
    }

    #[test]
    fn the_first_failure_that_is_kept_is_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::open(Utf8Path::from_path(folder.path()).unwrap()).unwrap();
        let failures = KeptFailures::new(cache.bucket("kept", 1).unwrap());
        let keeper = FailureKeeper::new(failures, "enter".to_owned());
        let first = keeper.permit().unwrap();
        assert!(keeper.permit().is_none());
        // It could not be kept.
        drop(first);
        let second = keeper.permit().unwrap();
        second.kept(KeyBuilder::new("kept").finish(), "t", Vec::new());
        drop(second);
        assert!(keeper.permit().is_none());
        assert_eq!(keeper.kept().unwrap().test, "t");
    }

    #[test]
    fn the_hint_names_a_command_for_a_vm_that_can_be_entered() {
        let key = KeyBuilder::new("kept").finish();
        let id = key.as_str()[..DIGITS].to_owned();
        let hint = |vms| {
            let (key, enter) = (key.clone(), "provium console --resume".to_owned());
            let test = "t".to_owned();
            let kept = KeptFailureSummary {
                key,
                test,
                vms,
                enter,
            };
            kept.hint().replace(&id, "ID")
        };
        let why = "dead".to_owned();
        let console = || KeptState::Console { why: why.clone() };
        let saved = || KeptState::Saved;
        assert_eq!(
            hint(vec![vm("a", saved())]),
            "vm `a` is kept; enter it with `provium console --resume ID`"
        );
        assert_eq!(
            hint(vec![vm("a", saved()), vm("b", saved())]),
            "the VMs `a`, `b` are kept; enter one with `provium console --resume ID a`"
        );
        assert_eq!(
            hint(vec![vm("a", console()), vm("b", saved())]),
            "vm `b` is kept, and the console of `a`; enter one with `provium console --resume ID b`"
        );
        assert_eq!(
            hint(vec![vm("a", console())]),
            "only the console of `a` is kept; print it with `provium console --resume ID a`"
        );
    }
}
