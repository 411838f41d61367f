//! Behind which port a station is.

use crate::{MacAddress, PortId, Time};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// How long an address is remembered after its last frame (the default of IEEE 802.1D).
const AGE: Duration = Duration::from_secs(300);
/// Addresses that are remembered for one port. A station that sends from more has its oldest ones
/// forgotten, and does not take the place of others.
const PER_PORT: usize = 1024;

/// The stations that have sent something, with their ports.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(from = "Vec<Station>", into = "Vec<Station>")]
pub(crate) struct MacTable {
    entries: HashMap<MacAddress, Entry>,
    /// Entries of each port.
    counts: HashMap<PortId, usize>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    port: PortId,
    last_seen: Time,
}

/// An entry as it is saved.
#[derive(Serialize, Deserialize)]
struct Station {
    address: MacAddress,
    port: PortId,
    last_seen: Time,
}

impl MacTable {
    /// Notes that `address` has sent a frame through `port`. Group addresses are not senders, so they are
    /// not learned.
    pub(crate) fn learn(&mut self, now: Time, address: MacAddress, port: PortId) {
        if address.is_group() {
            return;
        }
        if let Some(entry) = self.entries.get_mut(&address)
            && entry.port == port
        {
            entry.last_seen = now;
            return;
        }
        if self.count(port) >= PER_PORT {
            self.forget_oldest(port);
        }
        let entry = Entry {
            port,
            last_seen: now,
        };
        if let Some(moved) = self.entries.insert(address, entry) {
            self.counts
                .entry(moved.port)
                .and_modify(|count| *count -= 1);
        }
        *self.counts.entry(port).or_default() += 1;
    }

    /// The port behind which `address` is; `None` if it is not known.
    pub(crate) fn look_up(&self, now: Time, address: MacAddress) -> Option<PortId> {
        let entry = self.entries.get(&address)?;
        (now.since(entry.last_seen) <= AGE).then_some(entry.port)
    }

    /// Forgets the stations behind a port.
    pub(crate) fn forget(&mut self, port: PortId) {
        self.entries.retain(|_, entry| entry.port != port);
        self.counts.remove(&port);
    }

    /// The ports that have stations.
    pub(crate) fn ports(&self) -> impl Iterator<Item = PortId> {
        self.entries.values().map(|entry| entry.port)
    }

    fn count(&self, port: PortId) -> usize {
        self.counts.get(&port).copied().unwrap_or(0)
    }

    /// Forgets the older half of a port's stations: of a port that sends from ever new addresses, a search
    /// for one entry at a time would be slow.
    fn forget_oldest(&mut self, port: PortId) {
        let of_port = |entry: &&Entry| entry.port == port;
        let mut times: Vec<Time> = self
            .entries
            .values()
            .filter(of_port)
            .map(|e| e.last_seen)
            .collect();
        times.sort_unstable();
        let limit = times[times.len() / 2];
        self.entries
            .retain(|_, entry| entry.port != port || entry.last_seen > limit);
        let left = self.entries.values().filter(of_port).count();
        self.counts.insert(port, left);
    }
}

impl From<Vec<Station>> for MacTable {
    fn from(stations: Vec<Station>) -> Self {
        let mut table = Self::default();
        for Station {
            address,
            port,
            last_seen,
        } in stations
        {
            table.learn(last_seen, address, port);
        }
        table
    }
}

impl From<MacTable> for Vec<Station> {
    fn from(table: MacTable) -> Self {
        let stations = table.entries.into_iter().map(|(address, entry)| Station {
            address,
            port: entry.port,
            last_seen: entry.last_seen,
        });
        let mut stations: Self = stations.collect();
        stations.sort_by_key(|station| (station.last_seen, station.address));
        stations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PortId = PortId(0);
    const B: PortId = PortId(1);

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn a_station_is_where_it_last_sent_from() {
        let mut table = MacTable::default();
        let station = MacAddress::local(1);
        assert_eq!(table.look_up(at(0), station), None);
        table.learn(at(0), station, A);
        assert_eq!(table.look_up(at(1), station), Some(A));
        table.learn(at(2), station, B);
        assert_eq!(table.look_up(at(3), station), Some(B));
        assert_eq!((table.count(A), table.count(B)), (0, 1));
    }

    #[test]
    fn a_silent_station_is_forgotten_after_five_minutes() {
        let mut table = MacTable::default();
        table.learn(at(0), MacAddress::local(1), A);
        assert_eq!(table.look_up(at(300), MacAddress::local(1)), Some(A));
        assert_eq!(table.look_up(at(301), MacAddress::local(1)), None);
    }

    #[test]
    fn group_addresses_are_not_learned() {
        let mut table = MacTable::default();
        table.learn(at(0), MacAddress::BROADCAST, A);
        assert_eq!(table.look_up(at(0), MacAddress::BROADCAST), None);
    }

    #[test]
    fn a_port_that_sends_from_many_addresses_displaces_its_own_only() {
        let mut table = MacTable::default();
        table.learn(at(0), MacAddress::local(0), B);
        for n in 1..=10_000 {
            table.learn(at(n), MacAddress::local(n), A);
        }
        assert!(table.count(A) <= PER_PORT);
        assert_eq!(table.look_up(at(1), MacAddress::local(0)), Some(B));
        assert_eq!(
            table.look_up(at(10_000), MacAddress::local(10_000)),
            Some(A)
        );
        table.forget(A);
        assert_eq!(table.entries.len(), 1);
    }
}
