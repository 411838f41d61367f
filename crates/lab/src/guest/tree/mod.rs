//! Directories with all that is in them, between host and guest.
//!
//! | file | purpose |
//! |---|---|
//! | `copy` | the calls: records between a thread that does the host's file I/O and the guest |
//! | `pack` | a directory of the host as records |
//! | `unpack` | records as a directory of the host; never outside of it |

mod copy;
mod pack;
mod unpack;

pub use copy::{pull_dir, push_dir};

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TreeSummary {
    /// Regular files.
    pub files: u64,
    /// Directories below the copied one.
    pub directories: u64,
    /// Symbolic links.
    pub links: u64,
    /// Bytes of content; holes do not count.
    pub bytes: u64,
    /// Paths of devices, FIFOs and sockets, which are not copied.
    pub skipped: Vec<Vec<u8>>,
}

/// What failed on the host: what was tried, with which path, and why.
#[derive(Debug, thiserror::Error)]
#[error("cannot {tried} `{path}` on the host")]
struct HostError {
    tried: &'static str,
    path: String,
    #[source]
    source: std::io::Error,
}
