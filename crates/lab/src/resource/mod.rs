//! Resources of a test file: their numbers, and the scopes that close them.
//!
//! | file | what |
//! |---|---|
//! | `id` | numbers of resources |
//! | `scope` | owners of resources: what is closed when a file or a test ends, and in which order |

mod id;
mod scope;

pub use id::ResourceId;
pub use scope::{CloseFailure, CloseOrder, Scope};

pub(crate) use scope::{Close, Closing, GuestKey, Registration, WeakScope};
