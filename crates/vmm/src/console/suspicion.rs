//! Words on the console that a kernel prints when it gives up.
//!
//! They are only a suspicion: a program in the guest can print them too. Who knows the guest (its
//! agent) has to confirm.

use std::fmt;

use memchr::memmem;

/// What the console's text suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// The kernel panicked.
    Panicked,
    /// The kernel halted: it runs no more, but the machine is on.
    Halted,
    /// The kernel meant to switch the machine off, which it can only do with ACPI.
    PoweredDown,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Suspicion::Panicked => "the guest's kernel panicked, as its console says",
            Suspicion::Halted => "the guest halted, as its console says",
            Suspicion::PoweredDown => "the guest powered down, as its console says",
        })
    }
}

/// What is looked for: `panic()` in `kernel/panic.c`, `kernel_halt` and `kernel_power_off` in
/// `kernel/reboot.c`.
const SIGNS: [(&[u8], Suspicion); 3] = [
    (b"Kernel panic - not syncing", Suspicion::Panicked),
    (b"reboot: System halted", Suspicion::Halted),
    (b"reboot: Power down", Suspicion::PoweredDown),
];

const LONGEST: usize = 26;

/// Finds signs in a stream that comes in pieces, each sign once for each time it stands there.
#[derive(Debug, Default)]
pub(crate) struct Matcher {
    /// The end of what was seen, in which a sign may have begun; at most `LONGEST - 1` bytes.
    tail: Vec<u8>,
}

impl Matcher {
    /// What `bytes` completes, in order of its end.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Suspicion> {
        let seen = self.tail.len();
        self.tail.extend_from_slice(bytes);
        let mut found: Vec<(usize, Suspicion)> = SIGNS
            .iter()
            .flat_map(|(sign, suspicion)| {
                memmem::find_iter(&self.tail, sign).map(|at| (at + sign.len(), *suspicion))
            })
            // What ends in the old part was found before.
            .filter(|(end, _)| *end > seen)
            .collect();
        found.sort_by_key(|(end, _)| *end);
        let keep = self.tail.len().min(LONGEST - 1);
        self.tail.drain(..self.tail.len() - keep);
        found.into_iter().map(|(_, suspicion)| suspicion).collect()
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
            Suspicion::Halted,
            Suspicion::Panicked,
            Suspicion::Panicked,
            Suspicion::PoweredDown,
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
