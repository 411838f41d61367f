//! What `wait_until` of the prelude needs: a timer that looks at the predicate, sleeps between looks, and
//! gives up in time.
//!
//! A wait ends at once if its predicate is not met and has called a VM that is dead.
//!
//! Each look is a task of its own, so that the time limit also holds while the predicate itself waits:
//! then that task is ended, which cancels what it was waiting for.

use crate::api::objects;
use crate::binding::class::{async_function, raw_function};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::task::{Task, TaskState};
use mlua::{Lua, MultiValue, Result, Table, Value};
use provium_units::format_duration;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::Instant;

/// One `wait_until`.
#[derive(Debug, Clone)]
struct Timer {
    deadline: Instant,
    timeout: Duration,
    interval: Duration,
    what: String,
}

/// Adds the native functions.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    let timer = raw_function(lua, "wait_until", |lua, args| {
        // A number here cannot be the count that `gsub` returns, which may be in the place of options elsewhere.
        if let other @ (Value::Integer(_) | Value::Number(_)) = args.value(0) {
            return Err(LuaError::argument(format!(
                "options must be a table, as in {{timeout = {}}}, got a number",
                shown(&other)
            )));
        }
        let options = args.options(0, &["timeout", "interval", "desc"])?;
        let timeout = options
            .duration("timeout")?
            .unwrap_or(Duration::from_secs(10));
        let what = options.words("desc")?;
        let what = what.unwrap_or_else(|| "condition".to_owned());
        let interval = options.duration("interval")?;
        let timer = Timer {
            deadline: Instant::now() + timeout,
            timeout,
            interval: interval.unwrap_or(Duration::from_millis(100)),
            what: what.clone(),
        };
        Ok((lua.create_any_userdata(timer)?, what))
    })?;
    native.raw_set("wait_timer", timer)?;
    // The description comes first, so that a timeout names it.
    let look = async_function(lua, "wait_until", true, |lua, args| async move {
        let timer = Timer::of(&args.value(1))?;
        timer.look(&lua, &args.value(2)).await
    })?;
    native.raw_set("wait_look", look)?;
    let turn = async_function(lua, "wait_until", true, |_, args| async move {
        Timer::of(&args.value(1))?.turn().await
    })?;
    native.raw_set("wait_turn", turn)
}

/// Stops the task of a predicate when `wait_until` ends or is dropped.
struct PredicateGuard(Rc<Task>);

impl Drop for PredicateGuard {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Timer {
    fn of(value: &Value) -> std::result::Result<Self, LuaError> {
        match value {
            Value::UserData(timer) => Ok(timer.borrow::<Self>()?.clone()),
            _ => Err(LuaError::argument("no timer")),
        }
    }

    fn not_met(&self, why: &str) -> LuaError {
        let timeout = format_duration(self.timeout);
        LuaError::message(format!(
            "wait_until: {} not met within {timeout}{why}",
            self.what
        ))
    }

    /// `true` and what the predicate returned, or `false` and what it raised.
    async fn look(
        &self,
        lua: &Lua,
        predicate: &Value,
    ) -> std::result::Result<MultiValue, LuaError> {
        let (Some(parent), Value::Function(predicate)) = (Task::current(), predicate) else {
            return Err(LuaError::argument("no predicate"));
        };
        let left = self.deadline.saturating_duration_since(Instant::now());
        let deadline = parent.deadline.within(Some(left));
        let task = parent.child_within(deadline, stack::place(lua));
        objects::start(lua, &task, predicate.clone(), MultiValue::new())?;
        parent.waits_for_predicate(&task);
        let look = PredicateGuard(task);
        look.0.ended().await;
        if matches!(look.0.state(), TaskState::Cancelled) {
            let why = match look.0.stopped_in() {
                Some(place) => format!("; its predicate was in {place}"),
                None => String::new(),
            };
            return Err(self.not_met(&why));
        }
        let outcome = objects::outcome(lua, &look.0)?;
        let is_met = !matches!(
            outcome.get(1),
            None | Some(Value::Nil | Value::Boolean(false))
        );
        let has_returned = matches!(look.0.state(), TaskState::Returned(_));
        // A predicate often catches errors, and no later look can find a dead VM otherwise.
        match look.0.dead_vm() {
            Some(error) if has_returned && !is_met => Err(LuaError::message(format!(
                "wait_until: {} not met: {error}",
                self.what
            ))),
            _ => Ok(outcome),
        }
    }

    /// Sleeps until the next look; the last one is when the time is up.
    async fn turn(&self) -> std::result::Result<(), LuaError> {
        let now = Instant::now();
        if now >= self.deadline {
            return Err(self.not_met(""));
        }
        tokio::time::sleep_until(self.deadline.min(now + self.interval)).await;
        Ok(())
    }
}
