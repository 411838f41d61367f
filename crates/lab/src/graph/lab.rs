//! Labs: the names of VMs, bridges and sub-labs.
//!
//! A file has one root lab. What is made in the root lab gets its name in the scope it is made in:
//! a look-up from a test tries the test's scope, then the file's. A sub-lab has names of its own and
//! no parent chain.

use crate::environment::Environment;
use crate::error::LabError;
use crate::graph::group::VmGroup;
use crate::inputs::{Build, Recorder};
use crate::lock::lock;
use crate::network::{Bridge, BridgeOptions, SavedBridge};
use crate::resource::{ResourceId, Scope, WeakScope};
use crate::test_file::TestFileContext;
use crate::vm::Vm;
use crate::vm_options::VmOptions;
use indexmap::IndexMap;
use provium_pool::Claim;
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Names that no resource may have: they are methods, or Lua's own.
pub const RESERVED_NAMES: [&str; 4] = ["pack", "unpack", "vm_fixture", "lab_fixture"];

/// Names for VMs, bridges and sub-labs.
#[derive(Clone)]
pub struct Lab(Arc<Inner>);

struct Inner {
    id: ResourceId,
    name: String,
    names: LabNames,
    file: Arc<TestFileContext>,
}

/// The members of a lab, in the order they came.
#[derive(Default)]
pub(crate) struct Names {
    vms: IndexMap<String, Vm>,
    bridges: IndexMap<String, Bridge>,
    labs: IndexMap<String, Lab>,
}

/// Who has the names of a lab.
enum LabNames {
    /// The root lab: each scope has its own, as long as it exists.
    ByScope(Mutex<Vec<(WeakScope, SharedNames)>>),
    /// A sub-lab.
    Own(SharedNames),
}

type SharedNames = Arc<Mutex<Names>>;

/// A member of a lab.
#[derive(Debug, Clone)]
pub enum Member {
    /// A VM.
    Vm(Vm),
    /// A bridge.
    Bridge(Bridge),
    /// A sub-lab.
    Lab(Lab),
}

/// What kind of member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A VM.
    Vm,
    /// A bridge.
    Bridge,
    /// A sub-lab.
    SubLab,
}

impl MemberKind {
    /// `vm`, `bridge` or `sub_lab`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Bridge => "bridge",
            Self::SubLab => "sub_lab",
        }
    }

    /// The method that looks up a member of this kind.
    fn look_up(self) -> &'static str {
        match self {
            Self::Vm => "vm",
            Self::Bridge => "bridge",
            Self::SubLab => "lab",
        }
    }
}

impl Member {
    /// Its name.
    pub fn name(&self) -> String {
        match self {
            Self::Vm(vm) => vm.name().to_owned(),
            Self::Bridge(bridge) => bridge.name().to_owned(),
            Self::Lab(lab) => lab.name().to_owned(),
        }
    }

    /// What it is.
    pub fn kind(&self) -> MemberKind {
        match self {
            Self::Vm(_) => MemberKind::Vm,
            Self::Bridge(_) => MemberKind::Bridge,
            Self::Lab(_) => MemberKind::SubLab,
        }
    }
}

impl LabNames {
    /// The names that what is made in `scope` is added to.
    fn of(&self, scope: &Scope) -> SharedNames {
        let by_scope = match self {
            Self::Own(names) => return Arc::clone(names),
            Self::ByScope(by_scope) => by_scope,
        };
        let mut all = lock(by_scope);
        if let Some((_, names)) = all.iter().find(|(of, _)| of.is(scope)) {
            return Arc::clone(names);
        }
        all.retain(|(of, _)| of.exists());
        let names = SharedNames::default();
        all.push((scope.downgrade(), Arc::clone(&names)));
        names
    }
}

impl Names {
    fn get(&self, name: &str) -> Option<Member> {
        let vm = self
            .vms
            .get(name)
            .filter(|vm| !vm.is_closed())
            .cloned()
            .map(Member::Vm);
        vm.or_else(|| self.bridge(name).map(Member::Bridge))
            .or_else(|| self.labs.get(name).cloned().map(Member::Lab))
    }

