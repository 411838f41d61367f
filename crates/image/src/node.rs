//! The nodes of a file system: files, folders, links, devices.

use crate::cpio::file_type;
use std::path::PathBuf;
use std::sync::Arc;

/// A node of a [tree](crate::tree::Tree).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Permission bits, 12 of them.
    pub(crate) perm: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) kind: Kind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory,
    File(Content),
    Symlink(Vec<u8>),
    Device { block: bool, major: u32, minor: u32 },
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nodes that share these bytes are hard links to one file.
    Bytes(Arc<Vec<u8>>),
    /// Read when the archive is written.
    OnDisk {
        path: PathBuf,
        len: u64,
        /// Device and inode of a file with more than one name.
        shared: Option<(u64, u64)>,
    },
}

/// The identity of a file with several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Identity {
    /// The address of bytes that live as long as the tree.
    Address(usize),
    /// Device and inode.
    Inode(u64, u64),
}

impl Content {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::OnDisk { len, .. } => *len,
        }
    }

    /// The identity of a file with several names; `None` for a file with one.
    pub(crate) fn shared(&self) -> Option<Identity> {
        match self {
            Self::Bytes(bytes) if Arc::strong_count(bytes) > 1 => {
                Some(Identity::Address(Arc::as_ptr(bytes).addr()))
            }
            Self::Bytes(_) => None,
            Self::OnDisk { shared, .. } => {
                shared.map(|(device, inode)| Identity::Inode(device, inode))
            }
        }
    }
}

impl Kind {
    pub(crate) fn file_type(&self) -> u32 {
        match self {
            Self::Directory => file_type::DIRECTORY,
            Self::File(_) => file_type::FILE,
            Self::Symlink(_) => file_type::SYMLINK,
            Self::Device { block: true, .. } => file_type::BLOCK_DEVICE,
            Self::Device { block: false, .. } => file_type::CHARACTER_DEVICE,
            Self::Fifo => file_type::FIFO,
        }
    }
}

impl Node {
    fn root_owned(perm: u32, kind: Kind) -> Self {
        Self {
            perm,
            uid: 0,
            gid: 0,
            kind,
        }
    }

    pub(crate) fn directory(perm: u32) -> Self {
        Self::root_owned(perm, Kind::Directory)
    }

    pub(crate) fn file(perm: u32, content: impl Into<Vec<u8>>) -> Self {
        Self::root_owned(perm, Kind::File(Content::Bytes(Arc::new(content.into()))))
    }

    pub(crate) fn symlink(target: impl Into<Vec<u8>>) -> Self {
        Self::root_owned(0o777, Kind::Symlink(target.into()))
    }

    /// A character device.
    pub(crate) fn device(perm: u32, major: u32, minor: u32) -> Self {
        Self::root_owned(
            perm,
            Kind::Device {
                block: false,
                major,
                minor,
            },
        )
    }

    #[must_use]
    pub(crate) fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }
}
