//! Bridges, and what is attached to them.
//!
//! | file | purpose |
//! |---|---|
//! | `bridge` | the class `bridge` |
//! | `members` | what an author may write for a bridge, a VM or a member of a bridge |
//! | `rules`, `faults` | impairments and partitions; `bridge:during()` |
//! | `nic`, `port`, `capture` | their classes |
//! | `handles` | bridges, NICs and ports as Lua holds them |

mod bridge;
mod capture;
mod faults;
mod handles;
mod install;
mod members;
mod nic;
mod port;
mod rules;

pub(super) use bridge::options as bridge_options;
pub(super) use handles::{BridgeObject, bridge_value};
pub(super) use install::install;
pub(super) use members::bridges_of;
pub(super) use nic::of_vm;
