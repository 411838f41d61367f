//! VMs of the file that have died, and in which test. The first failure shows how a VM died and the end of its
//! console; later tests that use it only refer to that test.

use crate::engine::file_data::file_data;
use crate::engine::test_file::TestFileState;
use mlua::Lua;
use provium_lab::{LabError, Vm, VmState};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// The tests in which VMs died, by what messages call the VM.
#[derive(Debug, Default)]
pub(crate) struct Deaths(RefCell<BTreeMap<String, String>>);

impl Deaths {
    /// Notes which of the file's VMs are dead at the end of `test`.
    pub(crate) fn note<'a>(&self, test: &str, vms: impl Iterator<Item = &'a Vm>) {
        let mut deaths = self.0.borrow_mut();
        for vm in vms {
            if vm.state() == VmState::Dead {
                deaths
                    .entry(vm.subject())
                    .or_insert_with(|| test.to_owned());
            } else {
                deaths.remove(&vm.subject());
            }
        }
    }

    /// The test before `current` in which the VM died that an error about `subject` is about.
    fn earlier(&self, subject: &str, current: Option<&str>) -> Option<String> {
        let deaths = self.0.borrow();
        // It may be about something in the VM: ``process 7 of vm `web` ``.
        let (_, test) = deaths
            .iter()
            .find(|(vm, _)| subject.ends_with(vm.as_str()))?;
        (current != Some(test.as_str())).then(|| test.clone())
    }
}

/// The text of an error about a VM that died in an earlier test.
pub(crate) fn earlier_death(lua: &Lua, error: &LabError) -> Option<String> {
    let LabError::Dead { subject, call, .. } = error else {
        return None;
    };
    let group = TestFileState::of(lua).current_group();
    let test = file_data::<Deaths>(lua).earlier(subject, group.test.as_deref())?;
    Some(format!("{subject}: {call}: the VM died in test `{test}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_earlier_test_is_named() {
        let deaths = Deaths::default();
        let known = ("vm `web`".to_owned(), "breaks it".to_owned());
        deaths.0.borrow_mut().extend([known]);
        let earlier = |subject, test| deaths.earlier(subject, test);
        assert_eq!(earlier("vm `web`", Some("next")).unwrap(), "breaks it");
        assert_eq!(earlier("file `/x` of vm `web`", None).unwrap(), "breaks it");
        assert_eq!(earlier("vm `web`", Some("breaks it")), None);
        assert_eq!(earlier("vm `db`", Some("next")), None);
    }
}
