//! The context of a test file: what its labs share.

use crate::environment::Environment;
use crate::inputs::{Build, FixtureSource};
use crate::lock::lock;
use crate::network::Uplink;
use crate::resource::ResourceId;
use crate::test_file::barrier::Barriers;
use crate::test_file::current_test::CurrentTest;
use crate::test_file::subnet_numbers::SubnetNumbers;
use provium_pool::FileBudget;
use provium_switch::shell::RouterTask;
use provium_vmm::SaveForm;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use tokio::sync::Mutex as AsyncMutex;

/// What the labs of one file share.
pub(crate) struct TestFileContext {
    pub(crate) environment: Arc<Environment>,
    pub(crate) path: String,
    pub(crate) barriers: Barriers,
    /// The router of its bridges, once it has been needed.
    router: OnceLock<Arc<RouterTask>>,
    /// The way from its bridges to the host's network, as long as one uses it.
    pub(crate) uplink: AsyncMutex<Weak<Uplink>>,
    /// The numbers of the subnets of its bridges.
    pub(crate) subnets: SubnetNumbers,
    /// What its boots take memory and vCPUs from.
    pub(crate) budget: FileBudget,
    /// Sub-labs that were given no name.
    anonymous: AtomicU32,
    /// The VMs and labs that fixtures have given.
    fixtures: Mutex<BTreeMap<ResourceId, FixtureSource>>,
    /// The test that runs now.
    pub(crate) current_test: CurrentTest,
    /// The build of a fixture that these labs are for; `None`: they are a test file's.
    pub(crate) build: Option<Build>,
}

impl TestFileContext {
    /// Creates the context of the file that events and messages call `path`.
    pub(crate) fn new(environment: Arc<Environment>, path: String) -> Self {
        let (pool, sink) = (environment.pool().clone(), environment.sink().clone());
        Self {
            budget: FileBudget::new(pool, path.clone(), sink),
            environment,
            path,
            barriers: Barriers::default(),
            subnets: SubnetNumbers::default(),
            router: OnceLock::new(),
            uplink: AsyncMutex::default(),
            anonymous: AtomicU32::new(0),
            fixtures: Mutex::default(),
            current_test: CurrentTest::default(),
            build: None,
        }
    }

    /// The context of the build of a fixture for which this file waits.
    pub(crate) fn building(&self, build: Build) -> Self {
        Self {
            budget: self.budget.for_build(),
            build: Some(build),
            ..Self::new(Arc::clone(&self.environment), self.path.clone())
        }
    }

    /// The router of its bridges.
    pub(crate) fn router(&self) -> &Arc<RouterTask> {
        self.router.get_or_init(|| {
            let _inside = self.environment.runtime().enter();
            Arc::new(RouterTask::start())
        })
    }

    /// The number of the next sub-lab without a name.
    pub(crate) fn next_anonymous(&self) -> u32 {
        self.anonymous.fetch_add(1, Ordering::Relaxed)
    }

    /// The fixture that gave a VM or a lab of that number.
    pub(crate) fn fixture_of(&self, id: ResourceId) -> Option<FixtureSource> {
        lock(&self.fixtures).get(&id).cloned()
    }

    /// Notes that a VM or a lab has come from a fixture.
    pub(crate) fn note_fixture(&self, id: ResourceId, source: &FixtureSource) {
        lock(&self.fixtures).insert(id, source.clone());
    }

    /// Who asks for something now: a test, the build of a fixture, or the file itself.
    pub(crate) fn asker(&self) -> String {
        if let Some(build) = &self.build {
            let fixture = build.chain.last().and_then(|path| path.file_name());
            return format!("fixture `{}`", fixture.unwrap_or_default());
        }
        match self.current_test.name() {
            Some(name) => format!("test `{name}`"),
            None => format!("`{}`", self.path),
        }
    }

    /// The form of a snapshot that has no folder of its own: that of a test goes with the test, one
    /// of a fixture outlives what its VM was booted from.
    pub(crate) fn form_in_cache(&self) -> SaveForm {
        match self.build {
            Some(_) => SaveForm::Whole,
            None => SaveForm::OnBase,
        }
    }
}
