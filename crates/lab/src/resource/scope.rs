//! Scopes: owners of resources, which they close in order when they end.
//!
//! A scope is opened for a file and, below it, for each test. What is made in a scope is registered
//! there and closed when the scope ends: streams first, then processes, files, workers, VMs and
//! bridges. All of one class are closed together, begun with the newest, so that twenty processes that
//! ignore SIGTERM take as long as one. A failure to close is reported and stops nothing.
//!
//! What lives in a guest whose VM ends with the scope is not asked to end first: it ends with the VM, also
//! where the guest does not answer any more.
//!
//! A resource that is closed earlier leaves its scope then.

use crate::error::LabError;
use crate::lock::lock;
use crate::resource::id::ResourceId;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long closing all that needs a guest's answer may take. Each resource has limits of its own, which
/// are shorter; this one is for what they forget.
const GUEST_LIMIT: Duration = Duration::from_secs(40);

/// What kind of resource; scopes close the kinds in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseOrder {
    /// Tails, captures, console streams.
    Stream,
    /// Commands started by `run_async`.
    Process,
    /// Opened files.
    File,
    /// Workers.
    Worker,
    /// VMs.
    Vm,
    /// Bridges.
    Bridge,
}

/// Identifies a guest as long as its VM exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct GuestKey(usize);

impl GuestKey {
    /// Of a VM whose state is at this address.
    pub(crate) fn of<T>(vm: &Arc<T>) -> Self {
        Self(Arc::as_ptr(vm).addr())
    }
}

/// A future that a trait object can return.
pub(crate) type CloseFuture<'a> = Pin<Box<dyn Future<Output = Result<(), LabError>> + Send + 'a>>;

/// Something a scope can close.
pub(crate) trait Close: Send + Sync {
    /// For messages: ``vm `web` ``.
    fn subject(&self) -> String;
    /// Closes it; closed already is fine.
    fn close(&self) -> CloseFuture<'_>;
    /// The guest that it lives in, or is.
    fn guest(&self) -> Option<GuestKey> {
        None
    }
}

/// A failure to close, met when a scope ended.
#[derive(Debug)]
pub struct CloseFailure {
    /// What was to be closed.
    pub subject: String,
    /// Why it could not be.
    pub error: LabError,
}

impl fmt::Display for CloseFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most errors begin with the same subject.
        let error = self.error.to_string();
        let subject = format!("{}: ", self.subject);
        let why = error.strip_prefix(&subject).unwrap_or(&error);
        write!(f, "closing {subject}{why}")
    }
}

/// Owns what is made in it.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    id: ResourceId,
    label: String,
    parent: Option<Scope>,
    /// What it holds is about to be closed.
    ends: AtomicBool,
    resources: Mutex<BTreeMap<(CloseOrder, ResourceId), Arc<dyn Close>>>,
}

/// A scope, which it does not keep.
#[derive(Debug, Clone)]
pub(crate) struct WeakScope(Weak<Inner>);

impl WeakScope {
    /// Whether the scope is kept by another handle.
    pub(crate) fn exists(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Whether it is that scope.
    pub(crate) fn is(&self, scope: &Scope) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&scope.0))
    }
}

impl Scope {
    /// The scope of a file.
    pub fn file(label: impl Into<String>) -> Self {
        Self::new(label.into(), None)
    }

    /// A scope below this one, as for a test.
    pub fn child(&self, label: impl Into<String>) -> Self {
        Self::new(label.into(), Some(self.clone()))
    }

    fn new(label: String, parent: Option<Scope>) -> Self {
        Self(Arc::new(Inner {
            id: ResourceId::next(),
            label,
            parent,
            ends: AtomicBool::new(false),
            resources: Mutex::default(),
        }))
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.0.id
    }

    /// What it was called when it was opened: the file's path or the test's name.
    pub fn label(&self) -> &str {
        &self.0.label
    }

    /// The scope it was opened in.
    pub fn parent(&self) -> Option<&Scope> {
        self.0.parent.as_ref()
    }

    /// The scope of the file.
    pub fn file_scope(&self) -> &Scope {
        self.parent().map_or(self, Scope::file_scope)
    }

