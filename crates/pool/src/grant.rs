//! Guards: what a boot was granted, and a task that waits for another file.

use crate::activity::WaitingTurn;
use crate::caller::Caller;
use provium_events::Resources;
use std::fmt;

/// Memory that a VM costs on top of its guest memory, bytes.
pub const VM_OVERHEAD: u64 = 100 * 1024 * 1024;

/// What a VM with that much guest memory, in bytes, and that many vCPUs takes.
pub fn resources_of_vm(memory: u64, cpus: u32) -> Resources {
    Resources {
        memory_bytes: memory.saturating_add(VM_OVERHEAD),
        cpus,
    }
}

/// Resources that were granted. They are returned when it is dropped.
pub struct Grant {
    amount: Resources,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Grant {
    /// A grant of `amount`; `release` is called once, when it is dropped.
    pub fn new(amount: Resources, release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            amount,
            release: Some(Box::new(release)),
        }
    }

    /// How much it is.
    pub fn amount(&self) -> Resources {
        self.amount
    }

    /// Both as one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let amount = self.amount + other.amount;
        Self::new(amount, move || drop((self, other)))
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("amount", &self.amount)
            .finish_non_exhaustive()
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        if let Some(release) = self.release.take() {
            release();
        }
    }
}

/// A task of a file waits for what another file does, until this is dropped.
pub struct BlockedGuard {
    unblock: Option<Box<dyn FnOnce() + Send>>,
    _waits: Option<WaitingTurn>,
}

impl BlockedGuard {
    pub(crate) fn new(unblock: impl FnOnce() + Send + 'static) -> Self {
        Self {
            unblock: Some(Box::new(unblock)),
            _waits: Caller::current_waits(),
        }
    }
}

impl fmt::Debug for BlockedGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockedGuard").finish_non_exhaustive()
    }
}

impl Drop for BlockedGuard {
    fn drop(&mut self) {
        if let Some(unblock) = self.unblock.take() {
            unblock();
        }
    }
}
