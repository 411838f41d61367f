//! Builds of fixtures that have failed in this run.
//!
//! A fixture whose build has failed would fail again for each test that wants it. So its failure is kept for
//! the run, with what the build had read: later users fail at once as long as none of that has changed.

use crate::inputs::input::Input;
use crate::lock::lock;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A build that has failed.
#[derive(Debug, Clone)]
pub(crate) struct FailedBuild {
    /// Who wanted it: ``test `x` ``, a test file, another fixture.
    pub(crate) wanted_by: String,
    /// The first line of the error.
    pub(crate) reason: String,
    /// What the build had read.
    pub(crate) inputs: Vec<Input>,
}

/// The failed builds of a run, by the paths of their sources.
#[derive(Debug, Default)]
pub(crate) struct FailedBuilds(Mutex<BTreeMap<Utf8PathBuf, FailedBuild>>);

impl FailedBuilds {
    pub(crate) fn get(&self, path: &Utf8Path) -> Option<FailedBuild> {
        lock(&self.0).get(path).cloned()
    }

    pub(crate) fn insert(&self, path: &Utf8Path, failed: FailedBuild) {
        lock(&self.0).insert(path.to_owned(), failed);
    }

    pub(crate) fn remove(&self, path: &Utf8Path) {
        lock(&self.0).remove(path);
    }
}