    /// How many resources it holds now.
    pub fn len(&self) -> usize {
        self.resources().len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn downgrade(&self) -> WeakScope {
        WeakScope(Arc::downgrade(&self.0))
    }

    /// Says that this scope is about to be closed, so that what is closed before in a scope below it need
    /// not be taken out of guests that end anyway.
    pub fn announce_end(&self) {
        self.0.ends.store(true, Ordering::Release);
    }

    /// Closes everything, class by class, and says what could not be closed. What a guest is asked to
    /// close has a limit in all, since its VM, which comes last, is ended without it.
    pub async fn close(&self) -> Vec<CloseFailure> {
        self.announce_end();
        let mut failures = Vec::new();
        let limit = Instant::now() + GUEST_LIMIT;
        let ending = self.ending_guests();
        while let Some((class, resources)) = self.take_class() {
            let closings = resources.into_iter().map(|resource| {
                let ends_anyway = class > CloseOrder::Stream
                    && class < CloseOrder::Vm
                    && resource
                        .guest()
                        .is_some_and(|guest| ending.contains(&guest));
                async move {
                    let closed = if ends_anyway {
                        Ok(())
                    } else if class < CloseOrder::Vm {
                        let closed = timeout_at(limit, resource.close()).await;
                        closed.unwrap_or_else(|_| Err(too_late(&*resource)))
                    } else {
                        resource.close().await
                    };
                    closed.err().map(|error| CloseFailure {
                        subject: resource.subject(),
                        error,
                    })
                }
            });
            failures.extend(join_all(closings).await.into_iter().flatten());
        }
        failures
    }

    /// The guests whose VMs are closed with this scope, or right after it.
    fn ending_guests(&self) -> BTreeSet<GuestKey> {
        let mut guests = BTreeSet::new();
        let mut scope = Some(self);
        while let Some(now) = scope {
            if now.0.ends.load(Ordering::Acquire) {
                let resources = now.resources();
                let vms = resources
                    .iter()
                    .filter(|((class, _), _)| *class == CloseOrder::Vm);
                guests.extend(vms.filter_map(|(_, vm)| vm.guest()));
            }
            scope = now.parent();
        }
        guests
    }

    /// Takes out what must be closed next: all of the first class that has any, the newest first.
    fn take_class(&self) -> Option<(CloseOrder, Vec<Arc<dyn Close>>)> {
        let mut resources = self.resources();
        let class = resources.keys().next()?.0;
        let keys: Vec<_> = resources
            .keys()
            .take_while(|(of, _)| *of == class)
            .copied()
            .collect();
        let taken = keys.iter().rev().filter_map(|key| resources.remove(key));
        Some((class, taken.collect()))
    }

    fn resources(&self) -> MutexGuard<'_, BTreeMap<(CloseOrder, ResourceId), Arc<dyn Close>>> {
        // A panic elsewhere leaves the map whole: no code that could panic runs under the lock.
        lock(&self.0.resources)
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.0.label).finish()
    }
}

fn too_late(resource: &dyn Close) -> LabError {
    LabError::TimedOut {
        subject: resource.subject(),
        call: "close()".to_owned(),
        after: GUEST_LIMIT,
        note: "; its guest did not apply that".to_owned(),
    }
}

/// Registers a resource with its scope: once, until it is closed.
#[derive(Default)]
pub(crate) struct Registration(OnceLock<(Weak<Inner>, (CloseOrder, ResourceId))>);

impl Registration {
    /// Adds `resource` to the scope.
    pub(crate) fn take(
        &self,
        scope: &Scope,
        key: (CloseOrder, ResourceId),
        resource: Arc<dyn Close>,
    ) {
        if self.0.set((Arc::downgrade(&scope.0), key)).is_ok() {
            scope.resources().insert(key, resource);
        }
    }

    /// Adds a resource that has left to its scope again, if that has not ended.
    pub(crate) fn take_again(&self, resource: Arc<dyn Close>) {
        if let Some((scope, key)) = self.0.get()
            && let Some(inner) = scope.upgrade()
        {
            Scope(inner).resources().insert(*key, resource);
        }
    }

