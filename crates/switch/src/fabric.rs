//! The switch as a state machine.

use crate::frame::payload_len;
use crate::in_flight::{InFlight, Transit};
use crate::mac_table::MacTable;
use crate::path::{Path, PathOutcome, mixed};
use crate::port::Port;
use crate::{
    DropReason, Header, MAX_MTU, MIN_MTU, PathCounters, PortCounters, PortId, PortSettings, Rules,
    Time,
};
use bytes::Bytes;
use thiserror::Error;

/// An Ethernet switch; see the [crate](crate).
///
/// Times that it is given must not decrease.
#[derive(Debug, Clone)]
pub struct Fabric {
    pub(crate) seed: u64,
    /// By the index of their ids; `None`: removed.
    pub(crate) ports: Vec<Option<Port>>,
    /// By the index of the port at their beginning, then of that at their end.
    pub(crate) paths: Vec<Vec<Path>>,
    pub(crate) stations: MacTable,
    pub(crate) rules: Rules,
    pub(crate) in_flight: InFlight,
}

/// A frame that has arrived at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The port that it came from.
    pub from: PortId,
    /// The port that it has arrived at.
    pub to: PortId,
    /// The frame.
    pub frame: Bytes,
}

/// A frame that was dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedFrame {
    /// Why.
    pub reason: DropReason,
    /// The port that it came from.
    pub from: PortId,
    /// The port that it was to arrive at; `None` if it was dropped before that was determined.
    pub to: Option<PortId>,
    /// The frame.
    pub frame: Bytes,
}

/// What comes out of a [`Fabric`]. It is appended to, so that one can be used many times.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// The frames that have arrived, in the order of their arrival.
    pub deliveries: Vec<Delivery>,
    /// The frames that were dropped; `None`: they are counted only.
    pub drops: Option<Vec<DroppedFrame>>,
}

/// The port was removed, or belongs to another fabric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the switch has no {0}")]
pub struct UnknownPort(pub PortId);

