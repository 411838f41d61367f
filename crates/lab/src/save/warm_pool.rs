//! The pool of warm VMs: machines that are restored in advance, so that a restore does not wait for QEMU to
//! start.
//!
//! A warm VM is made in the background of a saved VM that has been restored and is likely to be restored
//! again: of a template from its second use on, of a baseline at each reset. It is one paused machine, which
//! uses no processor time, and of memory what QEMU needs for itself. There are few of them: the oldest one is
//! replaced first, none are made while the pool is nearly used up, and they are ended when a boot needs the
//! room.
//!
//! A warm VM is found by its source: the folder, and the seal of a folder that its author may replace. A
//! folder that was replaced has another seal, and warm VMs of the older one are ended.

use crate::lock::lock;
use crate::save::restore::{RestoreRequest, StandbyVm};
use camino::Utf8PathBuf;
use provium_pool::VM_OVERHEAD;
use provium_store::Seal;
use provium_vmm::Qemu;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// The largest number of warm VMs, ready or in preparation.
const CAPACITY: usize = 4;

/// One is only made if the pool has room for so much, bytes.
const ROOM: u64 = 4 * VM_OVERHEAD;

/// What lists of processes show a warm VM as.
const NAME: &str = "warm";

/// How likely a saved VM will be restored again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// If it was restored more than once.
    Possible,
    /// At the next reset.
    Certain,
}

/// The pool of a run.
#[derive(Default)]
pub(crate) struct WarmPool {
    state: Mutex<State>,
    closed: watch::Sender<bool>,
}

struct State<V = StandbyVm> {
    /// In the order in which they became ready.
    ready: Vec<WarmVm<V>>,
    pending: Vec<Source>,
    uses: BTreeMap<Source, u32>,
}

struct WarmVm<V> {
    source: Source,
    vm: V,
}

/// Which saved VM a warm one was restored from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Source {
    folder: Utf8PathBuf,
    /// Of a folder that its author may replace.
    seal: Option<Seal>,
    /// The serials of its disks, which a machine has from its start.
    serials: Vec<String>,
}

impl Source {
    fn of(request: &RestoreRequest) -> Self {
        let serials = request.disks.iter().map(|disk| disk.serial.clone());
        Self {
            folder: request.saved.folder().to_owned(),
            seal: request.saved.seal().cloned(),
            serials: serials.collect(),
        }
    }

    /// Whether it can still be restored.
    fn exists(&self) -> bool {
        self.folder.exists() && self.seal.as_ref().is_none_or(Seal::is_current)
    }
}

impl<V> Default for State<V> {
    fn default() -> Self {
        Self {
            ready: Vec::new(),
            pending: Vec::new(),
            uses: BTreeMap::new(),
        }
    }
}

impl WarmPool {
    /// A warm VM for that request, if one is ready.
    pub(crate) fn take(&self, request: &RestoreRequest) -> Option<StandbyVm> {
        let vm = self.pop(&Source::of(request))?;
        vm.is_alive().then_some(vm)
    }

    fn pop(&self, source: &Source) -> Option<StandbyVm> {
        let mut state = lock(&self.state);
        let found = state.ready.iter().position(|warm| warm.source == *source)?;
        Some(state.ready.remove(found).vm)
    }

    /// Counts a restore, and decides whether a warm VM of it is to be made, which counts as pending
    /// from now on. `room` is what the run's pool has left, bytes.
    pub(crate) fn should_prewarm(&self, request: &RestoreRequest, reuse: Reuse, room: u64) -> bool {
        let source = Source::of(request);
        let mut state = lock(&self.state);
        let uses = state.uses.entry(source.clone()).or_default();
        *uses += 1;
        let is_likely = reuse == Reuse::Certain || *uses > 1;
        if !is_likely || room < ROOM || *self.closed.borrow() {
            return false;
        }
        let (is_wanted, evicted) = state.evict_for(&source);
        if is_wanted {
            state.pending.push(source);
        }
        drop(state);
        drop(evicted);
        is_wanted
    }

    /// Makes a warm VM that [`should_prewarm`](Self::should_prewarm) has decided for. Its guest may take `limit`
    /// for its command.
    pub(crate) async fn prewarm(&self, request: &RestoreRequest, qemu: &Qemu, limit: Duration) {
        let made = tokio::select! {
            biased;
            () = self.closed() => None,
            made = make(request, qemu, limit) => made,
        };
        self.insert(request, made);
    }

    /// Ends the preparation of a warm VM, which is `None` if it failed.
    fn insert(&self, request: &RestoreRequest, vm: Option<StandbyVm>) {
        let mut state = lock(&self.state);
        let source = Source::of(request);
        state.pending.retain(|pending| *pending != source);
        // A folder that was replaced meanwhile may have been loaded in part.
        let is_usable = !*self.closed.borrow() && source.exists();
        if let Some(vm) = vm.filter(|_| is_usable) {
            state.ready.push(WarmVm { source, vm });
        }
    }

