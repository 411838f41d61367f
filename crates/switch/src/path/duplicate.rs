//! Duplication: some frames arrive twice, one directly after the other.

use super::stage_rng::StageRng;
use crate::Probability;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Duplication {
    rng: StageRng,
    pub(super) probability: Probability,
}

impl Duplication {
    pub(super) fn new(rng: StageRng) -> Self {
        let probability = Probability::NEVER;
        Self { rng, probability }
    }

    /// Whether the next frame arrives twice.
    pub(super) fn is_next(&mut self) -> bool {
        self.probability.draw(&mut self.rng)
    }
}
