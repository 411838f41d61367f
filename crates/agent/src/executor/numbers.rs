//! Lanes and generations that the executor gives out.

use provium_protocol::Lane;

/// Numbers that are unique within one router.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    lane: u32,
    generation: u64,
}

impl Numbers {
    /// How many workers one executor may start before its numbers meet those of the next.
    const LANES: u32 = 1 << 20;

    /// Those of the router's executor of this number.
    pub(crate) fn of_executor(number: u32) -> Self {
        Self {
            lane: Lane::FIRST_WORKER.0 + (number % 4000) * Self::LANES,
            generation: u64::from(number) << 32,
        }
    }

    pub(super) fn next_lane(&mut self) -> Lane {
        let lane = Lane(self.lane);
        self.lane += 1;
        lane
    }

    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }
}
