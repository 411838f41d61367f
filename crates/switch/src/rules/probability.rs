//! Probabilities of single frames.

use serde::{Deserialize, Serialize};

/// A probability, exact to one in 2^32.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Probability(u64);

/// The value that means certainty.
const ONE: u64 = 1 << 32;

impl Probability {
    /// Never.
    pub const NEVER: Self = Self(0);
    /// Always.
    pub const ALWAYS: Self = Self(ONE);

    /// From a percentage; `None` if it is not in `0.0..=100.0`.
    #[must_use]
    pub fn percent(percent: f64) -> Option<Self> {
        Self::fraction(percent / 100.0)
    }

    /// From a fraction; `None` if it is not in `0.0..=1.0`.
    #[must_use]
    pub fn fraction(fraction: f64) -> Option<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return None;
        }
        Some(Self((fraction * ONE as f64).round() as u64))
    }

    /// As a percentage.
    #[must_use]
    pub fn as_percent(self) -> f64 {
        self.as_fraction() * 100.0
    }

    /// As a fraction.
    #[must_use]
    pub fn as_fraction(self) -> f64 {
        self.0 as f64 / ONE as f64
    }

    /// Of the event that at least one of two independent events happens.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let neither = u128::from(ONE - self.0) * u128::from(ONE - other.0) / u128::from(ONE);
        // The product of two numbers up to 2^32, divided by 2^32, is at most 2^32.
        Self(ONE - neither as u64)
    }

    /// Draws whether the event happens. Nothing is drawn for what is certain.
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> bool {
        match self.0 {
            0 => false,
            ONE.. => true,
            probability => u64::from(rng.u32(..)) < probability,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_percentages_are_accepted() {
        for percent in [-0.1, 100.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Probability::percent(percent), None, "{percent}");
        }
        assert_eq!(Probability::percent(0.0), Some(Probability::NEVER));
        assert_eq!(Probability::percent(100.0), Some(Probability::ALWAYS));
        let five = Probability::percent(5.0).expect("a percentage");
        assert!((five.as_percent() - 5.0).abs() < 1e-6);
    }

    #[test]
    fn independent_events_are_combined() {
        let half = Probability::fraction(0.5).expect("a fraction");
        assert_eq!(
            half.or(half),
            Probability::fraction(0.75).expect("a fraction")
        );
        assert_eq!(half.or(Probability::NEVER), half);
        assert_eq!(half.or(Probability::ALWAYS), Probability::ALWAYS);
    }

    #[test]
    fn draws_have_the_frequency_that_was_asked_for() {
        let mut rng = fastrand::Rng::with_seed(1);
        let tenth = Probability::fraction(0.1).expect("a fraction");
        let hits = (0..100_000).filter(|_| tenth.draw(&mut rng)).count();
        // Standard deviation 95; the bound is 6 of them: with this seed always the same, with another one
        // beyond it once in 500 million.
        assert!((9_430..=10_570).contains(&hits), "{hits}");
    }
}
