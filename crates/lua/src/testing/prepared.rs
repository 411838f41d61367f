//! An attempt of a test that is ready to begin.

use provium_lab::{LabClone, ResourceId, Scope};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Instant;

/// What a test has of its own instead of the file's.
pub(super) struct TestLab {
    /// Stands for the file's scope.
    pub(super) scope: Scope,
    /// The VMs and all that is in them.
    pub(super) copy: Rc<LabClone>,
    /// How far their consoles had been looked through when the copy was made.
    pub(super) read: BTreeMap<ResourceId, u64>,
}

/// An attempt that is ready to begin.
pub(super) struct PreparedTest {
    /// When its time began.
    pub(super) started: Instant,
    /// What it has of its own instead of the file's.
    pub(super) test_lab: Option<TestLab>,
    /// Why it cannot begin.
    pub(super) failed: Option<String>,
}
