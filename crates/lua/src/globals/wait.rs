//! What `wait_until` of the prelude needs: a timer that sleeps between looks and gives up in time.

use crate::class::{raw_function, waiting_function};
use crate::raise::Raise;
use crate::units::spell;
use mlua::{AnyUserData, Lua, Result, Table, Value};
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
        let options = args.options(0, &["timeout", "interval", "desc"])?;
        let timeout = options
            .duration("timeout")?
            .unwrap_or(Duration::from_secs(10));
        let what = options.text("desc")?;
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
    let turn = waiting_function(lua, "wait_until", true, |_, args| async move {
        let Value::UserData(timer) = args.value(1) else {
            return Err(Raise::argument("no timer"));
        };
        turn(&timer).await
    })?;
    native.raw_set("wait_turn", turn)
}

/// Sleeps until the next look; the last one is when the time is up.
async fn turn(timer: &AnyUserData) -> std::result::Result<(), Raise> {
    let timer = timer.borrow::<Timer>()?.clone();
    let now = Instant::now();
    if now >= timer.deadline {
        let timeout = spell(timer.timeout);
        return Err(Raise::message(format!(
            "wait_until: {} not met within {timeout}",
            timer.what
        )));
    }
    tokio::time::sleep_until(timer.deadline.min(now + timer.interval)).await;
    Ok(())
}
