//! Loss of single frames, or of several in succession.

use super::stage_rng::StageRng;
use crate::Probability;
use serde::{Deserialize, Serialize};

/// Gilbert's model: a path is good or bad, and bad paths lose every frame. Which one it is changes before a
/// frame, with probabilities that give the mean loss and the mean length of a burst that were asked for.
/// With bursts of mean length 1 / (1 - loss), which are those of independent losses, it is a plain draw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Loss {
    rng: StageRng,
    model: Model,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Model {
    Independent(Probability),
    Bursts {
        begins: Probability,
        ends: Probability,
        is_bad: bool,
    },
}

impl Loss {
    pub(super) fn new(rng: StageRng) -> Self {
        let model = Model::Independent(Probability::NEVER);
        Self { rng, model }
    }

    /// `burst`: the mean number of frames that are lost in succession.
    pub(super) fn configure(&mut self, loss: Option<Probability>, burst: Option<f64>) {
        let loss = loss.unwrap_or_default();
        let independent = Model::Independent(loss);
        let share = loss.as_fraction();
        self.model = match burst {
            Some(burst) if share > 0.0 && share < 1.0 => {
                // In the steady state, share = begins / (begins + ends).
                let ends = (1.0 / burst).clamp(0.0, 1.0);
                let begins = (ends * share / (1.0 - share)).clamp(0.0, 1.0);
                match (Probability::fraction(begins), Probability::fraction(ends)) {
                    (Some(begins), Some(ends)) => Model::Bursts {
                        begins,
                        ends,
                        is_bad: false,
                    },
                    _ => independent,
                }
            }
            _ => independent,
        };
    }

    pub(super) fn loses_next(&mut self) -> bool {
        match &mut self.model {
            Model::Independent(loss) => loss.draw(&mut self.rng),
            Model::Bursts {
                begins,
                ends,
                is_bad,
            } => {
                let changes = if *is_bad { *ends } else { *begins };
                *is_bad ^= changes.draw(&mut self.rng);
                *is_bad
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAMES: usize = 200_000;

    /// The share of lost frames, and the mean length of a burst.
    fn measured(percent: f64, burst: Option<f64>) -> (f64, f64) {
        let mut loss = Loss::new(StageRng::new(3, 1));
        loss.configure(Probability::percent(percent), burst);
        let (mut lost, mut bursts, mut was_lost) = (0, 0, false);
        for _ in 0..FRAMES {
            let is_lost = loss.loses_next();
            lost += usize::from(is_lost);
            bursts += usize::from(is_lost && !was_lost);
            was_lost = is_lost;
        }
        (
            lost as f64 / FRAMES as f64,
            lost as f64 / bursts.max(1) as f64,
        )
    }

    #[test]
    fn the_share_of_lost_frames_is_that_asked_for() {
        // Standard deviation of the share: 0.0007 for single frames, about 0.002 for bursts of 5.
        let (share, burst) = measured(10.0, None);
        assert!((share - 0.1).abs() < 0.004, "{share}");
        assert!((burst - 1.0 / 0.9).abs() < 0.05, "{burst}");
        let (share, burst) = measured(10.0, Some(5.0));
        assert!((share - 0.1).abs() < 0.012, "{share}");
        assert!((burst - 5.0).abs() < 0.4, "{burst}");
    }

    #[test]
    fn none_and_all_are_certain() {
        assert_eq!(measured(0.0, Some(5.0)).0, 0.0);
        assert_eq!(measured(100.0, None).0, 1.0);
        assert_eq!(measured(100.0, Some(3.0)).0, 1.0);
    }
}
