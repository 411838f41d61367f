//! Images of disks: a folder of the host as an ext4 file system, an image of another format as a raw one.
//!
//! ```text
//! folder ─▶ Tree ─▶ key: in the cache? ─▶ mke2fs -d ─▶ debugfs: owners, modes, attributes ─▶ DiskImage
//! archive of a root ─▶ folder, Tree ─▶ the same
//! file ───▶ its format: raw ─▶ as it is
//!                       qcow2 ─▶ key: in the cache? ─▶ qemu-img convert ───────────────────▶ DiskImage
//! ```
//!
//! Nothing is mounted, and no privileges are needed. What makes changes to a disk puts them beside the image:
//! an image in the cache is never written to.

mod archive;
mod description;
mod ext4;
mod filesystem;
mod folder;
mod raw;
mod root;
mod size;
mod source;
mod tools;

pub(crate) use folder::FILE as DISK_FILE;
pub(crate) use root::disk_of_tree;

pub use description::DiskImage;
pub use filesystem::filesystem_of;
pub use source::ImageSource;
pub use tools::missing_disk_tools;
