//! Corruption: one bit of some frames is inverted.

use super::stage_rng::StageRng;
use crate::{MIN_FRAME, Probability};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Corruption {
    rng: StageRng,
    pub(super) probability: Probability,
}

impl Corruption {
    pub(super) fn new(rng: StageRng) -> Self {
        let probability = Probability::NEVER;
        Self { rng, probability }
    }

    /// The frame with one bit inverted, if it is corrupted. The header stays, so that the frame reaches the
    /// station, which has to detect the damage by a checksum.
    pub(super) fn changed(&mut self, frame: &Bytes) -> Option<Bytes> {
        if !self.probability.draw(&mut self.rng) || frame.len() <= MIN_FRAME {
            return None;
        }
        let mut changed = BytesMut::from(&frame[..]);
        changed[self.rng.usize(MIN_FRAME..frame.len())] ^= 1 << self.rng.u8(0..8);
        Some(changed.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_one_bit_after_the_header_is_inverted() {
        let mut corrupt = Corruption::new(StageRng::new(1, 1));
        corrupt.probability = Probability::ALWAYS;
        let frame = Bytes::from_static(&[0; 100]);
        for _ in 0..1_000 {
            let changed = corrupt.changed(&frame).expect("always");
            assert_eq!(changed[..MIN_FRAME], frame[..MIN_FRAME]);
            assert_eq!(changed.iter().map(|byte| byte.count_ones()).sum::<u32>(), 1);
        }
        assert_eq!(corrupt.changed(&Bytes::from_static(&[0; MIN_FRAME])), None);
    }
}
