//! Raw syscalls on their way: `syscall_async()`.

use super::syscall_result;
use crate::binding::class::{Class, Object, object};
use mlua::{Lua, Result, Value};
use provium_lab::PendingSyscall;

/// A pending syscall as Lua holds it.
#[derive(Clone)]
pub(super) struct PendingObject {
    pending: PendingSyscall,
    owner: String,
}

impl Object for PendingObject {
    const CLASS: &'static str = "pending";
    fn subject(&self) -> String {
        format!("pending syscall of {}", self.owner)
    }
}

/// The Lua value of a pending syscall.
pub(super) fn value(lua: &Lua, pending: PendingSyscall, owner: String) -> Result<Value> {
    object(lua, PendingObject { pending, owner })
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<PendingObject>::new(lua)?
        .async_method("await", |lua, this, args| async move {
            let timeout = args.opt_duration(0, "the timeout")?;
            // Not back in time is something a test may ask for: nil, and it may be awaited again.
            match this.pending.wait(timeout).await? {
                Some(result) => Ok(Some(syscall_result::table(&lua, &result)?)),
                None => Ok(None),
            }
        })?
        .async_method("cancel", |_, this, _| async move {
            this.pending.cancel().await;
            Ok(())
        })?
        .async_method("close", |_, this, _| async move {
            this.pending.cancel().await;
            Ok(())
        })?
        .finish()
}
