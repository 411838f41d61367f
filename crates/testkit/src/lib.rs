//! For our own tests: fakes, leak checks, chance that can be repeated.
//!
//! | piece | stands for |
//! |---|---|
//! | [`FakeAgent`] | an agent that says exactly what the test tells it to, lies among it |
//! | [`Serving`] | an agent in step, whose answers are a function of the test's |
//! | [`ModelGuest`] | such a function: files in memory and a few commands |
//! | [`Leaks`] | descriptors, children and threads of this process, before and after |
//! | [`Dice`] | seeded chance |
//! | [`replay`](replay()) | a fuzzer, for a moment |
//!
//! Panics where the test or the code under test is wrong: a failed expectation is the purpose here.
#![expect(
    clippy::expect_used,
    reason = "a test's fake fails the test by panicking"
)]

mod dice;
mod fake;
mod leaks;
mod model;
mod replay;
mod serving;

pub use dice::Dice;
pub use fake::{BUILD, FakeAgent, agent_hello, host_hello};
pub use leaks::Leaks;
pub use model::ModelGuest;
pub use replay::replay;
pub use serving::{Counts, Guest, GuestCall, Handling, Serving};
