//! All rules of a switch, and what follows from them for a path.

use super::{Impairment, Scope};
use crate::{DropReason, PortId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The rules of a switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Rules {
    #[serde(with = "as_pairs")]
    impairments: BTreeMap<Scope, Impairment>,
    partitions: BTreeSet<(PortId, PortId)>,
    all_partitioned: bool,
    isolated: BTreeSet<PortId>,
    /// Rules that apply in addition, each set until it is removed again, by its number.
    layers: BTreeMap<u64, Self>,
}

impl Rules {
    /// Adds rules that apply in addition to the others, as if each had a scope of its own.
    pub fn add_layer(&mut self, number: u64, layer: Self) {
        self.layers.insert(number, layer);
    }

    /// Removes what [`Rules::add_layer`] added under this number, and nothing else.
    pub fn remove_layer(&mut self, number: u64) {
        self.layers.remove(&number);
    }

    /// These rules without the layers, then each layer.
    fn all(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(self.layers.values())
    }

    /// Sets the given fields of the scope's impairment; fields that are `None` stay as they are.
    ///
    /// Impairments of different scopes that apply to one path are combined; see [`Impairment`].
    pub fn impair(&mut self, scope: Scope, impairment: Impairment) {
        let entry = self.impairments.entry(scope).or_default();
        *entry = entry.updated_by(impairment);
        if *entry == Impairment::default() {
            self.impairments.remove(&scope);
        }
    }

    /// Removes the scope's impairment, and leaves those of other scopes.
    pub fn clear(&mut self, scope: Scope) {
        self.impairments.remove(&scope);
    }

    /// The impairments by scope, the widest scopes first, and then those of each layer.
    pub fn impairments(&self) -> impl Iterator<Item = (Scope, Impairment)> {
        let all = self.all().flat_map(|rules| &rules.impairments);
        all.map(|(scope, impairment)| (*scope, *impairment))
    }

    /// The impairment of exactly this scope, without those of layers.
    #[must_use]
    pub fn impairment(&self, scope: Scope) -> Impairment {
        self.impairments.get(&scope).copied().unwrap_or_default()
    }

    /// Drops what goes from one port to the other, in this direction only.
    pub fn partition(&mut self, from: PortId, to: PortId) {
        self.partitions.insert((from, to));
    }

    /// Ends [`Rules::partition`] for this direction.
    pub fn unpartition(&mut self, from: PortId, to: PortId) {
        self.partitions.remove(&(from, to));
    }

    /// Drops what goes between ports of different groups, in both directions. Ports in no group keep
    /// their connections to all.
    pub fn partition_groups(&mut self, groups: &[Vec<PortId>]) {
        for (at, group) in groups.iter().enumerate() {
            let others = groups.iter().enumerate().filter(|(other, _)| *other != at);
            for to in others.flat_map(|(_, other)| other) {
                self.partitions
                    .extend(group.iter().map(|from| (*from, *to)));
            }
        }
    }

    /// Drops what goes between any two ports, until [`Rules::restore_all`].
    pub fn partition_all(&mut self) {
        self.all_partitioned = true;
    }

    /// Ends [`Rules::partition_all`], and no other partition.
    pub fn restore_all(&mut self) {
        self.all_partitioned = false;
    }

    /// Whether nothing goes from one port to the other because of a partition.
    #[must_use]
    pub fn is_partitioned(&self, from: PortId, to: PortId) -> bool {
        self.all()
            .any(|rules| rules.all_partitioned || rules.partitions.contains(&(from, to)))
    }

    /// Drops what comes from the port and what goes to it.
    pub fn isolate(&mut self, port: PortId) {
        self.isolated.insert(port);
    }

    /// Ends [`Rules::isolate`].
    pub fn unisolate(&mut self, port: PortId) {
        self.isolated.remove(&port);
    }

    /// Whether the port is isolated.
    #[must_use]
    pub fn is_isolated(&self, port: PortId) -> bool {
        self.all().any(|rules| rules.isolated.contains(&port))
    }

    /// Removes all rules.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Removes the rules that name the port.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.impairments.retain(|scope, _| !scope.names(port));
        self.partitions
            .retain(|(from, to)| *from != port && *to != port);
        self.isolated.remove(&port);
        self.layers
            .values_mut()
            .for_each(|layer| layer.forget(port));
    }

    /// Why nothing passes from one port to the other; `None` if the path is open.
    pub(crate) fn obstacle(&self, from: PortId, to: PortId) -> Option<DropReason> {
        if self.is_isolated(from) || self.is_isolated(to) {
            Some(DropReason::Isolated)
        } else if self.is_partitioned(from, to) {
            Some(DropReason::Partition)
        } else {
            None
        }
    }

    /// What holds for frames from one port to the other.
    pub(crate) fn effective(&self, from: PortId, to: PortId) -> Impairment {
        let matching = self
            .impairments()
            .filter(|(scope, _)| scope.contains(from, to));
        matching.fold(Impairment::default(), |sum, (_, impairment)| {
            sum.combined_with(impairment)
        })
    }
}

