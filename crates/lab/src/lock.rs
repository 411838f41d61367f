//! Locks a mutex, also after a panic of another holder.
//!
//! No code that could panic runs under this crate's locks, so a poisoned one says nothing of what it
//! guards.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The guard, also of a mutex whose holder panicked.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
