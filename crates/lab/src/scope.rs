//! Scopes: who closes what, and in which order.
//!
//! A scope is opened for a file and, below it, for each test. What is made in a scope is registered
//! there and closed when the scope ends: streams first, then processes, files, workers, VMs and
//! bridges, each class newest first. A failure to close is reported and stops nothing.
//!
//! A resource that is closed earlier leaves its scope then.

use crate::error::LabError;
use crate::lab::Names;
use crate::lock::lock;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// How long closing all that needs a guest's answer may take. Workers alone may need some seconds.
const GUEST_LIMIT: Duration = Duration::from_secs(30);

/// Identifies a resource within this process; also its age, a later one being greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(u64);

impl ResourceId {
    /// A number never given before.
    pub fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What kind of resource; scopes close the kinds in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
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

/// A future that a trait object can return.
pub(crate) type Closing<'a> = Pin<Box<dyn Future<Output = Result<(), LabError>> + Send + 'a>>;

/// Something a scope can close.
pub(crate) trait Close: Send + Sync {
    /// For messages: ``vm `web` ``.
    fn subject(&self) -> String;
    /// Closes it; closed already is fine.
    fn close(&self) -> Closing<'_>;
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
        write!(f, "closing {}: {}", self.subject, self.error)
    }
}

/// Owns what is made in it.
#[derive(Clone)]
pub struct Scope(Arc<Inner>);

struct Inner {
    id: ResourceId,
    label: String,
    parent: Option<Scope>,
    resources: Mutex<BTreeMap<(Class, ResourceId), Arc<dyn Close>>>,
    /// What the root lab calls the VMs and sub-labs made in this scope.
    names: Mutex<Names>,
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
        let (resources, names) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner {
            id: ResourceId::next(),
            label,
            parent,
            resources,
            names,
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

    pub(crate) fn names(&self) -> &Mutex<Names> {
        &self.0.names
    }

    /// Closes everything, class by class, newest first, and says what could not be closed. What a guest
    /// is asked to close has a limit in all, since its VM, which comes last, is ended without it.
    pub async fn close(&self) -> Vec<CloseFailure> {
        let mut failures = Vec::new();
        let limit = Instant::now() + GUEST_LIMIT;
        while let Some((class, resource)) = self.pop_next() {
            let closed = if class < Class::Vm {
                let closed = timeout_at(limit, resource.close()).await;
                closed.unwrap_or_else(|_| Err(too_late(&*resource)))
            } else {
                resource.close().await
            };
            if let Err(error) = closed {
                failures.push(CloseFailure {
                    subject: resource.subject(),
                    error,
                });
            }
        }
        failures
    }

    /// Takes out what is to be closed next: of the first class that has any, the newest.
    fn pop_next(&self) -> Option<(Class, Arc<dyn Close>)> {
        let mut resources = self.resources();
        let first_class = resources.keys().next()?.0;
        let key = *resources
            .keys()
            .take_while(|(class, _)| *class == first_class)
            .last()?;
        Some((first_class, resources.remove(&key)?))
    }

    fn resources(&self) -> MutexGuard<'_, BTreeMap<(Class, ResourceId), Arc<dyn Close>>> {
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
        note: "; its guest does not answer, and is ended as it is".to_owned(),
    }
}

/// A resource's place in its scope: taken once, left once.
#[derive(Default)]
pub(crate) struct Place(OnceLock<(Weak<Inner>, (Class, ResourceId))>);

impl Place {
    /// Puts `resource` under the scope's care.
    pub(crate) fn take(&self, scope: &Scope, key: (Class, ResourceId), resource: Arc<dyn Close>) {
        if self.0.set((Arc::downgrade(&scope.0), key)).is_ok() {
            scope.resources().insert(key, resource);
        }
    }

    /// Puts a resource that has left back under the care of its scope, if that has not ended.
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

    struct Witness {
        name: &'static str,
        log: Arc<Mutex<Vec<&'static str>>>,
    }

    impl Close for Witness {
        fn subject(&self) -> String {
            self.name.to_owned()
        }
        fn close(&self) -> Closing<'_> {
            Box::pin(async move {
                self.log.lock().unwrap().push(self.name);
                if self.name == "silent" {
                    std::future::pending::<()>().await;
                }
                if self.name == "bad" {
                    Err(LabError::gone("bad", "close()", "stuck"))
                } else {
                    Ok(())
                }
            })
        }
    }

    #[tokio::test]
    async fn closes_by_class_then_newest_first_whatever_fails() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let scope = Scope::file("f").child("t");
        let add = |class, name| {
            let witness = Arc::new(Witness {
                name,
                log: Arc::clone(&log),
            });
            let place = Place::default();
            place.take(&scope, (class, ResourceId::next()), witness);
            place
        };
        add(Class::Vm, "vm 1");
        add(Class::File, "bad");
        add(Class::Vm, "vm 2");
        add(Class::Stream, "stream 1");
        let gone = add(Class::Worker, "closed before");
        add(Class::Stream, "stream 2");
        gone.leave();

        let failures = scope.close().await;

        assert_eq!(
            *log.lock().unwrap(),
            ["stream 2", "stream 1", "bad", "vm 2", "vm 1"]
        );
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].subject, "bad");
        assert!(scope.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_guest_that_does_not_answer_keeps_no_vm_from_being_ended() {
        let log = Arc::new(Mutex::new(Vec::new()));
        let scope = Scope::file("f");
        let classes = [Class::Process, Class::Process, Class::Worker, Class::Vm];
        for (class, name) in classes
            .into_iter()
            .zip(["process", "silent", "worker", "vm"])
        {
            let log = Arc::clone(&log);
            let key = (class, ResourceId::next());
            Place::default().take(&scope, key, Arc::new(Witness { name, log }));
        }
        let began = Instant::now();
        let failures = scope.close().await;
        assert_eq!(*log.lock().unwrap(), ["silent", "process", "worker", "vm"]);
        let [failure] = &failures[..] else {
            panic!("{failures:?}")
        };
        assert!(failure.to_string().contains("30s"), "{failure}");
        assert_eq!(began.elapsed(), GUEST_LIMIT);
    }
}