    fn bridge(&self, name: &str) -> Option<Bridge> {
        let bridge = self.bridges.get(name);
        bridge.filter(|bridge| !bridge.is_closed()).cloned()
    }

    fn insert(&mut self, member: Member) {
        match member {
            Member::Vm(vm) => drop(self.vms.insert(vm.name().to_owned(), vm)),
            Member::Bridge(bridge) => {
                drop(self.bridges.insert(bridge.name().to_owned(), bridge));
            }
            Member::Lab(lab) => drop(self.labs.insert(lab.name().to_owned(), lab)),
        }
    }

    fn members(&mut self) -> Vec<Member> {
        self.vms.retain(|_, vm| !vm.is_closed());
        self.bridges.retain(|_, bridge| !bridge.is_closed());
        let vms = self.vms.values().cloned().map(Member::Vm);
        let bridges = self.bridges.values().cloned().map(Member::Bridge);
        vms.chain(bridges)
            .chain(self.labs.values().cloned().map(Member::Lab))
            .collect()
    }
}

impl Lab {
    /// The root lab of the file that events and messages call `path`.
    pub fn root(environment: Arc<Environment>, path: impl Into<String>) -> Self {
        Self::root_of(TestFileContext::new(environment, path.into()))
    }

    /// The root lab of a fixture's build. It draws on the budget of the file that waits for the fixture,
    /// and does not see the labs of that file.
    pub(crate) fn building(&self, build: Build) -> Self {
        Self::root_of(self.0.file.building(build))
    }

