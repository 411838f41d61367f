//! The Ethernet addresses of the stations that packets are for, and the packets that wait for them.

use super::InterfaceId;
use crate::{MacAddress, Time};
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

/// How long an address is used without hearing from the station.
pub const NEIGHBOR_AGE: Duration = Duration::from_secs(60);
/// How long a packet waits for the answer of its station, which is asked once a second.
pub const RESOLUTION_TIME: Duration = Duration::from_secs(3);
/// Packets that wait for one station. The oldest makes room for the next.
pub const HELD_PACKETS: usize = 16;
/// Stations that packets wait for. Packets for further ones are dropped.
pub const HELD_STATIONS: usize = 1024;
/// Bytes of all packets that wait. More are dropped.
pub const HELD_BYTES: usize = 4 << 20;
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Stations that are remembered. A sender of ever new addresses displaces older ones.
const STATIONS: usize = 4096;

type Station = (InterfaceId, IpAddr);

#[derive(Debug, Clone, Default)]
pub(super) struct Neighbors {
    known: BTreeMap<Station, KnownNeighbor>,
    wanted: BTreeMap<Station, PendingNeighbor>,
    /// Bytes of the packets that wait.
    held: usize,
}

#[derive(Debug, Clone, Copy)]
struct KnownNeighbor {
    mac: MacAddress,
    heard: Time,
}

#[derive(Debug, Clone)]
struct PendingNeighbor {
    since: Time,
    next_ask: Time,
    packets: VecDeque<Vec<u8>>,
}

/// What has become due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NeighborEvent {
    /// The station must be asked.
    Ask(Station),
    /// The station does not answer; these packets cannot be delivered.
    Unreachable(Station, Vec<Vec<u8>>),
}

impl Neighbors {
    /// The address of a station, if it is known.
    pub(super) fn look_up(&self, now: Time, station: Station) -> Option<MacAddress> {
        let known = self.known.get(&station)?;
        (now.since(known.heard) <= NEIGHBOR_AGE).then_some(known.mac)
    }

    /// Holds a packet until the station has answered. Returns whether to ask it now.
    #[must_use]
    pub(super) fn hold(&mut self, now: Time, station: Station, packet: Vec<u8>) -> bool {
        let is_new = !self.wanted.contains_key(&station);
        let is_full = is_new && self.wanted.len() >= HELD_STATIONS;
        if is_full || self.held + packet.len() > HELD_BYTES {
            return false;
        }
        let wanted = self
            .wanted
            .entry(station)
            .or_insert_with(|| PendingNeighbor {
                since: now,
                next_ask: now + ASK_INTERVAL,
                packets: VecDeque::new(),
            });
        if wanted.packets.len() == HELD_PACKETS {
            let dropped = wanted.packets.pop_front();
            self.held -= dropped.map_or(0, |packet| packet.len());
        }
        self.held += packet.len();
        wanted.packets.push_back(packet);
        is_new
    }

    /// Notes the address of a station, and returns the packets that waited for it.
    pub(super) fn learn(
        &mut self,
        now: Time,
        station: Station,
        mac: MacAddress,
    ) -> VecDeque<Vec<u8>> {
        if mac.is_group() {
            return VecDeque::new();
        }
        if self.known.len() >= STATIONS && !self.known.contains_key(&station) {
            self.known
                .retain(|_, known| now.since(known.heard) <= NEIGHBOR_AGE / 2);
            if self.known.len() >= STATIONS {
                self.known.clear();
            }
        }
        self.known
            .insert(station, KnownNeighbor { mac, heard: now });
        let packets = self
            .wanted
            .remove(&station)
            .map_or_else(VecDeque::new, |wanted| wanted.packets);
        self.held -= bytes(&packets);
        packets
    }

    /// Forgets what belongs to an interface.
    pub(super) fn forget(&mut self, interface: InterfaceId) {
        self.known.retain(|(at, _), _| *at != interface);
        self.wanted.retain(|(at, _), _| *at != interface);
        self.held = self
            .wanted
            .values()
            .map(|wanted| bytes(&wanted.packets))
            .sum();
    }

