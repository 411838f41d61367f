//! A call that waits, as the future of its task.

use crate::engine::frames::Frame;
use mlua::MultiValue;
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

type CallFuture = Pin<Box<dyn Future<Output = mlua::Result<MultiValue>>>>;

/// A call that waits.
pub(super) struct PendingCall {
    pub(super) label: String,
    /// The author's frames when it was made.
    pub(super) frames: Vec<Frame>,
    /// Gone once it is done, or its task was stopped.
    future: RefCell<Option<CallFuture>>,
}

impl PendingCall {
    /// A call that begins to wait.
    pub(super) fn new(
        label: String,
        frames: Vec<Frame>,
        future: impl Future<Output = mlua::Result<MultiValue>> + 'static,
    ) -> Rc<Self> {
        Rc::new(Self {
            label,
            frames,
            future: RefCell::new(Some(Box::pin(future))),
        })
    }

    /// Drops its future, which cancels what it asked for.
    pub(super) fn cancel(&self) {
        let future = self.future.borrow_mut().take();
        drop(future);
    }

    pub(super) fn is_open(&self) -> bool {
        // It is borrowed only while it is polled, and then it is open.
        self.future
            .try_borrow()
            .map_or(true, |future| future.is_some())
    }
}

/// The future of a call that waits.
pub(crate) struct Call(pub(super) Rc<PendingCall>);

impl Future for Call {
    type Output = mlua::Result<MultiValue>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut future = self.0.future.borrow_mut();
        let Some(open) = future.as_mut() else {
            return Poll::Ready(Err(mlua::Error::runtime("the task of this call was ended")));
        };
        let result = open.as_mut().poll(context);
        if result.is_ready() {
            *future = None;
        }
        result
    }
}
