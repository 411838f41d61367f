//! The generator of one stage.

use serde::{Deserialize, Serialize};
use std::ops::{Deref, DerefMut};

/// A seeded generator that can be saved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "u64", into = "u64")]
pub(super) struct StageRng(fastrand::Rng);

impl StageRng {
    /// The generator of a stage, by its number, of a path with this seed.
    pub(super) fn new(path: u64, stage: u64) -> Self {
        Self(fastrand::Rng::with_seed(mixed(path.wrapping_add(stage))))
    }
}

/// Spreads close numbers (the finalizer of SplitMix64), since generators with close seeds begin alike.
pub(crate) fn mixed(number: u64) -> u64 {
    let mut bits = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl From<u64> for StageRng {
    fn from(state: u64) -> Self {
        Self(fastrand::Rng::with_seed(state))
    }
}

impl From<StageRng> for u64 {
    fn from(rng: StageRng) -> Self {
        rng.0.get_seed()
    }
}

impl Deref for StageRng {
    type Target = fastrand::Rng;

    fn deref(&self) -> &fastrand::Rng {
        &self.0
    }
}

impl DerefMut for StageRng {
    fn deref_mut(&mut self) -> &mut fastrand::Rng {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_generator_continues_where_it_was() {
        let mut rng = StageRng::new(1, 2);
        rng.u64(..);
        let mut copy = StageRng::from(u64::from(rng.clone()));
        assert_eq!(rng.u64(..), copy.u64(..));
    }
}
