//! The order of tests for `--shuffle`.

use super::{Choice, TestDeclaration};
use sha2::{Digest as _, Sha256};

/// Puts the tests of `file` in an order that depends on the seed and on their names alone, so that a run
/// of some of them has the same order as a run of all.
pub(crate) fn shuffle(tests: &mut [(&TestDeclaration, Choice)], seed: u64, file: &str) {
    tests.sort_by_cached_key(|(test, _)| {
        let digest = Sha256::new_with_prefix(seed.to_le_bytes());
        let digest = digest.chain_update(file).chain_update([0]);
        digest.chain_update(&test.name).finalize()
    });
}
