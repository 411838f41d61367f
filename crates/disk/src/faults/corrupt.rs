//! Wrong bytes.

use crate::geometry::to_usize;
use fastrand::Rng;

/// Changes one to eight bytes of a part of the data, as the seed decides.
pub(crate) fn corrupt(data: &mut [u8], seed: u64, start: u64, end: u64) {
    let end = to_usize(end).min(data.len());
    let start = to_usize(start).min(end);
    let part = &mut data[start..end];
    if part.is_empty() {
        return;
    }
    let mut random = Rng::with_seed(seed);
    // The first change is at a place of its own, so that no other one can undo it.
    let first = random.usize(..part.len());
    part[first] ^= random.u8(1..);
    for _ in 0..random.usize(..8) {
        let at = random.usize(..part.len());
        if at != first {
            part[at] ^= random.u8(1..);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_changes_the_same_bytes_of_the_part() {
        for seed in 0..500 {
            let mut once = [0u8; 1024];
            corrupt(&mut once, seed, 512, 1024);
            assert_eq!(once[..512], [0; 512]);
            let changed = once.iter().filter(|&&byte| byte != 0).count();
            assert!((1..=8).contains(&changed));
            let mut twice = [0u8; 1024];
            corrupt(&mut twice, seed, 512, 1024);
            assert_eq!(once, twice);
        }
    }
}
