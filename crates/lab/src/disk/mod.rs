//! The disks of VMs: what an author asks for, and the volumes that serve it.

mod options;

pub use options::{DiskId, DiskOptions, DiskSource};
