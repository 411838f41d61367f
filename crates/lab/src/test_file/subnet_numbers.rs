//! The numbers of subnets: each bridge of a file has another one.

use crate::lock::lock;
use crate::resource::{ResourceId, Scope};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

/// The numbers that are taken, by the outermost scope. Tests that run in parallel have scopes of their own, so the
/// addresses of one do not depend on the others.
#[derive(Debug, Default)]
pub(crate) struct SubnetNumbers(Mutex<BTreeMap<ResourceId, BTreeSet<u16>>>);

impl SubnetNumbers {
    /// Takes the smallest number from 1 on that is free; `None` if none is.
    pub(crate) fn take(&self, scope: &Scope) -> Option<u16> {
        let mut all = lock(&self.0);
        let taken = all.entry(scope.file_scope().id()).or_default();
        let free = (1..=u16::MAX).find(|number| !taken.contains(number))?;
        taken.insert(free);
        Some(free)
    }

    /// Takes this number, which a saved bridge has.
    pub(crate) fn take_again(&self, scope: &Scope, number: u16) {
        let mut all = lock(&self.0);
        all.entry(scope.file_scope().id())
            .or_default()
            .insert(number);
    }

    /// Returns a number that was taken in this outermost scope.
    pub(crate) fn give_back(&self, file_scope: ResourceId, number: u16) {
        let mut all = lock(&self.0);
        if let Some(taken) = all.get_mut(&file_scope) {
            taken.remove(&number);
            if taken.is_empty() {
                all.remove(&file_scope);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outermost_scope_counts_for_itself() {
        let numbers = SubnetNumbers::default();
        let (file, other) = (Scope::file("f"), Scope::file("g"));
        assert_eq!(numbers.take(&file), Some(1));
        assert_eq!(numbers.take(&file.child("t")), Some(2));
        assert_eq!(numbers.take(&other), Some(1));
        numbers.give_back(file.id(), 1);
        assert_eq!(numbers.take(&file), Some(1));
        numbers.take_again(&file, 3);
        assert_eq!(numbers.take(&file), Some(4));
    }
}
