//! Kernel modules: an index of their names and aliases, in place of `depmod(8)`'s files.
//!
//! A kernel package has no `modules.dep`: that is made when it is installed, which is never done
//! here. So the index is made from each module's own `.modinfo` section and from the kernel's
//! `modules.builtin*`. A name that a guest asks for is only ever looked up in it; it never becomes a
//! path.

mod find;
#[cfg(test)]
mod fixture;
mod index;
mod info;
mod name;
mod scan;

pub(crate) use find::{modules_below, modules_beside};
#[cfg(test)]
pub(crate) use fixture::index_of;
pub(crate) use index::Record;
pub use index::{ModuleIndex, ModuleRef};
pub(crate) use scan::{listing, scan_folder, scan_tree};
