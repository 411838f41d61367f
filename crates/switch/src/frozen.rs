//! A switch as it is saved: with its rules, its counters, its generators and the frames in flight.

use crate::fabric::Fabric;
use crate::in_flight::{InFlight, Transit};
use crate::mac_table::MacTable;
use crate::path::Path;
use crate::port::Port;
use crate::{PortId, Rules, Time};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the format. It changes with every change of a type that is part of [`FrozenFabric`].
const VERSION: u32 = 2;

/// A [`Fabric`] at one time. Its ports keep their ids.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FrozenFabric {
    version: u32,
    now: Time,
    seed: u64,
    ports: Vec<Option<Port>>,
    paths: Vec<Vec<Path>>,
    stations: MacTable,
    rules: Rules,
    in_flight: Vec<FrozenTransit>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct FrozenTransit {
    due: Time,
    from: PortId,
    to: PortId,
    frame: Bytes,
}

/// A frozen switch cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ThawError {
    /// It was written by another version of the program.
    #[error("the saved switch has version {found}; this program reads version {VERSION}")]
    Version {
        /// The version of the saved switch.
        found: u32,
    },
    /// Its parts do not fit together.
    #[error("the saved switch is damaged: {0}")]
    Damaged(&'static str),
}

impl Fabric {
    /// Saves the switch as it is at `now`. What has arrived by then must have been delivered.
    #[must_use]
    pub fn freeze(&self, now: Time) -> FrozenFabric {
        let in_flight = self.in_flight.ordered().into_iter();
        FrozenFabric {
            version: VERSION,
            now,
            seed: self.seed,
            ports: self.ports.clone(),
            paths: self.paths.clone(),
            stations: self.stations.clone(),
            rules: self.rules.clone(),
            in_flight: in_flight
                .map(
                    |Transit {
                         due,
                         from,
                         to,
                         frame,
                         ..
                     }| FrozenTransit {
                        due,
                        from,
                        to,
                        frame,
                    },
                )
                .collect(),
        }
    }

    /// Restores a switch, with the time at which it was frozen and from which it continues.
    ///
    /// # Errors
    /// When it has another version or is damaged.
    pub fn thaw(frozen: FrozenFabric) -> Result<(Self, Time), ThawError> {
        frozen.check()?;
        let mut in_flight = InFlight::default();
        for FrozenTransit {
            due,
            from,
            to,
            frame,
        } in frozen.in_flight
        {
            in_flight.add(due, from, to, frame);
        }
        let fabric = Self {
            seed: frozen.seed,
            ports: frozen.ports,
            paths: frozen.paths,
            stations: frozen.stations,
            rules: frozen.rules,
            in_flight,
        };
        Ok((fabric, frozen.now))
    }
}

impl FrozenFabric {
    fn check(&self) -> Result<(), ThawError> {
        if self.version != VERSION {
            return Err(ThawError::Version {
                found: self.version,
            });
        }
        let count = self.ports.len();
        if self.paths.len() != count || self.paths.iter().any(|paths| paths.len() != count) {
            return Err(ThawError::Damaged("not every pair of ports has a path"));
        }
        if self.stations.ports().any(|port| port.index() >= count) {
            return Err(ThawError::Damaged(
                "a station is behind a port that does not exist",
            ));
        }
        let mut bytes = vec![vec![0; count]; count];
        for transit in &self.in_flight {
            let (from, to) = (transit.from.index(), transit.to.index());
            if [from, to]
                .iter()
                .any(|index| self.ports.get(*index).is_none_or(Option::is_none))
            {
                return Err(ThawError::Damaged(
                    "a frame is in flight to a port that does not exist",
                ));
            }
            bytes[from][to] += transit.frame.len();
        }
        let counted = self.paths.iter().flatten().map(Path::in_flight);
        if !counted.eq(bytes.into_iter().flatten()) {
            return Err(ThawError::Damaged(
                "the frames in flight are not those that were counted",
            ));
        }
        Ok(())
    }
}
