//! The areas of shared memory that are in use.

use super::call::lock;
use crate::sys::area::{AREAS, Area};
use std::sync::Mutex;

/// By index. The first is the VM's.
static IN_USE: Mutex<[bool; AREAS]> = Mutex::new([false; AREAS]);

/// A free area, which is in use from now on.
pub(super) fn take() -> Option<Area> {
    let mut in_use = lock(&IN_USE);
    let index = (1..AREAS).find(|index| !in_use[*index])?;
    in_use[index] = true;
    Area::of(index)
}

/// Gives an area back.
pub(super) fn give_back(index: usize) {
    if let Some(used) = lock(&IN_USE).get_mut(index) {
        *used = false;
    }
}
