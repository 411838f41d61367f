//! Inputs for decoders: known ones, and damaged copies of them.
//!
//! A fuzzer runs for hours; this runs for a second in every test run, without instrumentation:
//! the same functions get a few known inputs and thousands of mutations of them, by seeded chance.
//! `PROVIUM_REPLAY=100 cargo test fuzzing` makes a hundred times as many.

use fastrand::Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Values that lengths and counts go wrong at.
const ODD: [u8; 6] = [0, 1, 0x7f, 0x80, 0xfe, 0xff];

/// Longest input that mutation makes, bytes.
const LONGEST: usize = 1 << 16;

/// Gives `target` each of `seeds` and `rounds` mutations of them. It panics where it finds a fault;
/// then the input is named, so that it can become a test of its own.
pub fn replay(seeds: &[Vec<u8>], rounds: u32, target: impl Fn(&[u8])) {
    assert!(!seeds.is_empty(), "nothing to mutate");
    let rounds = u64::from(rounds) * factor();
    let mut rng = Rng::with_seed(rounds);
    for seed in seeds {
        run(&target, seed);
    }
    run(&target, &[]);
    for _ in 0..rounds {
        let mut input = any(&mut rng, seeds).clone();
        for _ in 0..=rng.u32(..4) {
            mutate(&mut input, &mut rng, seeds);
        }
        input.truncate(LONGEST);
        run(&target, &input);
    }
}

/// How many times as many rounds the environment wants.
fn factor() -> u64 {
    let wanted = std::env::var("PROVIUM_REPLAY").ok();
    wanted.and_then(|wanted| wanted.parse().ok()).unwrap_or(1)
}

/// Names the input on which a target panics; the panic's own message was printed before.
fn run(target: &impl Fn(&[u8]), input: &[u8]) {
    let done = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(done.is_ok(), "the input was b\"{}\"", input.escape_ascii());
}

fn mutate(input: &mut Vec<u8>, rng: &mut Rng, seeds: &[Vec<u8>]) {
    let at = rng.usize(..=input.len());
    match rng.u32(..7) {
        0 => input.truncate(at),
        1 => {
            let (len, byte) = (rng.usize(..9), rng.u8(..));
            input.splice(at..at, vec![byte; len]);
        }
        2 => {
            let end = (at + 1 + rng.usize(..16)).min(input.len());
            input.drain(at..end);
        }
        3 => {
            // A piece of another input, in the place of what follows.
            let other = any(rng, seeds);
            let from = rng.usize(..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        4 => {
            let piece: Vec<u8> = input[at..].iter().copied().take(64).collect();
            input.splice(at..at, piece);
        }
        kind => {
            let odd = ODD[rng.usize(..ODD.len())];
            let bit = 1 << rng.u32(..8);
            if let Some(byte) = input.get_mut(at) {
                *byte = if kind == 5 { odd } else { *byte ^ bit };
            }
        }
    }
}

fn any<'a>(rng: &mut Rng, seeds: &'a [Vec<u8>]) -> &'a Vec<u8> {
    &seeds[rng.usize(..seeds.len())]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeSet;

    #[test]
    #[should_panic(expected = "the input was b\"bad\"")]
    fn the_input_of_a_fault_is_named() {
        replay(&[b"good".to_vec(), b"bad".to_vec()], 0, |input| {
            assert!(input != b"bad", "a fault");
        });
    }

    #[test]
    fn the_seeds_come_first_and_then_many_different_inputs() {
        let seeds = [b"length: 3\nabc".to_vec(), b"length: 0\n".to_vec()];
        let seen = RefCell::new(Vec::new());
        replay(&seeds, 500, |input| seen.borrow_mut().push(input.to_vec()));
        let seen = seen.into_inner();
        assert_eq!(seen[..2], seeds);
        assert_eq!(seen.len(), 503);
        let different: BTreeSet<_> = seen.iter().collect();
        assert!(different.len() > 300, "{}", different.len());
        let again = RefCell::new(Vec::new());
        replay(&seeds, 500, |input| again.borrow_mut().push(input.to_vec()));
        assert_eq!(again.into_inner(), seen);
    }
}
