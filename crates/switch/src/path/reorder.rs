//! Reordering: some frames are held back, so that those after them arrive first.

use super::stage_rng::StageRng;
use crate::{Probability, Time};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How much longer than the others a reordered frame takes.
pub const REORDER_GAP: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reordering {
    rng: StageRng,
    pub(super) probability: Probability,
}

impl Reordering {
    pub(super) fn new(rng: StageRng) -> Self {
        let probability = Probability::NEVER;
        Self { rng, probability }
    }

    /// When the next frame, which would arrive at `due`, arrives instead, if it is reordered.
    pub(super) fn held_back_until(&mut self, due: Time) -> Option<Time> {
        let is_reordered = self.probability.draw(&mut self.rng);
        is_reordered.then(|| due + REORDER_GAP)
    }
}