impl Fabric {
    /// A switch without ports. `seed` decides what its impairments draw.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ports: Vec::new(),
            paths: Vec::new(),
            stations: MacTable::default(),
            rules: Rules::default(),
            in_flight: InFlight::default(),
        }
    }

    /// Adds a port, with its link up.
    pub fn add_port(&mut self, settings: PortSettings) -> PortId {
        // 2^32 ports need more memory than there is.
        let id = PortId(u32::try_from(self.ports.len()).unwrap_or(u32::MAX));
        let seed_to = |to: &str| path_seed(self.seed, &settings.name, to);
        let seed_from = |from: &str| path_seed(self.seed, from, &settings.name);
        let name_of = |port: &Option<Port>| port.as_ref().map_or("", |port| &*port.name).to_owned();
        let names: Vec<String> = self.ports.iter().map(name_of).collect();
        for (paths, from) in self.paths.iter_mut().zip(&names) {
            paths.push(Path::new(seed_from(from)));
        }
        let to_others = names.iter().map(|to| Path::new(seed_to(to)));
        self.paths.push(to_others.chain([Path::new(0)]).collect());
        self.ports.push(Some(Port {
            name: settings.name,
            mtu: settings.mtu.clamp(MIN_MTU, MAX_MTU),
            link_is_up: true,
            counters: PortCounters::default(),
        }));
        // There is nothing in flight from or to the new port.
        self.apply_rules(&mut Output::default());
        id
    }

    /// Removes a port, with the rules that name it. Frames in flight from and to it are dropped.
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn remove_port(&mut self, port: PortId, out: &mut Output) -> Result<(), UnknownPort> {
        self.port(port)?;
        self.drop_in_flight(out, |transit| {
            let is_affected = transit.from == port || transit.to == port;
            is_affected.then_some(DropReason::PortRemoved)
        });
        self.ports[port.index()] = None;
        self.stations.forget(port);
        self.rules.forget(port);
        self.apply_rules(out);
        Ok(())
    }

    /// Sets the carrier of a port. Frames from and to a port without carrier are dropped, also those in flight.
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn set_link(
        &mut self,
        port: PortId,
        is_up: bool,
        out: &mut Output,
    ) -> Result<(), UnknownPort> {
        self.port_mut(port)?.link_is_up = is_up;
        if !is_up {
            self.stations.forget(port);
            self.drop_in_flight(out, |transit| {
                let is_affected = transit.from == port || transit.to == port;
                is_affected.then_some(DropReason::LinkDown)
            });
        }
        Ok(())
    }

    /// What was asked for.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Changes the rules. A partition and an isolated port also drop what is in flight; other changes apply
    /// to the frames that follow.
    pub fn change_rules<T>(&mut self, out: &mut Output, change: impl FnOnce(&mut Rules) -> T) -> T {
        let result = change(&mut self.rules);
        self.apply_rules(out);
        result
    }

    /// Takes a frame from a port. What arrives at once is in `out`; for the rest, see [`Fabric::next_due`].
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn receive(
        &mut self,
        now: Time,
        from: PortId,
        frame: Bytes,
        out: &mut Output,
    ) -> Result<(), UnknownPort> {
        // A frame that arrives now was sent earlier.
        self.advance(now, out);
        let port = self.port_mut(from)?;
        port.counters.tx_frames += 1;
        port.counters.tx_bytes += frame.len() as u64;
        let (is_up, mtu) = (port.link_is_up, port.mtu);
        let refused = match Header::of(&frame) {
            None => Err(DropReason::TooShort),
            Some(_) if payload_len(&frame) > mtu => Err(DropReason::TooLong),
            Some(_) if !is_up => Err(DropReason::LinkDown),
            Some(_) if self.rules.is_isolated(from) => Err(DropReason::Isolated),
            Some(header) => Ok(header),
        };
        let header = match refused {
            Ok(header) => header,
            Err(reason) => {
                self.port_mut(from)?.counters.tx_dropped += 1;
                out.drop(reason, from, None, frame);
                return Ok(());
            }
        };
        self.stations.learn(now, header.source, from);
        match self.destination(now, header) {
            Some(to) if to == from => {}
            Some(to) => self.send(now, from, to, frame, out),
            None => {
                for index in 0..self.ports.len() {
                    let to = PortId(index as u32);
                    if to != from && self.ports[index].is_some() {
                        self.send(now, from, to, frame.clone(), out);
                    }
                }
            }
        }
        Ok(())
    }

    /// Delivers what has arrived by `now`.
    pub fn advance(&mut self, now: Time, out: &mut Output) {
        while let Some(transit) = self.in_flight.pop_due(now) {
            let Transit {
                from, to, frame, ..
            } = transit;
            self.paths[from.index()][to.index()].remove_in_flight(frame.len());
            self.deliver(from, to, frame, out);
        }
    }

    /// Counts a frame that was delivered to a port whose receiver had no room for it.
    pub(crate) fn count_rx_drop(&mut self, port: PortId) {
        if let Ok(port) = self.port_mut(port) {
            port.counters.rx_dropped += 1;
        }
    }

    /// Counts a frame that a port could not send.
    pub(crate) fn count_tx_drop(&mut self, port: PortId) {
        if let Ok(port) = self.port_mut(port) {
            port.counters.tx_dropped += 1;
        }
    }

    /// When [`Fabric::advance`] has something to deliver; `None` if nothing is in flight.
    #[must_use]
    pub fn next_due(&self) -> Option<Time> {
        self.in_flight.next_due()
    }

    /// The ports, in the order in which they were added.
    pub fn ports(&self) -> impl Iterator<Item = PortId> {
        let ids = (0..).map(PortId).zip(&self.ports);
        ids.filter_map(|(id, port)| port.as_ref().map(|_| id))
    }

    /// The name of a port.
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn port_name(&self, port: PortId) -> Result<&str, UnknownPort> {
        Ok(&self.port(port)?.name)
    }

    /// What passed a port.
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn port_counters(&self, port: PortId) -> Result<PortCounters, UnknownPort> {
        Ok(self.port(port)?.counters)
    }

    /// What happened on the path from one port to another.
    ///
    /// # Errors
    /// When the port does not exist.
    pub fn path_counters(&self, from: PortId, to: PortId) -> Result<PathCounters, UnknownPort> {
        self.port(from)?;
        self.port(to)?;
        Ok(self.paths[from.index()][to.index()].counters)
    }

    fn port(&self, id: PortId) -> Result<&Port, UnknownPort> {
        let port = self.ports.get(id.index()).and_then(Option::as_ref);
        port.ok_or(UnknownPort(id))
    }

    fn port_mut(&mut self, id: PortId) -> Result<&mut Port, UnknownPort> {
        let port = self.ports.get_mut(id.index()).and_then(Option::as_mut);
        port.ok_or(UnknownPort(id))
    }

    /// The port of a station; `None`: all but the one that the frame came from.
    fn destination(&self, now: Time, header: Header) -> Option<PortId> {
        if header.destination.is_group() {
            return None;
        }
        self.stations.look_up(now, header.destination)
    }

    fn send(&mut self, now: Time, from: PortId, to: PortId, frame: Bytes, out: &mut Output) {
        let port = self.ports[to.index()].as_ref();
        let obstacle = match port {
            None => Some(DropReason::PortRemoved),
            Some(port) if !port.link_is_up => Some(DropReason::LinkDown),
            Some(port) if payload_len(&frame) > port.mtu => Some(DropReason::TooLong),
            Some(_) => None,
        };
        let path = &mut self.paths[from.index()][to.index()];
        let passage = match obstacle {
            Some(reason) => path.refuse(reason),
            None => path.enter(now, frame.clone()),
        };
        match passage {
            PathOutcome::Dropped(reason) => out.drop(reason, from, Some(to), frame),
            PathOutcome::Sent { due, frame, copy } => {
                for frame in [Some(frame), copy].into_iter().flatten() {
                    if due > now {
                        path.add_in_flight(frame.len());
                        // A part of a larger buffer would keep all of it in memory.
                        let frame = Bytes::copy_from_slice(&frame);
                        self.in_flight.add(due, from, to, frame);
                    } else {
                        path.counters.delivered += 1;
                        count_rx(&mut self.ports, to, &frame);
                        out.deliveries.push(Delivery { from, to, frame });
                    }
                }
            }
        }
    }

    fn deliver(&mut self, from: PortId, to: PortId, frame: Bytes, out: &mut Output) {
        self.paths[from.index()][to.index()].counters.delivered += 1;
        count_rx(&mut self.ports, to, &frame);
        out.deliveries.push(Delivery { from, to, frame });
    }

    fn apply_rules(&mut self, out: &mut Output) {
        let Self { rules, paths, .. } = self;
        let mut any_obstacle = false;
        for (from, paths) in (0..).map(PortId).zip(paths) {
            for (to, path) in (0..).map(PortId).zip(paths) {
                let obstacle = rules.obstacle(from, to);
                any_obstacle |= obstacle.is_some();
                path.configure(obstacle, rules.effective(from, to));
            }
        }
        if any_obstacle {
            let rules = self.rules.clone();
            self.drop_in_flight(out, |transit| rules.obstacle(transit.from, transit.to));
        }
    }

    /// Drops those frames in flight for which there is a reason.
    fn drop_in_flight(
        &mut self,
        out: &mut Output,
        reason: impl Fn(&Transit) -> Option<DropReason>,
    ) {
        for transit in self.in_flight.take(|transit| reason(transit).is_some()) {
            let Some(reason) = reason(&transit) else {
                continue;
            };
            let Transit {
                from, to, frame, ..
            } = transit;
            let path = &mut self.paths[from.index()][to.index()];
            path.remove_in_flight(frame.len());
            path.counters.count_drop(reason);
            out.drop(reason, from, Some(to), frame);
        }
    }
}

impl Output {
    /// One that also has the frames that were dropped.
    #[must_use]
    pub fn with_drops() -> Self {
        Self {
            deliveries: Vec::new(),
            drops: Some(Vec::new()),
        }
    }

    /// Removes all that it has.
    pub fn clear(&mut self) {
        self.deliveries.clear();
        if let Some(drops) = &mut self.drops {
            drops.clear();
        }
    }

    fn drop(&mut self, reason: DropReason, from: PortId, to: Option<PortId>, frame: Bytes) {
        if let Some(drops) = &mut self.drops {
            drops.push(DroppedFrame {
                reason,
                from,
                to,
                frame,
            });
        }
    }
}

fn count_rx(ports: &mut [Option<Port>], to: PortId, frame: &Bytes) {
    if let Some(port) = &mut ports[to.index()] {
        port.counters.rx_frames += 1;
        port.counters.rx_bytes += frame.len() as u64;
    }
}

/// What a path draws from, which depends on its ends and not on the order of the ports (FNV-1a).
fn path_seed(seed: u64, from: &str, to: &str) -> u64 {
    let bytes = from.bytes().chain([0]).chain(to.bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mixed(seed) ^ hash
}