    /// Ends all warm VMs if the run's pool has too little room left.
    pub(crate) fn make_room(&self, room: u64) {
        if room < ROOM {
            let evicted = std::mem::take(&mut lock(&self.state).ready);
            drop(evicted);
        }
    }

    /// Ends all warm VMs, and their preparation. No more are made.
    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        let evicted = std::mem::take(&mut lock(&self.state).ready);
        drop(evicted);
    }

    /// Returns when the pool is closed.
    async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }
}

async fn make(request: &RestoreRequest, qemu: &Qemu, limit: Duration) -> Option<StandbyVm> {
    let mut vm = request.load(NAME, qemu).await.ok()?;
    if request.can_warm_up() {
        match timeout(limit, vm.warm_up()).await {
            Ok(Ok(())) => {}
            // A guest that fails now would also fail as a VM, where a test sees it.
            failed => {
                tracing::debug!(?failed, "a warm VM failed");
                return None;
            }
        }
    }
    Some(vm)
}

impl<V> State<V> {
    /// Whether to make a warm VM of `source`, and which others are evicted for it.
    fn evict_for(&mut self, source: &Source) -> (bool, Vec<WarmVm<V>>) {
        // A folder that was deleted or replaced is never restored again.
        let useless = |warm: &mut WarmVm<V>| !warm.source.exists();
        let mut evicted: Vec<WarmVm<V>> = self.ready.extract_if(.., useless).collect();
        let is_present =
            self.ready.iter().any(|warm| warm.source == *source) || self.pending.contains(source);
        if is_present || self.pending.len() >= CAPACITY {
            return (false, evicted);
        }
        while self.ready.len() + self.pending.len() >= CAPACITY {
            evicted.push(self.ready.remove(0));
        }
        (true, evicted)
    }
}

impl fmt::Debug for WarmPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WarmPool")
            .field(&lock(&self.state).ready.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use camino::Utf8Path;

    #[test]
    fn a_warm_vm_of_a_replaced_folder_is_not_found_and_ends() {
        let root = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(root.path()).unwrap();
        fs_err::create_dir(folder.join("part")).unwrap();
        let older = Source {
            folder: folder.join("part"),
            seal: Some(Seal::new(folder).unwrap()),
            serials: Vec::new(),
        };
        let mut state: State<u32> = State::default();
        let (source, vm) = (older.clone(), 1);
        state.ready.push(WarmVm { source, vm });
        assert!(!state.evict_for(&older).0, "it is ready");
        let newer = Source {
            seal: Some(Seal::new(folder).unwrap()),
            ..older.clone()
        };
        let (is_wanted, evicted) = state.evict_for(&newer);
        assert_eq!((is_wanted, evicted.len()), (true, 1));
        assert!(newer.exists() && !older.exists());
    }

    #[test]
    fn a_new_warm_vm_replaces_the_oldest_or_a_deleted_one() {
        let root = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(root.path()).unwrap();
        let source = |number: usize| {
            let folder = root.join(number.to_string());
            fs_err::create_dir_all(&folder).unwrap();
            let seal = None;
            Source {
                folder,
                seal,
                serials: Vec::new(),
            }
        };
        let mut state: State<usize> = State::default();
        let mut add = |number| {
            let (is_wanted, evicted) = state.evict_for(&source(number));
            if is_wanted {
                let (source, vm) = (source(number), number);
                state.ready.push(WarmVm { source, vm });
            }
            let evicted: Vec<usize> = evicted.iter().map(|warm| warm.vm).collect();
            (is_wanted, evicted)
        };
        for number in 0..CAPACITY {
            assert_eq!(add(number), (true, vec![]));
        }
        assert_eq!(add(1), (false, vec![]), "it is ready");
        assert_eq!(add(10), (true, vec![0]), "the oldest");
        fs_err::remove_dir(source(2).folder).unwrap();
        assert_eq!(add(11), (true, vec![2]), "the deleted one");
        assert_eq!(add(12), (true, vec![1]));

        state.pending = (20..20 + CAPACITY).map(source).collect();
        let (is_wanted, _) = state.evict_for(&source(30));
        assert!(!is_wanted, "all are pending");
    }

    #[tokio::test]
    async fn closing_the_pool_ends_preparations() {
        let pool = WarmPool::default();
        let waiting = pool.closed();
        let (closed, ()) = tokio::join!(timeout(Duration::from_secs(60), waiting), async {
            pool.close()
        });
        closed.unwrap();
    }
}
