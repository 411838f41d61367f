//! Commands of the host that Lua code has started, and that may still run.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

/// A command of the host.
pub(crate) trait Child {
    /// Kills it.
    fn end(&self);
}

/// Commands that end with the test, or with the file, that started them.
#[derive(Default)]
pub(crate) struct Children(RefCell<Vec<Weak<dyn Child>>>);

impl Children {
    /// Adds one that was started.
    pub(crate) fn add(&self, child: &Rc<dyn Child>) {
        let mut children = self.0.borrow_mut();
        children.retain(|child| child.strong_count() > 0);
        children.push(Rc::downgrade(child));
    }

    /// Kills them.
    pub(crate) fn end(&self) {
        for child in self.0.take().iter().filter_map(Weak::upgrade) {
            child.end();
        }
    }
}
