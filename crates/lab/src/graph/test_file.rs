//! What the labs of one file share: what they draw on, and where their tasks meet.

use crate::budget::{BudgetError, Grant, Need};
use crate::claim::{Share, Within};
use crate::environment::Environment;
use crate::fixture::{Build, FixtureSource};
use crate::graph::barrier::Barriers;
use crate::graph::scope::ResourceId;
use crate::waiting;
use provium_vmm::SaveForm;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What the labs of one file share.
pub(crate) struct FileContext {
    pub(crate) environment: Arc<Environment>,
    pub(crate) path: String,
    pub(crate) barriers: Barriers,
    pub(crate) share: Share,
    /// Sub-labs that were given no name.
    anonymous: AtomicU32,
    /// What builds, and the file that wants the fixture, have of the host: outermost first. `share` draws
    /// on them before it draws on the pool. Empty of a test file.
    outer: Vec<Share>,
    /// The VMs and labs that fixtures have given.
    pub(crate) fixtures: Mutex<BTreeMap<ResourceId, FixtureSource>>,
    /// The build of a fixture that these labs are for; `None`: they are a test file's.
    pub(crate) build: Option<Build>,
}

impl FileContext {
    /// That of the file that events and messages call `path`.
    pub(crate) fn new(environment: Arc<Environment>, path: String) -> Self {
        Self {
            environment,
            path,
            barriers: Barriers::default(),
            share: Share::default(),
            anonymous: AtomicU32::new(0),
            outer: Vec::new(),
            fixtures: Mutex::default(),
            build: None,
        }
    }

    /// That of a fixture's build, which draws on what this file has. What the build claims is taken from
    /// there, too, and given back with the build: it is not the file's claim.
    pub(crate) fn building(&self, build: Build) -> Self {
        let mut outer = self.outer.clone();
        outer.push(self.share.clone());
        Self {
            outer,
            build: Some(build),
            ..Self::new(Arc::clone(&self.environment), self.path.clone())
        }
    }

    /// Counts sub-labs without a name.
    pub(crate) fn next_anonymous(&self) -> u32 {
        self.anonymous.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes what a boot needs from the file's claim, or from the pool where there is none.
    pub(crate) async fn acquire(&self, need: Need) -> Result<Grant, BudgetError> {
        let budget = self.budget();
        let granted = self.share.acquire(&budget, &self.path, need);
        waiting::for_pool(&budget, &self.path, need, granted).await
    }

    /// What its share draws on.
    pub(crate) fn budget(&self) -> Within<'_> {
        Within::new(self.environment.budget(), &self.outer)
    }

    /// The form of a snapshot that has no folder of its own: that of a test goes with the test, one
    /// of a fixture outlives what its VM was booted from.
    pub(crate) fn form_in_cache(&self) -> SaveForm {
        match self.build {
            Some(_) => SaveForm::Whole,
            None => SaveForm::OnBase,
        }
    }

    /// The same, if it is there.
    pub(crate) fn try_acquire(&self, need: Need) -> Option<Grant> {
        self.share.try_acquire(&self.budget(), &self.path, need)
    }
}
