//! Something to boot from.

use crate::cpio::{self, file_type};
use crate::disk::DiskImage;
use crate::error::ImageError;
use crate::modules::ModuleIndex;
use crate::node::Node;
use crate::tree::Tree;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::CacheEntry;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A kernel, archives for its initial RAM file system, and its modules. Cheap to clone. What of it
/// lies in the cache stays there as long as this lives.
#[derive(Clone)]
pub struct GuestImage {
    /// The kernel: an ELF `vmlinux` with a PVH entry, or a `bzImage`.
    pub kernel: Utf8PathBuf,
    /// The kernel as it was given: a `bzImage` where `kernel` was unpacked from one, else the same file.
    pub given_kernel: Utf8PathBuf,
    /// Archives, in the order in which the kernel is to unpack them; uncompressed, unless packed in
    /// a way that only the kernel knows.
    pub initrds: Vec<Utf8PathBuf>,
    /// The root file system, where it is on a disk; the archives have only what mounts it then.
    pub root_disk: Option<DiskImage>,
    /// The kernel's modules, where they are known.
    pub modules: Option<Arc<ModuleIndex>>,
    /// Executables to try in turn as PID 1. If none is there, the agent is the init.
    pub init: Vec<String>,
    /// A hash of all the content.
    pub id: String,
    pub(crate) held: Vec<Arc<CacheEntry>>,
    pub(crate) layout: Arc<OnceLock<Layout>>,
}

impl fmt::Debug for GuestImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestImage")
            .field("kernel", &self.kernel)
            .field("initrds", &self.initrds)
            .field("init", &self.init)
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl GuestImage {
    /// The image that boots its kernel as it was given, which takes longer than the unpacked one.
    pub fn as_given(mut self) -> Self {
        if self.kernel != self.given_kernel {
            self.kernel.clone_from(&self.given_kernel);
            self.id.push_str("-as-given");
        }
        self
    }

    /// The tree that the kernel makes of the archives, without the contents of files; as far as it is
    /// known, if one of them is packed in a way that only the kernel knows. Read when it is first asked
    /// for.
    pub(crate) fn layout(&self) -> Result<Layout, ImageError> {
        if let Some(layout) = self.layout.get() {
            return Ok(layout.clone());
        }
        let mut layout = Layout {
            tree: Tree::default(),
            is_whole: true,
        };
        for path in &self.initrds {
            layout.is_whole &= add_layout(path, &mut layout.tree)?;
        }
        Ok(self.layout.get_or_init(|| layout).clone())
    }
}

/// What the kernel makes of an image's archives.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// Files without contents.
    pub(crate) tree: Tree,
    /// Whether all archives could be read.
    pub(crate) is_whole: bool,
}

/// False for an archive that cannot be read.
fn add_layout(path: &Utf8Path, layout: &mut Tree) -> Result<bool, ImageError> {
    let failed = |source| ImageError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut entries = Vec::new();
    let read = cpio::read_entries(&mut std::io::BufReader::new(file), |entry| {
        entries.push(entry)
    });
    // As if it were empty.
    if read.is_err() {
        return Ok(false);
    }
    for cpio::Header { name, mode, target } in entries {
        let node = match mode & file_type::MASK {
            file_type::DIRECTORY => Node::directory(0o755),
            file_type::SYMLINK => Node::symlink(target),
            _ => Node::file(0, []),
        };
        // As the kernel does: an entry that cannot be placed is passed over.
        let _ = layout.put(&name, node);
    }
    Ok(true)
}
