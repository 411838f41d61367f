//! Text on the console that a kernel prints when it panics, halts or powers off.
//!
//! It is only a hint: a program in the guest can print it too, so the caller has to check whether the agent
//! still answers.

use std::fmt;

use memchr::memmem;

/// What the console's text suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureHint {
    /// The kernel panicked.
    Panicked,
    /// The kernel halted: it has stopped, and the machine is on.
    Halted,
    /// The kernel tried to power the machine off, which it can only do with ACPI.
    PoweredDown,
}

impl fmt::Display for FailureHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FailureHint::Panicked => "the guest's kernel panicked, as its console says",
            FailureHint::Halted => "the guest halted, as its console says",
            FailureHint::PoweredDown => "the guest powered down, as its console says",
        })
    }
}

/// The texts: `panic()` in `kernel/panic.c`, `kernel_halt` and `kernel_power_off` in
/// `kernel/reboot.c`.
const SIGNS: [(&[u8], FailureHint); 3] = [
    (b"Kernel panic - not syncing", FailureHint::Panicked),
    (b"reboot: System halted", FailureHint::Halted),
    (b"reboot: Power down", FailureHint::PoweredDown),
];

const LONGEST: usize = 26;

/// Finds signs in a stream that comes in pieces, each occurrence once.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// The end of what was seen, in which a sign may have begun; at most `LONGEST - 1` bytes.
    tail: Vec<u8>,
}

impl Matcher {
    /// What `bytes` completes, in order of its end.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<FailureHint> {
        let seen = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let mut found: Vec<(usize, FailureHint)> = SIGNS
            .iter()
            .flat_map(|(sign, hint)| {
                memmem::find_iter(&self.tail, sign).map(|at| (at + sign.len(), *hint))
            })
            // What ends in the old part was found before.
            .filter(|(end, _)| *end > seen)
            .collect();
        found.sort_by_key(|(end, _)| *end);
        let keep = self.tail.len().min(LONGEST - 1);
        self.tail.drain(..self.tail.len() - keep);
        found.into_iter().map(|(_, hint)| hint).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] =
        b"x\r\n[  1.0] reboot: System halted\n[  2.0] Kernel panic - not syncing: a\n\
                          Kernel panic - not syncing\nreboot: Power downreboot: Power dow";

    #[test]
    fn signs_are_found_however_the_text_is_cut() {
        let expected = [
            FailureHint::Halted,
            FailureHint::Panicked,
            FailureHint::Panicked,
            FailureHint::PoweredDown,
        ];
        for size in 1..=TEXT.len() {
            let mut matcher = Matcher::default();
            let found: Vec<_> = TEXT
                .chunks(size)
                .flat_map(|piece| matcher.feed(piece))
                .collect();
            assert_eq!(found, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn the_longest_sign_is_known() {
        assert_eq!(
            SIGNS.iter().map(|(sign, _)| sign.len()).max(),
            Some(LONGEST)
        );
    }
}
