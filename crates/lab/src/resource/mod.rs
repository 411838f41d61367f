//! Resources of a test file: their numbers, the scopes that close them, and which handles of a guest are valid.
//!
//! | file | what |
//! |---|---|
//! | `id` | numbers of resources |
//! | `scope` | owners of resources: what is closed when a file or a test ends, and in which order |
//! | `generation` | numbers of the machines that VMs run on |
//! | `timeline` | which handles are valid for the guest as it is now |

mod generation;
mod id;
mod scope;
mod timeline;

pub use id::ResourceId;
pub use scope::{CloseFailure, CloseOrder, Scope};

pub(crate) use generation::Generation;
pub(crate) use scope::{Close, CloseFuture, GuestKey, Registration, WeakScope};
pub(crate) use timeline::{GuestChange, HandleEpoch, Timeline, TimelineHistory};
