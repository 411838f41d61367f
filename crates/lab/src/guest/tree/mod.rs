//! Directories with all that is in them, between host and guest.
//!
//! | file | purpose |
//! |---|---|
//! | `copy` | the calls: records between a thread that does the host's file I/O and the guest |
//! | `pack` | a directory of the host as records |
//! | `outcome` | what was copied, and what has failed on the host |
//! | `unpack` | records as a directory of the host; never outside of it |

mod copy;
mod outcome;
mod pack;
mod unpack;

pub use copy::{pull_dir, push_dir};
pub use outcome::TreeSummary;
