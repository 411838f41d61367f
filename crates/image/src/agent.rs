//! The guest's agent, as this crate's build script built it.

/// The agent's executable: static, for x86-64.
pub const AGENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/provium-agent"));

/// What it is built from: a hash of its sources. The agent names it when it first answers, and the
/// host takes no other.
pub const AGENT_BUILD: &str = env!("PROVIUM_AGENT_BUILD");