    pub(super) fn next_due(&self) -> Option<Time> {
        self.wanted.values().map(|wanted| wanted.next_ask).min()
    }

    pub(super) fn take_due(&mut self, now: Time) -> Vec<NeighborEvent> {
        let mut due = Vec::new();
        self.wanted.retain(|station, wanted| {
            if wanted.next_ask > now {
                return true;
            }
            if now.since(wanted.since) >= RESOLUTION_TIME {
                self.held -= bytes(&wanted.packets);
                let packets = std::mem::take(&mut wanted.packets).into();
                due.push(NeighborEvent::Unreachable(*station, packets));
                return false;
            }
            wanted.next_ask = now + ASK_INTERVAL;
            due.push(NeighborEvent::Ask(*station));
            true
        });
        due
    }
}

fn bytes(packets: &VecDeque<Vec<u8>>) -> usize {
    packets.iter().map(Vec::len).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const STATION: Station = (InterfaceId(0), IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    #[test]
    fn packets_wait_until_the_station_answers() {
        let mut neighbors = Neighbors::default();
        assert!(neighbors.hold(at(0), STATION, vec![1]));
        assert!(!neighbors.hold(at(0), STATION, vec![2]));
        assert_eq!(neighbors.next_due(), Some(at(1)));
        let packets = neighbors.learn(at(0), STATION, MacAddress::local(1));
        assert_eq!(packets, [[1], [2]]);
        assert_eq!(
            neighbors.look_up(at(60), STATION),
            Some(MacAddress::local(1))
        );
        assert_eq!(neighbors.look_up(at(61), STATION), None);
    }

    #[test]
    fn a_station_that_does_not_answer_is_asked_three_times() {
        let mut neighbors = Neighbors::default();
        assert!(neighbors.hold(at(0), STATION, vec![1]));
        assert_eq!(neighbors.take_due(at(1)), [NeighborEvent::Ask(STATION)]);
        assert_eq!(neighbors.take_due(at(1)), []);
        assert_eq!(neighbors.take_due(at(2)), [NeighborEvent::Ask(STATION)]);
        assert_eq!(
            neighbors.take_due(at(3)),
            [NeighborEvent::Unreachable(STATION, vec![vec![1]])]
        );
        assert_eq!(neighbors.next_due(), None);
    }

    #[test]
    fn memory_is_bounded_whatever_is_sent() {
        let mut neighbors = Neighbors::default();
        for n in 0..100 {
            let _ = neighbors.hold(at(0), STATION, vec![n]);
        }
        assert_eq!(
            neighbors.learn(at(0), STATION, MacAddress::local(1)).len(),
            HELD_PACKETS
        );
        for n in 0..10_000 {
            let address = IpAddr::V4(Ipv4Addr::from_bits(n));
            neighbors.learn(at(0), (InterfaceId(0), address), MacAddress::local(1));
        }
        assert!(neighbors.known.len() <= STATIONS);
        for n in 0..2 * HELD_STATIONS as u32 {
            let station = (InterfaceId(0), IpAddr::V4(Ipv4Addr::from_bits(n)));
            assert_eq!(
                neighbors.hold(at(0), station, vec![0; 60]),
                n < HELD_STATIONS as u32
            );
        }
        neighbors.forget(InterfaceId(0));
        assert_eq!((neighbors.held, neighbors.next_due()), (0, None));
        for _ in 0..100 {
            for n in 0..HELD_STATIONS as u32 {
                let station = (InterfaceId(0), IpAddr::V4(Ipv4Addr::from_bits(n)));
                let _ = neighbors.hold(at(0), station, vec![0; 60_000]);
            }
        }
        assert!(neighbors.held <= HELD_BYTES);
        assert_eq!(neighbors.take_due(at(3)).len(), HELD_BYTES / 60_000);
        assert_eq!(neighbors.held, 0);
    }
}
