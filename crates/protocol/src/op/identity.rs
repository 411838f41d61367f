//! What makes one guest differ from another.

use serde::{Deserialize, Serialize};

/// What makes one guest differ from another. A field that is not given is not changed.
///
/// It is the only way in which a guest gets an identity: a template, which is saved before, contains
/// none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetIdentity {
    /// CLOCK_REALTIME, nanoseconds since 1970; a hardware clock is set to the same time.
    pub realtime_ns: Option<i64>,
    /// The host name. Beside another init, which sets the name itself when it starts, it is set in a copy
    /// of a saved guest only; not at all if the image has brought the agent.
    pub hostname: Option<String>,
    /// Bytes that the kernel's random number generator is reseeded with; empty: it is not.
    #[serde(with = "serde_bytes")]
    pub entropy: Vec<u8>,
    /// Discard the bytes of the hardware random number generator that the kernel has read ahead, since
    /// other copies of this guest have the same ones.
    pub fresh_hwrng: bool,
}