/// The impairments as a list, since not every format has maps with such keys.
mod as_pairs {
    use super::{BTreeMap, Deserialize, Impairment, Scope, Serialize};
    use serde::{Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(
        map: &BTreeMap<Scope, Impairment>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        map.iter().collect::<Vec<_>>().serialize(to)
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(
        from: D,
    ) -> Result<BTreeMap<Scope, Impairment>, D::Error> {
        let pairs: Vec<(Scope, Impairment)> = Vec::deserialize(from)?;
        Ok(pairs.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Probability;
    use std::time::Duration;

    const A: PortId = PortId(0);
    const B: PortId = PortId(1);
    const C: PortId = PortId(2);

    fn latency(ms: u64) -> Impairment {
        Impairment {
            latency: Some(Duration::from_millis(ms)),
            ..Impairment::default()
        }
    }

    #[test]
    fn a_path_has_the_impairments_of_all_scopes_that_contain_it() {
        let mut rules = Rules::default();
        rules.impair(Scope::ALL, latency(10));
        rules.impair(Scope::path(A, B), latency(5));
        rules.impair(Scope::to(B), latency(1));
        assert_eq!(rules.effective(A, B), latency(16));
        assert_eq!(rules.effective(C, B), latency(11));
        assert_eq!(rules.effective(B, A), latency(10));
        rules.clear(Scope::ALL);
        assert_eq!(rules.effective(A, B), latency(6));
    }

    #[test]
    fn fields_that_are_set_again_are_replaced() {
        let mut rules = Rules::default();
        rules.impair(Scope::ALL, latency(10));
        let loss = Impairment {
            loss: Some(Probability::percent(5.0).expect("a percentage")),
            ..Impairment::default()
        };
        rules.impair(Scope::ALL, loss);
        rules.impair(Scope::ALL, latency(20));
        let expected = Impairment {
            latency: Some(Duration::from_millis(20)),
            ..loss
        };
        assert_eq!(rules.impairment(Scope::ALL), expected);
    }

    #[test]
    fn groups_are_partitioned_from_each_other_and_not_within() {
        let mut rules = Rules::default();
        rules.partition_groups(&[vec![A, B], vec![C]]);
        for (from, to, expected) in [(A, B, false), (A, C, true), (C, A, true), (B, C, true)] {
            assert_eq!(rules.is_partitioned(from, to), expected, "{from} to {to}");
        }
    }

    #[test]
    fn restoring_all_leaves_partitions_of_pairs() {
        let mut rules = Rules::default();
        rules.partition(A, B);
        rules.partition_all();
        assert!(rules.is_partitioned(B, C));
        rules.restore_all();
        assert!(!rules.is_partitioned(B, C));
        assert!(rules.is_partitioned(A, B));
        assert!(!rules.is_partitioned(B, A));
    }

    #[test]
    fn a_layer_adds_to_the_rules_and_leaves_them_as_they_are() {
        let mut layer = Rules::default();
        layer.impair(Scope::ALL, latency(5));
        layer.partition(A, B);
        layer.isolate(C);
        let mut rules = Rules::default();
        rules.impair(Scope::ALL, latency(10));
        rules.add_layer(7, layer);
        assert_eq!(rules.effective(A, B), latency(15));
        assert!(rules.is_partitioned(A, B) && rules.is_isolated(C));
        // What is changed meanwhile stays, also where the layer has the same rule.
        rules.impair(Scope::ALL, latency(20));
        rules.partition(A, B);
        assert_eq!(rules.impairments().count(), 2);
        rules.remove_layer(7);
        assert_eq!(rules.effective(A, B), latency(20));
        assert!(rules.is_partitioned(A, B) && !rules.is_isolated(C));
    }

    #[test]
    fn rules_of_a_removed_port_are_removed() {
        let rules_of_a = || {
            let mut rules = Rules::default();
            rules.isolate(A);
            rules.partition(A, B);
            rules.impair(Scope::from(A), latency(1));
            rules
        };
        let mut rules = rules_of_a();
        rules.add_layer(1, rules_of_a());
        rules.forget(A);
        rules.remove_layer(1);
        assert_eq!(rules, Rules::default());
        rules.add_layer(1, rules_of_a());
        rules.forget(A);
        assert_eq!(rules.effective(A, B), Impairment::default());
        assert!(rules.obstacle(A, B).is_none());
    }
}
