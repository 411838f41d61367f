//! What a guest boots from: kernels, modules, initial RAM file systems, the default guest; and images of disks.
//!
//! [`Images`] makes [`GuestImage`]s and keeps what took long in the cache; a `GuestImage` makes the
//! archives of one boot, with the agent, its plan and its modules in them.
//!
//! ```text
//! packages, kernel + initrd, root folder ─▶ Images ─▶ GuestImage ─▶ boot archives
//! folder, qcow2 file ──────────────────────▶  │   ─▶ DiskImage
//!                                             │ cache: kernels, guests, initrds, roots, modules, disks
//! ```
//!
//! It installs nothing on the host, needs no root, runs no package's scripts, and starts no guest.

mod agent;
mod blocking;
mod boot;
mod compress;
mod copies;
mod cpio;
mod disk;
mod elf;
mod error;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod guest;
mod image;
mod images;
mod initrd;
mod kernel;
mod memory;
mod modules;
mod node;
mod progress;
mod root;
mod root_image;
mod tar_entry;
mod tree;
mod walk;

pub use agent::{AGENT, AGENT_BUILD};
pub use boot::{BootArchives, BootFile, BootRequest};
pub use disk::{DiskImage, ImageSource, filesystem_of, missing_disk_tools};
pub use error::ImageError;
pub use guest::download_tool;
pub use image::GuestImage;
pub use images::Images;
pub use memory::MemoryNeed;
pub use modules::{ModuleIndex, ModuleRef};
pub use progress::{Progress, SilentProgress};
pub use root_image::{ROOT_DISK, RootPlacement};
