//! The graph of resources: who owns what, and what it is called.
//!
//! | file | what |
//! |---|---|
//! | `scope` | owners of resources: what is closed when a file or a test ends, and in which order |
//! | `lab` | names of VMs and sub-labs |
//! | `membership` | labs within labs |
//! | `barrier` | meeting points of tasks |
//! | `notices` | reports to the user about the cache, as events of a test file |
//! | `test_file` | what the labs of one test file share |
//!
//! Bridges, network interfaces and disks, which belong to a lab and connect its VMs, will live here.

mod barrier;
pub(crate) mod lab;
mod membership;
mod notices;
pub(crate) mod scope;
pub(crate) mod test_file;
