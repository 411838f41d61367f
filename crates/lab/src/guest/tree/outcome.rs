//! What was copied, and what has failed on the host.

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
pub(super) struct HostError {
    pub(super) tried: &'static str,
    pub(super) path: String,
    #[source]
    pub(super) source: std::io::Error,
}
