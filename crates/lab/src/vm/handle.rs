//! The handle of a VM: its names, its state, and the objects that belong to it.

use crate::error::LabError;
use crate::guest::console::Console;
use crate::guest::stream::OpenStreams;
use crate::guest::worker::Workers;
use crate::lock::lock;
use crate::profile::Profile;
use crate::resource::{Close, CloseFuture, CloseOrder, GuestKey, Registration, ResourceId, Scope};
use crate::test_file::TestFileContext;
use crate::vm::disk::VmDisks;
use crate::vm::nic::VmNics;
use crate::vm::state::{Stage, VmCore, VmState};
use crate::vm_options::VmOptions;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A VM: what tests call. Its power is [`Vm::power`]; what is open in it is [`Vm::activity`].
#[derive(Clone)]
pub struct Vm(pub(crate) Arc<VmCore>);

/// What is open in a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuestActivity {
    /// Files.
    pub files: usize,
    /// Streams that read it.
    pub streams: usize,
}

impl GuestActivity {
    /// Whether no stream reads it, so that a snapshot could be taken.
    pub fn is_quiescent(self) -> bool {
        self.streams == 0
    }
}

impl Vm {
    pub(crate) fn create(
        file: Arc<TestFileContext>,
        scope: &Scope,
        name: &str,
        profile: Arc<Profile>,
        options: VmOptions,
    ) -> Self {
        let open_streams = Arc::<OpenStreams>::default();
        let core = VmCore {
            id: ResourceId::next(),
            name: name.to_owned(),
            profile,
            booted_with: Mutex::new(options.clone()),
            options,
            file,
            stage: watch::Sender::new(Stage::Created),
            lifecycle: Arc::default(),
            give_up: watch::Sender::new(0),
            console: Console::of_vm(name, Arc::clone(&open_streams)),
            open_files: AtomicUsize::new(0),
            open_streams,
            handles: Arc::default(),
            workers: Workers::default(),
            nics: VmNics::default(),
            disks: VmDisks::default(),
            timeline: Mutex::default(),
            closed: AtomicBool::new(false),
            original: None,
            place: Registration::default(),
        };
        owned_by(scope, core)
    }

    /// A VM owned by `scope` that replaces this one: for handles it is the same. It is off, and its console has
    /// all that this one printed.
    pub(crate) fn copy_in(&self, scope: &Scope) -> Result<Self, LabError> {
        let open_streams = Arc::<OpenStreams>::default();
        let stage = match self.state() {
            VmState::Created => Stage::Created,
            _ => Stage::Shutdown,
        };
        let core = VmCore {
            id: self.id(),
            name: self.0.name.clone(),
            profile: Arc::clone(&self.0.profile),
            options: self.0.options.clone(),
            booted_with: Mutex::new(lock(&self.0.booted_with).clone()),
            file: Arc::clone(&self.0.file),
            stage: watch::Sender::new(stage),
            lifecycle: Arc::default(),
            give_up: watch::Sender::new(0),
            console: self.0.console.copy(Arc::clone(&open_streams))?,
            open_files: AtomicUsize::new(0),
            open_streams,
            handles: Arc::default(),
            workers: Workers::default(),
            nics: VmNics::default(),
            disks: VmDisks::default(),
            timeline: Mutex::new(lock(&self.0.timeline).clone()),
            closed: AtomicBool::new(false),
            original: Some(Arc::clone(&self.0)),
            place: Registration::default(),
        };
        Ok(owned_by(scope, core))
    }

    /// The VM that it is a copy of, or itself.
    pub fn original(&self) -> Self {
        Self(Arc::clone(self.0.original.as_ref().unwrap_or(&self.0)))
    }

    /// Whether both are the same VM, and not only equal for handles.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The name of its profile.
    pub fn profile(&self) -> &str {
        &self.0.profile.name
    }

    /// Its name in messages: ``vm `web` ``.
    pub fn subject(&self) -> String {
        self.0.subject()
    }

    /// Where it is in its life.
    pub fn state(&self) -> VmState {
        self.0.state()
    }

    /// Whether it can be booted.
    pub fn is_off(&self) -> bool {
        matches!(self.state(), VmState::Created | VmState::Shutdown)
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The number that distinguishes the running VMs of this process; `None` when it does not run.
    pub fn cid(&self) -> Option<u32> {
        self.0.stage.borrow().running().map(|running| running.cid)
    }

    /// What is open in it.
    pub fn activity(&self) -> GuestActivity {
        let has_guest = self.0.stage.borrow().running().is_some();
        let files = self.0.open_files.load(Ordering::Relaxed);
        GuestActivity {
            files: if has_guest { files } else { 0 },
            streams: self.0.open_streams.count(has_guest),
        }
    }

    /// Its console, from the first byte on; also before the boot and after the end.
    pub fn console(&self) -> Console {
        self.0.console.clone()
    }
}

/// A VM of that state, which `scope` closes.
fn owned_by(scope: &Scope, core: VmCore) -> Vm {
    let vm = Vm(Arc::new(core));
    let key = (CloseOrder::Vm, vm.id());
    vm.0.place.take(scope, key, Arc::new(vm.clone()));
    vm
}

impl Close for Vm {
    fn subject(&self) -> String {
        Self::subject(self)
    }

    fn close(&self) -> CloseFuture<'_> {
        Box::pin(Self::close(self))
    }

    fn guest(&self) -> Option<GuestKey> {
        Some(GuestKey::of(&self.0))
    }
}

impl fmt::Debug for Vm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vm").field(&self.0.name).finish()
    }
}
