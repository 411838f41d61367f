//! Kept failures: the VMs of a failed test, saved into the cache, so that a person can enter them later.
//!
//! ```text
//! failed test ── keep ──▶ entry of the bucket: kept.json, vm-0/, vm-1/ … ── enter ──▶ a VM that continues
//! ```
//!
//! A kept failure is a snapshot and not a running VM: it costs nothing while it waits, survives the run, and
//! can be entered any number of times. Streams and commands of the test are open at that moment. They are
//! open in the saved guest, too, where no handle leads to them: commands continue, and what they print is
//! discarded.
//!
//! What the report of a failure cuts, such as a long console, is kept in files that the report names.
//!
//! Of a VM that is dead or cannot be saved, the console and the reason are kept.
//!
//! | file | purpose |
//! |---|---|
//! | `manifest` | `kept.json`: which test failed, and the state of its VMs |
//! | `catalogue` | the entries: list and remove, and their limits |
//! | `keeper` | which failure of a run is kept, and how the user enters it |
//! | `keep` | saves the VMs that a test can see |
//! | `enter` | restores a VM |
//! | `output` | files with what reports cut |

pub(crate) mod catalogue;
mod enter;
pub(crate) mod keep;
pub(crate) mod keeper;
pub(crate) mod manifest;
pub(crate) mod output;
