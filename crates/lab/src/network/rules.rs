//! Rules for the frames of a bridge: partitions, isolation, impairments.
//!
//! Each call takes effect before it returns, a partition and an isolation also for frames in flight.

use crate::error::LabError;
use crate::network::bridge::Bridge;
use provium_switch::{Impairment, PortId, Probability, Rules, Scope as Paths};
use std::time::Duration;

/// The rules of a bridge.
#[derive(Debug, Clone, Copy)]
pub struct BridgeRules<'a> {
    bridge: &'a Bridge,
}

/// Which paths something applies to, by the names of members; `None`: any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberPaths {
    /// Where frames come from.
    pub from: Option<String>,
    /// Where they go to.
    pub to: Option<String>,
}

/// A change of connectivity between members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partition {
    /// Between two members, in both directions.
    Pair(String, String),
    /// From a member or all to a member or all, in this direction.
    Paths(MemberPaths),
}

impl Bridge {
    /// Its rules.
    pub fn rules(&self) -> BridgeRules<'_> {
        BridgeRules { bridge: self }
    }
}

impl<'a> BridgeRules<'a> {
    pub(crate) fn bridge(self) -> &'a Bridge {
        self.bridge
    }

    /// Drops what goes between the members.
    ///
    /// # Errors
    /// This and the following: when the bridge is closed, or one that is named is not a member.
    pub async fn partition(self, partition: &Partition) -> Result<(), LabError> {
        let paths = self.directed("partition()", partition)?;
        self.change("partition()", move |rules| {
            paths
                .iter()
                .for_each(|(from, to)| rules.partition(*from, *to));
        })
        .await
    }

    /// Ends [`BridgeRules::partition`] for these members.
    pub async fn unpartition(self, partition: &Partition) -> Result<(), LabError> {
        let paths = self.directed("unpartition()", partition)?;
        self.change("unpartition()", move |rules| {
            paths
                .iter()
                .for_each(|(from, to)| rules.unpartition(*from, *to));
        })
        .await
    }

    /// Drops what goes between members of different groups.
    pub async fn partition_groups(self, groups: &[Vec<String>]) -> Result<(), LabError> {
        let call = "partition_groups()";
        let ports = self.groups(call, groups)?;
        self.change(call, move |rules| rules.partition_groups(&ports))
            .await
    }

    /// The ports of members in groups.
    pub(crate) fn groups(
        self,
        call: &str,
        groups: &[Vec<String>],
    ) -> Result<Vec<Vec<PortId>>, LabError> {
        let mut seen: Vec<&str> = Vec::new();
        for name in groups.iter().flatten() {
            if seen.contains(&name.as_str()) {
                let why = format!("`{name}` is in two groups");
                return Err(self.bridge.0.invalid(call, why));
            }
            seen.push(name);
        }
        let ports = groups.iter().map(|group| {
            let ports = group.iter().map(|name| self.bridge.0.port_of(call, name));
            ports.collect::<Result<Vec<_>, _>>()
        });
        ports.collect()
    }

    /// Drops what goes between any two members, until [`BridgeRules::restore_all`].
    pub async fn partition_all(self) -> Result<(), LabError> {
        self.change("partition_all()", Rules::partition_all).await
    }

    /// Ends [`BridgeRules::partition_all`], and no other partition.
    pub async fn restore_all(self) -> Result<(), LabError> {
        self.change("restore_all()", Rules::restore_all).await
    }

    /// Whether nothing goes from `from` to `to` because of a partition.
    pub async fn is_partitioned(self, from: &str, to: &str) -> Result<bool, LabError> {
        let call = "is_partitioned()";
        let from = self.bridge.0.port_of(call, from)?;
        let to = self.bridge.0.port_of(call, to)?;
        self.read(call, move |rules| rules.is_partitioned(from, to))
            .await
    }

    /// Drops what comes from a member and what goes to it.
    pub async fn isolate(self, member: &str) -> Result<(), LabError> {
        let port = self.bridge.0.port_of("isolate()", member)?;
        self.change("isolate()", move |rules| rules.isolate(port))
            .await
    }

    /// Ends [`BridgeRules::isolate`].
    pub async fn unisolate(self, member: &str) -> Result<(), LabError> {
        let port = self.bridge.0.port_of("unisolate()", member)?;
        self.change("unisolate()", move |rules| rules.unisolate(port))
            .await
    }

    /// Whether a member is isolated.
    pub async fn is_isolated(self, member: &str) -> Result<bool, LabError> {
        let port = self.bridge.0.port_of("is_isolated()", member)?;
        self.read("is_isolated()", move |rules| rules.is_isolated(port))
            .await
    }

    /// Sets the given fields of the impairment of exactly these paths; `call` is what the author called. A field of
    /// no effect, such as a latency of 0, ends what was set before.
    pub async fn impair(
        self,
        call: &str,
        paths: &MemberPaths,
        impairment: Impairment,
    ) -> Result<(), LabError> {
        let paths = self.paths(call, paths)?;
        self.change(call, move |rules| {
            rules.impair(paths, impairment);
            let impairment = effective_fields(rules.impairment(paths));
            rules.clear(paths);
            rules.impair(paths, impairment);
        })
        .await
    }

    /// Removes the impairment of exactly these paths.
    pub async fn clear(self, call: &str, paths: &MemberPaths) -> Result<(), LabError> {
        let paths = self.paths(call, paths)?;
        self.change(call, move |rules| rules.clear(paths)).await
    }

    /// The impairment of exactly these paths.
    pub async fn impairment(self, call: &str, paths: &MemberPaths) -> Result<Impairment, LabError> {
        let paths = self.paths(call, paths)?;
        self.read(call, move |rules| rules.impairment(paths)).await
    }

    /// All impairments, the widest first.
    pub async fn impairments(self) -> Result<Vec<(MemberPaths, Impairment)>, LabError> {
        let call = "impairments()";
        let found = self
            .read(call, |rules| rules.impairments().collect::<Vec<_>>())
            .await?;
        let entries = self.bridge.0.entries();
        let name = |port| {
            let entry = entries.iter().find(|entry| entry.member.port == port);
            entry.map(|entry| entry.member.name.clone())
        };
        let named = found.into_iter().map(|(paths, impairment)| {
            let paths = MemberPaths {
                from: paths.from.and_then(name),
                to: paths.to.and_then(name),
            };
            (paths, impairment)
        });
        Ok(named.collect())
    }

    /// Ends all partitions, isolations and impairments.
    pub async fn reset(self) -> Result<(), LabError> {
        self.change("reset()", Rules::reset).await
    }

    pub(crate) async fn change(
        self,
        call: &str,
        change: impl FnOnce(&mut Rules) + Send + 'static,
    ) -> Result<(), LabError> {
        let switch = self.bridge.0.switch(call)?;
        let changed = switch
            .with(move |fabric, output| fabric.change_rules(output, change))
            .await;
        changed.map_err(|error| self.bridge.0.stopped(call, error))
    }

    async fn read<T: Send + 'static>(
        self,
        call: &str,
        read: impl FnOnce(&Rules) -> T + Send + 'static,
    ) -> Result<T, LabError> {
        let switch = self.bridge.0.switch(call)?;
        let found = switch.with(move |fabric, _| read(fabric.rules())).await;
        found.map_err(|error| self.bridge.0.stopped(call, error))
    }

    pub(crate) fn paths(self, call: &str, paths: &MemberPaths) -> Result<Paths, LabError> {
        let port = |name: &Option<String>| {
            let port = name.as_ref().map(|name| self.bridge.0.port_of(call, name));
            port.transpose()
        };
        let (from, to) = (port(&paths.from)?, port(&paths.to)?);
        if from.is_some() && from == to {
            let name = paths.from.as_deref().unwrap_or_default();
            let why = format!("`from` and `to` are both `{name}`");
            return Err(self.bridge.0.invalid(call, why));
        }
        Ok(Paths { from, to })
    }

    /// The directed pairs of ports that are meant.
    pub(crate) fn directed(
        self,
        call: &str,
        partition: &Partition,
    ) -> Result<Vec<(PortId, PortId)>, LabError> {
        let paths = match partition {
            Partition::Pair(a, b) => {
                let pair = MemberPaths {
                    from: Some(a.clone()),
                    to: Some(b.clone()),
                };
                let pair = self.paths(call, &pair)?;
                // Both are given.
                let both = pair.from.zip(pair.to).into_iter();
                return Ok(both.flat_map(|(a, b)| [(a, b), (b, a)]).collect());
            }
            Partition::Paths(paths) => self.paths(call, paths)?,
        };
        let ports: Vec<_> = self.bridge.0.entries().into_iter().collect();
        let ports: Vec<_> = ports.iter().map(|entry| entry.member.port).collect();
        let pairs = ports
            .iter()
            .flat_map(|from| ports.iter().map(move |to| (*from, *to)));
        let pairs = pairs.filter(|(from, to)| {
            from != to
                && paths.from.is_none_or(|port| port == *from)
                && paths.to.is_none_or(|port| port == *to)
        });
        Ok(pairs.collect())
    }
}

/// The same without the fields that have no effect.
fn effective_fields(impairment: Impairment) -> Impairment {
    let time = |time: Option<Duration>| time.filter(|time| !time.is_zero());
    let share = |share: Option<Probability>| share.filter(|share| *share != Probability::NEVER);
    let number = |number: Option<u64>| number.filter(|number| *number > 0);
    Impairment {
        latency: time(impairment.latency),
        jitter: time(impairment.jitter),
        loss: share(impairment.loss),
        burst: impairment.burst.filter(|burst| *burst > 1.0),
        duplicate: share(impairment.duplicate),
        reorder: share(impairment.reorder),
        corrupt: share(impairment.corrupt),
        rate: number(impairment.rate),
        queue: number(impairment.queue),
    }
}