    /// Leaves the scope: the resource is closed. Left already is fine.
    pub(crate) fn leave(&self) {
        if let Some((scope, key)) = self.0.get()
            && let Some(inner) = scope.upgrade()
        {
            Scope(inner).resources().remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct DropProbe {
        name: &'static str,
        guest: Option<GuestKey>,
        log: Log,
    }

    type Log = Arc<Mutex<Vec<&'static str>>>;

    impl Close for DropProbe {
        fn subject(&self) -> String {
            self.name.to_owned()
        }
        fn close(&self) -> CloseFuture<'_> {
            Box::pin(async move {
                self.log.lock().unwrap().push(self.name);
                match self.name {
                    "silent" => std::future::pending().await,
                    "slow" => tokio::time::sleep(Duration::from_secs(2)).await,
                    "bad" => return Err(LabError::gone("bad", "close()", "stuck")),
                    _ => {}
                }
                Ok(())
            })
        }
        fn guest(&self) -> Option<GuestKey> {
            self.guest
        }
    }

    /// Adds a probe to the scope.
    fn add(
        scope: &Scope,
        log: &Log,
        class: CloseOrder,
        name: &'static str,
        guest: usize,
    ) -> Registration {
        let witness = Arc::new(DropProbe {
            name,
            guest: Some(GuestKey(guest)),
            log: Arc::clone(log),
        });
        let place = Registration::default();
        place.take(scope, (class, ResourceId::next()), witness);
        place
    }

    #[tokio::test]
    async fn a_scope_closes_by_order_then_newest_first_despite_failures() {
        let log = Log::default();
        let scope = Scope::file("f").child("t");
        let add = |class, name| add(&scope, &log, class, name, 0);
        add(CloseOrder::Bridge, "bridge");
        add(CloseOrder::File, "bad");
        add(CloseOrder::Stream, "stream 1");
        add(CloseOrder::Process, "process");
        let gone = add(CloseOrder::Worker, "closed before");
        add(CloseOrder::Worker, "worker 1");
        add(CloseOrder::Worker, "worker 2");
        add(CloseOrder::Stream, "stream 2");
        gone.leave();

        let failures = scope.close().await;

        assert_eq!(
            *log.lock().unwrap(),
            [
                "stream 2", "stream 1", "process", "bad", "worker 2", "worker 1", "bridge"
            ]
        );
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].subject, "bad");
        assert!(scope.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn resources_of_one_kind_are_closed_in_parallel() {
        let log = Log::default();
        let scope = Scope::file("f");
        for class in [CloseOrder::Process, CloseOrder::Worker] {
            for _ in 0..20 {
                add(&scope, &log, class, "slow", 0);
            }
        }
        let began = Instant::now();
        assert!(scope.close().await.is_empty());
        assert_eq!(log.lock().unwrap().len(), 40);
        assert_eq!(began.elapsed(), Duration::from_secs(4));
    }

    #[tokio::test(start_paused = true)]
    async fn resources_in_a_guest_that_ends_are_not_closed_one_by_one() {
        let log = Log::default();
        let file = Scope::file("f");
        let test = file.child("t");
        add(&file, &log, CloseOrder::Vm, "vm of the file", 1);
        add(&test, &log, CloseOrder::Vm, "vm of the test", 2);
        for guest in [1, 2] {
            add(&test, &log, CloseOrder::Process, "silent", guest);
            add(&test, &log, CloseOrder::Worker, "worker", guest);
            add(&test, &log, CloseOrder::Stream, "stream", guest);
        }
        let began = Instant::now();
        let failures = test.close().await;
        assert_eq!(
            *log.lock().unwrap(),
            ["stream", "stream", "silent", "worker", "vm of the test"]
        );
        // The process in the guest of the file is named, and does not keep the others from being closed.
        let [failure] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert!(failure.to_string().contains("40s"), "{failure}");
        assert_eq!(began.elapsed(), GUEST_LIMIT);

        log.lock().unwrap().clear();
        let test = file.child("the last one of a run that is ended");
        add(&test, &log, CloseOrder::Process, "silent", 1);
        file.announce_end();
        let began = Instant::now();
        assert!(test.close().await.is_empty());
        assert!(file.close().await.is_empty());
        assert_eq!(*log.lock().unwrap(), ["vm of the file"]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
