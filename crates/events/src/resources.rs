//! An amount of memory and vCPUs, and its arithmetic.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

/// An amount of memory and vCPUs.
///
/// Addition and subtraction saturate: nothing is below zero, and [`Resources::UNLIMITED`] stays so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes.
    pub memory_bytes: u64,
    /// vCPUs.
    pub cpus: u32,
}

impl Resources {
    /// More than any host has.
    pub const UNLIMITED: Self = Self {
        memory_bytes: u64::MAX,
        cpus: u32::MAX,
    };

    /// Whether it is nothing.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }

    /// Whether `available` has enough of both.
    pub fn fits(self, available: Self) -> bool {
        self.memory_bytes <= available.memory_bytes && self.cpus <= available.cpus
    }

    /// The larger amount of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            cpus: self.cpus.max(other.cpus),
        }
    }
}

impl Add for Resources {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
            cpus: self.cpus.saturating_add(other.cpus),
        }
    }
}

impl Sub for Resources {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            memory_bytes: self.memory_bytes.saturating_sub(other.memory_bytes),
            cpus: self.cpus.saturating_sub(other.cpus),
        }
    }
}

impl Sum for Resources {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

/// `512 MiB and 2 vCPUs`; of an amount of only one of them, that one.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.memory_bytes.div_ceil(1 << 20);
        let plural = if self.cpus == 1 { "" } else { "s" };
        match (mib, self.cpus) {
            (0, cpus @ 1..) => write!(f, "{cpus} vCPU{plural}"),
            (mib @ 1.., 0) => write!(f, "{mib} MiB"),
            (mib, cpus) => write!(f, "{mib} MiB and {cpus} vCPU{plural}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(mebibytes: u64, cpus: u32) -> Resources {
        Resources {
            memory_bytes: mebibytes << 20,
            cpus,
        }
    }

    #[test]
    fn arithmetic_is_per_field_and_saturates() {
        assert_eq!(of(3, 1) + of(1, 1), of(4, 2));
        assert_eq!(of(3, 1) - of(1, 2), of(2, 0));
        assert_eq!(of(3, 1).max(of(1, 2)), of(3, 2));
        assert_eq!(
            [of(1, 1), of(2, 3)].into_iter().sum::<Resources>(),
            of(3, 4)
        );
        assert_eq!(Resources::UNLIMITED + of(1, 1), Resources::UNLIMITED);
        assert!(of(2, 2).fits(of(2, 2)));
        assert!(!of(2, 2).fits(of(3, 1)) && !of(2, 2).fits(of(1, 3)));
    }

    #[test]
    fn display_names_what_there_is() {
        let texts = [of(512, 2), of(512, 0), of(0, 1), of(0, 0)].map(|amount| amount.to_string());
        assert_eq!(
            texts,
            [
                "512 MiB and 2 vCPUs",
                "512 MiB",
                "1 vCPU",
                "0 MiB and 0 vCPUs"
            ]
        );
    }
}
