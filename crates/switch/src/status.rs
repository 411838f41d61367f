//! The state of a switch at one time, for reports and assertions.

use crate::{DropReason, Fabric, Impairment, PathCounters, PortCounters, PortId};
use serde::{Deserialize, Serialize};

/// All ports and paths of a switch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Status {
    /// The ports, in the order in which they were added.
    pub ports: Vec<PortStatus>,
    /// The path from each port to each other one: by the port at its beginning, then by that at its end.
    pub paths: Vec<PathStatus>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortStatus {
    /// The port.
    pub id: PortId,
    /// Its name.
    pub name: String,
    /// Longest payload that is forwarded, bytes.
    pub mtu: usize,
    /// Whether it has a carrier.
    pub link_is_up: bool,
    /// Whether it is isolated.
    pub is_isolated: bool,
    /// What passed it.
    pub counters: PortCounters,
}

/// The path from one port to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PathStatus {
    /// Where it begins.
    pub from: PortId,
    /// Where it ends.
    pub to: PortId,
    /// The rule that lets nothing pass: a partition, or an isolated port.
    pub obstacle: Option<DropReason>,
    /// The impairments of all scopes that contain the path, combined.
    pub impairment: Impairment,
    /// Bytes of the frames that are on their way.
    pub in_flight: usize,
    /// What happened on it.
    pub counters: PathCounters,
}

impl Fabric {
    /// The state of all ports and paths.
    #[must_use]
    pub fn status(&self) -> Status {
        let ports = self.ports().filter_map(|id| self.port_status(id)).collect();
        let pairs = self
            .ports()
            .flat_map(|from| self.ports().map(move |to| (from, to)));
        let paths = pairs
            .filter(|(from, to)| from != to)
            .map(|(from, to)| {
                let path = &self.paths[from.index()][to.index()];
                PathStatus {
                    from,
                    to,
                    obstacle: self.rules.obstacle(from, to),
                    impairment: self.rules.effective(from, to),
                    in_flight: path.in_flight(),
                    counters: path.counters,
                }
            })
            .collect();
        Status { ports, paths }
    }

    fn port_status(&self, id: PortId) -> Option<PortStatus> {
        let port = self.ports[id.index()].as_ref()?;
        Some(PortStatus {
            id,
            name: port.name.clone(),
            mtu: port.mtu,
            link_is_up: port.link_is_up,
            is_isolated: self.rules.is_isolated(id),
            counters: port.counters,
        })
    }
}

impl Status {
    /// The port with this name.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<&PortStatus> {
        self.ports.iter().find(|port| port.name == name)
    }

    /// The path from one port to another; `None` if one does not exist, or both are the same.
    #[must_use]
    pub fn path(&self, from: PortId, to: PortId) -> Option<&PathStatus> {
        let mut paths = self.paths.iter();
        paths.find(|path| path.from == from && path.to == to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MacAddress, Output, PortSettings, Scope, Time};
    use bytes::Bytes;
    use std::time::Duration;

    fn latency(ms: u64) -> Impairment {
        Impairment {
            latency: Some(Duration::from_millis(ms)),
            ..Impairment::default()
        }
    }

    #[test]
    fn the_status_has_every_port_and_every_directed_pair() {
        let mut fabric = Fabric::new(1);
        let mut out = Output::default();
        let [a, b, c] = ["a", "b", "c"].map(|name| fabric.add_port(PortSettings::new(name)));
        fabric.change_rules(&mut out, |rules| {
            rules.impair(Scope::ALL, latency(10));
            rules.impair(Scope::path(a, b), latency(5));
            rules.isolate(c);
        });
        let frame = [
            &MacAddress::BROADCAST.0[..],
            &MacAddress::local(1).0,
            &[0; 48],
        ]
        .concat();
        let sent = fabric.receive(Time::ZERO, a, Bytes::from(frame), &mut out);
        sent.expect("a port");
        let status = fabric.status();
        let names: Vec<_> = status.ports.iter().map(|port| &*port.name).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(status.paths.len(), 6);
        assert_eq!(status.port("a").expect("a port").counters.tx_frames, 1);
        assert!(status.port("c").expect("a port").is_isolated);
        let there = status.path(a, b).expect("a path");
        assert_eq!((there.impairment, there.in_flight), (latency(15), 60));
        assert_eq!(status.path(b, a).expect("a path").impairment, latency(10));
        let isolated = status.path(a, c).expect("a path");
        assert_eq!(isolated.obstacle, Some(DropReason::Isolated));
        assert_eq!(isolated.counters.dropped_for(DropReason::Isolated), 1);
        fabric.remove_port(b, &mut out).expect("a port");
        assert_eq!(fabric.status().paths.len(), 2);
    }
}
