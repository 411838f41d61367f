//! What a VM's boot takes from the host: memory and vCPUs, granted by whoever shares them out.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

/// Memory that a VM costs on top of its guest memory, bytes.
pub const VM_OVERHEAD: u64 = 100 * 1024 * 1024;

/// An amount of the host's memory and processors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    /// Bytes.
    pub memory: u64,
    /// vCPUs.
    pub cpus: u32,
}

impl Need {
    /// What a VM with so much guest memory and so many vCPUs takes.
    pub fn of_vm(memory: u64, cpus: u32) -> Self {
        Self {
            memory: memory.saturating_add(VM_OVERHEAD),
            cpus,
        }
    }

    /// Whether `self` fits into `other`.
    pub fn fits(self, other: Self) -> bool {
        self.memory <= other.memory && self.cpus <= other.cpus
    }
}

impl Need {
    /// What is missing from `other` for `self` to fit.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        Self {
            memory: self.memory.saturating_sub(other.memory),
            cpus: self.cpus.saturating_sub(other.cpus),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.memory.div_ceil(1 << 20);
        // A claim may be about one of them only.
        match (mib, self.cpus) {
            (0, cpus @ 1..) => write!(f, "{cpus} vCPU(s)"),
            (mib @ 1.., 0) => write!(f, "{mib} MiB"),
            (mib, cpus) => write!(f, "{mib} MiB and {cpus} vCPU(s)"),
        }
    }
}

/// Why no grant was given.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    /// More than there is in all.
    #[error(
        "needs {need}, but the pool has {total} in all; give less `memory`, or run with a larger --mem or --cpus"
    )]
    NeverFits {
        /// What was asked for.
        need: Need,
        /// What there is.
        total: Need,
    },
    /// More than the file's claim has left.
    #[error("needs {need}, but the file's claim has {left} left; claim more")]
    OverClaim {
        /// What was asked for.
        need: Need,
        /// What the claim still has.
        left: Need,
    },
    /// Less than the file's VMs have taken before.
    #[error("claims {claim}, but the file's VMs hold {held} already; claim more, or claim first")]
    ClaimTooSmall {
        /// What they hold.
        held: Need,
        /// What was asked for.
        claim: Need,
    },
    /// All running files wait for each other.
    #[error(
        "needs {need}, but every running file waits for memory or vCPUs that another one holds: {holders}"
    )]
    Deadlock {
        /// What was asked for.
        need: Need,
        /// Who holds what.
        holders: String,
    },
}

/// Shares out the host's memory and processors.
pub trait Budget: Send + Sync {
    /// Memory that nobody has taken, bytes.
    fn room(&self) -> u64 {
        u64::MAX
    }

    /// Waits until `need` is there for `file` and takes it.
    fn acquire<'a>(
        &'a self,
        file: &'a str,
        need: Need,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>>;

    /// Takes `need` for `file` if it is there and nobody waits for any; `None` otherwise.
    fn try_acquire(&self, file: &str, need: Need) -> Option<Grant>;

    /// All that there is to share out; `None` where there is no bound.
    fn total(&self) -> Option<Need> {
        None
    }

    /// Notes that a task of `file` waits for what another file does, and gives nothing back until
    /// then: without that, files that wait for each other would not be seen to.
    fn stand_by(&self, _file: &str) -> StandingBy {
        StandingBy::new(|| ())
    }
}

/// A wait for what another file does. It lasts until this is dropped.
pub struct StandingBy(Option<Box<dyn FnOnce() + Send>>);

impl StandingBy {
    /// `end` is called once, when it is dropped.
    pub fn new(end: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl fmt::Debug for StandingBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StandingBy").finish_non_exhaustive()
    }
}

impl Drop for StandingBy {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}

/// What was taken; gives it back when dropped.
pub struct Grant {
    need: Need,
    release: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Grant {
    /// A grant of `need`; `release` is called once, when it is dropped.
    pub fn new(need: Need, release: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self {
            need,
            release: Some(Box::new(release)),
        }
    }

    /// How much it is.
    pub fn need(&self) -> Need {
        self.need
    }

    /// Both in one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let need = Need {
            memory: self.need.memory.saturating_add(other.need.memory),
            cpus: self.need.cpus.saturating_add(other.need.cpus),
        };
        Self::new(need, move || drop((self, other)))
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("need", &self.need)
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

/// A budget without bounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unlimited;

impl Budget for Unlimited {
    fn acquire<'a>(
        &'a self,
        _file: &'a str,
        need: Need,
    ) -> Pin<Box<dyn Future<Output = Result<Grant, BudgetError>> + Send + 'a>> {
        Box::pin(async move { Ok(Grant::new(need, || ())) })
    }

    fn try_acquire(&self, _file: &str, need: Need) -> Option<Grant> {
        Some(Grant::new(need, || ()))
    }
}