    fn root_of(file: TestFileContext) -> Self {
        Self(Arc::new(Inner {
            id: ResourceId::next(),
            name: "provium".to_owned(),
            names: LabNames::ByScope(Mutex::default()),
            file: Arc::new(file),
        }))
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name; `provium` for the root.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether it is the file's root lab.
    pub fn is_root(&self) -> bool {
        matches!(self.0.names, LabNames::ByScope(_))
    }

    /// What all files of the run share.
    pub fn environment(&self) -> &Arc<Environment> {
        &self.0.file.environment
    }

    /// The VM of that name.
    pub fn vm(&self, scope: &Scope, name: &str) -> Result<Vm, LabError> {
        for names in self.searched(scope) {
            if let Some(Member::Vm(vm)) = lock(&names).get(name) {
                return Ok(vm);
            }
        }
        let names: Vec<String> = self
            .searched(scope)
            .flat_map(|names| lock(&names).members())
            .map(|member| member.name())
            .collect();
        let nearest = crate::nearest::nearest(name, names.iter().map(String::as_str));
        let why = match nearest {
            Some(nearest) => format!("no VM of that name; did you mean `{nearest}`?"),
            None => "no VM of that name; to make one, give a profile too".to_owned(),
        };
        Err(invalid(self, &format!("vm({name:?})"), why))
    }

    /// A new VM in state *created*, owned by `scope`.
    pub fn create_vm(
        &self,
        scope: &Scope,
        name: &str,
        profile: &str,
        options: VmOptions,
    ) -> Result<Vm, LabError> {
        let call = format!("vm({name:?}, {profile:?})");
        self.check_new_name(scope, name, &call)?;
        let environment = self.environment();
        let profile = environment
            .profile(profile)
            .map_err(|unknown| invalid(self, &call, unknown.to_string()))?;
        if let Some(build) = &self.0.file.build {
            build.recorder.profile(&profile.name);
            for disk in &profile.disks {
                disk.source.record(&build.recorder);
            }
        }
        let vm = Vm::create(Arc::clone(&self.0.file), scope, name, profile, options);
        lock(&self.0.names.of(scope)).insert(Member::Vm(vm.clone()));
        Ok(vm)
    }

    /// The bridge of that name, which is created if it does not exist.
    ///
    /// # Errors
    /// When it exists and `options` are given; when the name is taken.
    pub fn bridge(
        &self,
        scope: &Scope,
        name: &str,
        options: Option<BridgeOptions>,
    ) -> Result<Bridge, LabError> {
        let call = format!("bridge({name:?})");
        for names in self.searched(scope) {
            if let Some(bridge) = lock(&names).bridge(name) {
                if options.is_some() {
                    let why = "it exists already, and keeps the options that it was made with; to look it \
                               up, leave them out";
                    return Err(invalid(self, &call, why.to_owned()));
                }
                return Ok(bridge);
            }
        }
        self.check_new_name(scope, name, &call)?;
        let path = format!("{}/{name}", self.name());
        let options = options.unwrap_or_default();
        let bridge = Bridge::create(&self.0.file, scope, &path, name, options)?;
        lock(&self.0.names.of(scope)).insert(Member::Bridge(bridge.clone()));
        Ok(bridge)
    }

    /// A bridge as it was saved, without members yet.
    pub(crate) fn bridge_again(
        &self,
        scope: &Scope,
        saved: &SavedBridge,
    ) -> Result<Bridge, LabError> {
        let call = format!("bridge({:?})", saved.name);
        self.check_new_name(scope, &saved.name, &call)?;
        let bridge = saved.bridge(&self.0.file, scope, ResourceId::next());
        lock(&self.0.names.of(scope)).insert(Member::Bridge(bridge.clone()));
        Ok(bridge)
    }

    /// The sub-lab of that name, which is created if it does not exist; without a name, a new one.
    pub fn sub_lab(&self, scope: &Scope, name: Option<&str>) -> Result<Lab, LabError> {
        let name = match name {
            Some(name) => {
                for names in self.searched(scope) {
                    if let Some(lab) = lock(&names).labs.get(name) {
                        return Ok(lab.clone());
                    }
                }
                self.check_new_name(scope, name, &format!("lab({name:?})"))?;
                name.to_owned()
            }
            None => {
                format!("__lab_{}", self.0.file.next_anonymous())
            }
        };
        let lab = Self(Arc::new(Inner {
            id: ResourceId::next(),
            name,
            names: LabNames::Own(SharedNames::default()),
            file: Arc::clone(&self.0.file),
        }));
        lock(&self.0.names.of(scope)).insert(Member::Lab(lab.clone()));
        Ok(lab)
    }

    /// A lab without members and with the number of this one, for a lab clone.
    pub(crate) fn empty_copy(&self) -> Self {
        Self(Arc::new(Inner {
            id: self.id(),
            name: self.name().to_owned(),
            names: LabNames::Own(SharedNames::default()),
            file: Arc::clone(&self.0.file),
        }))
    }

    /// Makes `members` members of this lab, whatever they are called.
    pub(crate) fn adopt(&self, scope: &Scope, members: impl IntoIterator<Item = Member>) {
        let names = self.0.names.of(scope);
        let mut names = lock(&names);
        for member in members {
            names.insert(member);
        }
    }

    /// The member of that name, whatever it is.
    pub fn lookup(&self, scope: &Scope, name: &str) -> Option<Member> {
        self.searched(scope)
            .find_map(|names| lock(&names).get(name))
    }

    /// Takes a member out; its VMs keep running.
    pub fn remove(&self, scope: &Scope, name: &str) -> Result<(), LabError> {
        let names = self.0.names.of(scope);
        let mut names = lock(&names);
        if names.vms.shift_remove(name).is_some()
            || names.bridges.shift_remove(name).is_some()
            || names.labs.shift_remove(name).is_some()
        {
            return Ok(());
        }
        drop(names);
        Err(invalid(
            self,
            &format!("remove({name:?})"),
            "no member of that name".to_owned(),
        ))
    }

    /// The members, in the order they came: VMs, bridges, sub-labs.
    pub fn members(&self, scope: &Scope) -> Vec<Member> {
        lock(&self.0.names.of(scope)).members()
    }

    /// Its VMs, without those of its sub-labs.
    pub fn vms(&self, scope: &Scope) -> VmGroup {
        let members = self.members(scope).into_iter();
        VmGroup(
            members
                .filter_map(|member| match member {
                    Member::Vm(vm) => Some(vm),
                    Member::Bridge(_) | Member::Lab(_) => None,
                })
                .collect(),
        )
    }

    /// Records what the build of a fixture reads that it belongs to; `None` if it belongs to none.
    pub fn recorder(&self) -> Option<&Recorder> {
        self.0.file.build.as_ref().map(|build| &build.recorder)
    }

    /// Reserves the whole budget of the file, once.
    pub async fn claim(&self, claim: Claim) -> Result<(), LabError> {
        let claimed = self.0.file.budget.claim(claim).await;
        claimed.map_err(|cause| LabError::Budget {
            subject: self.subject(),
            call: "claim()".to_owned(),
            cause,
        })
    }

    /// Waits until `count` tasks of the file are in the barrier `name`; with `among`, until that many
    /// tasks of this scope are, which meet only each other there.
    pub async fn barrier(
        &self,
        among: Option<&Scope>,
        name: &str,
        count: usize,
        timeout: Duration,
    ) -> Result<(), LabError> {
        self.0
            .file
            .barriers
            .wait(&self.subject(), among.map(Scope::id), name, count, timeout)
            .await
    }

    /// Closes what is in `scope` in the background.
    pub fn close_later(&self, scope: Scope) {
        if scope.is_empty() {
            return;
        }
        self.environment().spawn_background(async move {
            for failure in scope.close().await {
                tracing::warn!(%failure, "closing what was left");
            }
        });
    }

    /// From now on the test `name` of the file runs, which messages name; `None`: none, or several at a time.
    pub fn set_current_test(&self, name: Option<&str>) {
        self.0.file.current_test.set(name);
    }

    /// What the labs of this file share.
    pub(crate) fn file_context(&self) -> &Arc<TestFileContext> {
        &self.0.file
    }

    pub(crate) fn subject(&self) -> String {
        format!("lab `{}`", self.name())
    }

    /// The names that a look-up from `scope` tries, in order.
    fn searched(&self, scope: &Scope) -> impl Iterator<Item = SharedNames> {
        let scopes = std::iter::successors(Some(scope), |scope| scope.parent());
        // A sub-lab has the same names in all scopes.
        let scopes = scopes.take(if self.is_root() { usize::MAX } else { 1 });
        scopes.map(|scope| self.0.names.of(scope))
    }

    pub(crate) fn check_new_name(
        &self,
        scope: &Scope,
        name: &str,
        call: &str,
    ) -> Result<(), LabError> {
        if name.is_empty() {
            return Err(invalid(self, call, "the name is empty".to_owned()));
        }
        if name.contains(char::is_control) {
            let why = format!("the name {name:?} holds a control character");
            return Err(invalid(self, call, why));
        }
        if RESERVED_NAMES.contains(&name) {
            return Err(invalid(self, call, format!("`{name}` is a reserved name")));
        }
        for (depth, names) in self.searched(scope).enumerate() {
            if let Some(member) = lock(&names).get(name) {
                let kind = member.kind().word();
                let why = if depth == 0 {
                    format!("there is a {kind} `{name}` in this lab already")
                } else {
                    format!(
                        "there is a {kind} `{name}` at file scope; to use that one, look it up: \
                         provium:{call}({name:?})",
                        call = member.kind().look_up()
                    )
                };
                return Err(invalid(self, call, why));
            }
        }
        Ok(())
    }
}

/// The error of a call of `lab` that makes no sense.
pub(crate) fn invalid(lab: &Lab, call: &str, why: String) -> LabError {
    LabError::invalid(lab.subject(), call, why)
}

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lab").field(&self.0.name).finish()
    }
}
