//! A guest's CLOCK_REALTIME: `vm:clock()`.

use super::value;
use crate::binding::args::Args;
use crate::binding::class::{Class, Object};
use crate::binding::preview;
use crate::binding::raise::LuaError;
use crate::binding::values::signed_nanoseconds_of;
use mlua::{Lua, Result, Value};
use provium_lab::{Clock, LabClone, Vm};
use std::cell::Cell;
use std::rc::Rc;

/// Nanoseconds in a second.
const SECOND: i64 = 1_000_000_000;

/// A clock as Lua holds it.
#[derive(Clone)]
pub(super) struct ClockObject {
    clock: Clock,
    /// Clones are the same handle.
    is_closed: Rc<Cell<bool>>,
}

impl ClockObject {
    fn clock(&self) -> std::result::Result<&Clock, LuaError> {
        if self.is_closed.get() {
            return Err(LuaError::argument("clock closed"));
        }
        Ok(&self.clock)
    }
}

impl Object for ClockObject {
    const CLASS: &'static str = "clock";
    fn subject(&self) -> String {
        self.clock.subject()
    }
    fn describe(&self) -> String {
        value::describe_handle(self.subject(), self.is_closed.get())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self {
            clock: copy.clock(&self.clock),
            is_closed: Rc::clone(&self.is_closed),
        }
    }
}

/// The Lua value of a VM's clock; a new one after the last one was closed.
pub(super) fn value(lua: &Lua, vm: &Vm) -> Result<Value> {
    value::of_open(
        lua,
        vm.id(),
        |known: &ClockObject| !known.is_closed.get(),
        || ClockObject {
            clock: vm.original().clock(),
            is_closed: Rc::default(),
        },
    )
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ClockObject>::new(lua)?
        .async_method("get", |_, this, _| async move {
            Ok(seconds(this.clock()?.get().await?))
        })?
        .async_method("get_ns", |_, this, _| async move {
            Ok(this.clock()?.get().await?)
        })?
        .async_method("set", |_, this, args| async move {
            let ns = point_in_time(&args.value(0))?;
            this.clock()?.set(&call("set", &args), ns).await?;
            Ok(())
        })?
        .async_method("set_ns", |_, this, args| async move {
            let ns = args.integer(0, "the nanoseconds")?;
            this.clock()?.set(&call("set_ns", &args), ns).await?;
            Ok(())
        })?
        .async_method("sleep", |_, this, args| async move {
            let duration = args.duration(0, "the duration")?;
            Ok(this.clock()?.sleep(duration).await?)
        })?
        .async_method("advance", |_, this, args| async move {
            let ns = signed_nanoseconds_of(&args.value(0));
            let ns = ns.map_err(|why| LuaError::argument(format!("the duration: {why}")))?;
            this.clock()?.advance(&call("advance", &args), ns).await?;
            Ok(())
        })?
        .method("close", |_, this, _| {
            this.is_closed.set(true);
            Ok(())
        })?
        .finish()
}

/// The call, as the author wrote it.
fn call(method: &str, args: &Args) -> String {
    preview::call("", "", method, args.shown())
}

#[expect(clippy::cast_precision_loss, reason = "get_ns returns all digits")]
fn seconds(ns: i64) -> f64 {
    ns as f64 / SECOND as f64
}

/// Seconds since 1970, fractions and negative ones allowed, as nanoseconds.
pub(super) fn point_in_time(value: &Value) -> std::result::Result<i64, LuaError> {
    let out_of_range = || {
        let shown = preview::shown(value);
        LuaError::argument(match value {
            Value::Number(number) if !number.is_finite() => {
                format!("the time: must be finite, got {shown}")
            }
            // 2^63 nanoseconds.
            _ => format!("the time: must be within 292 years of 1970, got {shown}"),
        })
    };
    match value {
        Value::Integer(seconds) => seconds.checked_mul(SECOND).ok_or_else(out_of_range),
        Value::Number(seconds) => {
            let ns = (seconds * 1e9).round();
            if !ns.is_finite() || ns.abs() >= 2f64.powi(63) {
                return Err(out_of_range());
            }
            #[expect(clippy::cast_possible_truncation, reason = "checked just above")]
            Ok(ns as i64)
        }
        other => {
            let text = format!(
                "the time: must be seconds since 1970, got {}",
                preview::shown(other)
            );
            Err(LuaError::argument(text))
        }
    }
}
