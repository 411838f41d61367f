//! For our own tests: fakes, leak checks, chance that can be repeated.
//!
//! | piece | purpose |
//! |---|---|
//! | [`FakeAgent`] | an agent that sends exactly what the test wants, also what is wrong |
//! | [`ServingAgent`] | an agent that keeps to the protocol; a function of the test answers |
//! | [`ModelGuest`] | such a function: files in memory and a few commands |
//! | [`Leaks`] | descriptors, children and threads of this process, before and after |
//! | [`random_bytes`] | bytes that a seed determines |
//! | [`replay`](replay()) | a short run of a fuzzer |
//!
//! Panics where the test or the code under test is wrong: a failed expectation is the purpose here.
#![expect(
    clippy::expect_used,
    reason = "a test's fake fails the test by panicking"
)]

mod fake;
mod leaks;
mod model;
mod replay;
mod serving;

pub use fake::{BUILD, FakeAgent, agent_hello, host_hello};
pub use leaks::Leaks;
pub use model::ModelGuest;
pub use replay::replay;
pub use serving::{Counts, Guest, GuestCall, ReplyFuture, ServingAgent};

/// `len` random bytes, the same for the same seed.
pub fn random_bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes
}
