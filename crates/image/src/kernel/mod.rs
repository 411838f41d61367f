//! Kernels: what a file is, and the `vmlinux` in it.
//!
//! A machine starts faster from the ELF `vmlinux` through PVH than from the `bzImage`, whose own
//! code would unpack it inside the guest. So a `bzImage` is unpacked here, once; one that cannot be,
//! or whose `vmlinux` has no PVH entry, is booted as it is.

mod bzimage;
mod unpack;

#[cfg(test)]
pub(crate) use bzimage::tests::around;
pub(crate) use bzimage::{release, size_in_memory};
pub(crate) use unpack::{Kernel, inspect};
