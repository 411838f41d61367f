//! What a default guest is made from, wherever it comes from, and the layout of its cache entry.

use super::skeleton::Release;
use camino::Utf8PathBuf;

/// The version of the entry. Raise it when a default guest is made in another way, so that old entries
/// are not used any more.
pub(super) const LAYOUT: u64 = 3;

/// Files of the entry.
pub(super) const KERNEL: &str = "kernel";
pub(super) const PACK: &str = "modules.pack";
pub(super) const ARCHIVE: &str = "base.cpio";
/// What a guest is made from, besides the kernel and modules, which are in the entry already.
#[derive(Debug)]
pub(super) struct GuestParts {
    pub(super) busybox: Vec<u8>,
    pub(super) release: Release,
    /// Where the modules are, if they are not in the entry.
    pub(super) modules_folder: Option<Utf8PathBuf>,
    /// Files of packages that it is made from.
    pub(super) packages: Vec<String>,
}
