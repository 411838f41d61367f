//! What came of a command: `run()` and `process:wait()`.

use crate::binding::class::{Class, Object, object};
use crate::binding::options::hint;
use crate::binding::raise::LuaError;
use crate::binding::signals::signal_name;
use crate::binding::text::{self, cut};
use mlua::{IntoLua, Lua, LuaString, Result, Value};
use provium_lab::{RunResult, RunStatus};
use std::fmt::Write as _;
use std::rc::Rc;

/// Longest output shown in a message, characters.
const SHOWN: usize = 4000;

const FIELDS: &[&str] = &[
    "exit_code",
    "stdout",
    "stderr",
    "status",
    "signal",
    "timed_out",
    "duration",
    "stdout_dropped",
    "stderr_dropped",
    "ok",
    "assert_ok",
];

/// A command's result as Lua holds it.
#[derive(Debug, Clone)]
pub(super) struct ResultObject {
    result: Rc<RunResult>,
    stdout: LuaString,
    stderr: LuaString,
}

impl Object for ResultObject {
    const CLASS: &'static str = "result";
    fn subject(&self) -> String {
        format!("result of {}", self.result.command)
    }
    fn describe(&self) -> String {
        format!("{}: {}", self.subject(), ending(self.result.status))
    }
}

/// The Lua value of a result.
pub(super) fn value(lua: &Lua, mut result: RunResult) -> Result<Value> {
    let stdout = lua.create_string(std::mem::take(&mut result.stdout))?;
    let stderr = lua.create_string(std::mem::take(&mut result.stderr))?;
    object(
        lua,
        ResultObject {
            result: Rc::new(result),
            stdout,
            stderr,
        },
    )
}

/// Whether a Lua value is the result of a command.
pub(crate) fn is_result(value: &Value) -> bool {
    matches!(value, Value::UserData(userdata) if userdata.is::<ResultObject>())
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ResultObject>::new(lua)?
        .method("ok", |_, this, _| Ok(this.result.ok()))?
        .method("assert_ok", |lua, this, _| {
            if this.result.ok() {
                return Ok(object(lua, this.clone())?);
            }
            Err(LuaError::message(this.complaint()))
        })?
        .finish_with(field, |_, _, key, _| {
            Err(LuaError::message(format!(
                "a result's field `{key}` cannot be assigned"
            )))
        })
}

fn field(lua: &Lua, this: &ResultObject, key: &str) -> std::result::Result<Value, LuaError> {
    let result = &this.result;
    let value = match key {
        "exit_code" => result.status.exit_code().into_lua(lua),
        "stdout" => Ok(Value::String(this.stdout.clone())),
        "stderr" => Ok(Value::String(this.stderr.clone())),
        "status" => result.status.word().into_lua(lua),
        "signal" => result.signal().into_lua(lua),
        "timed_out" => (result.status == RunStatus::TimedOut).into_lua(lua),
        "duration" => result.duration.as_secs_f64().into_lua(lua),
        "stdout_dropped" => result.stdout_dropped.into_lua(lua),
        "stderr_dropped" => result.stderr_dropped.into_lua(lua),
        other => {
            let hint = hint(other, FIELDS.iter().copied());
            return Err(LuaError::message(format!(
                "a result has no field `{other}`{hint}"
            )));
        }
    };
    Ok(value?)
}

impl ResultObject {
    fn complaint(&self) -> String {
        let mut complaint = format!(
            "run({}) {}",
            self.result.command,
            ending(self.result.status)
        );
        let outputs = [
            ("stdout", &self.stdout, self.result.stdout_dropped),
            ("stderr", &self.stderr, self.result.stderr_dropped),
        ];
        for (name, output, dropped) in outputs {
            let output = text::display(&output.as_bytes());
            let _ = write!(complaint, "\n{name}: {}", cut(output.trim_end(), SHOWN));
            if dropped > 0 {
                let _ = write!(complaint, "\n({dropped} bytes of {name} were dropped)");
            }
        }
        complaint
    }
}

fn ending(status: RunStatus) -> String {
    match status {
        RunStatus::Exited(code) => format!("exited with {code}"),
        RunStatus::Signalled(signal) => {
            let name = signal_name(signal).unwrap_or_else(|| format!("signal {signal}"));
            format!("was killed by {name}")
        }
        RunStatus::TimedOut => "timed out".to_owned(),
    }
}
