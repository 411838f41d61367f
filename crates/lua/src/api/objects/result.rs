//! What came of a command: `run()` and `process:wait()`.

use crate::binding::class::{Class, Object, object};
use crate::binding::options::hint;
use crate::binding::raise::LuaError;
use crate::binding::stack;
use crate::engine::cut::{keep_in, more_lines};
use crate::engine::failed_commands::FailedCommand;
use crate::engine::run_status::describe_status;
use crate::engine::test_file::TestFileState;
use crate::testing::COMMAND_RESULT;
use crate::text;
use mlua::{IntoLua, Lua, LuaString, Result, Value};
use provium_lab::{RunResult, RunStatus};
use std::rc::Rc;

/// Longest output shown in a message, characters.
const SHOWN: usize = 4000;
/// Most lines of it.
const SHOWN_LINES: usize = 40;

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

/// Fields that say how the command ended; reading one of them counts as a check of the result.
const TELL_THE_END: &[&str] = &["exit_code", "status", "signal", "timed_out"];

/// A command's result as Lua holds it.
#[derive(Debug, Clone)]
pub(super) struct ResultObject {
    result: Rc<RunResult>,
    stdout: LuaString,
    stderr: LuaString,
    /// Set unless the command exited with 0.
    failed: Option<Rc<FailedCommand>>,
}

impl Object for ResultObject {
    const CLASS: &'static str = COMMAND_RESULT;
    fn subject(&self) -> String {
        format!("result of {}", self.result.command)
    }
    fn describe(&self) -> String {
        format!(
            "{}: {}",
            self.subject(),
            describe_status(self.result.status)
        )
    }
}

/// The Lua value of the result of a command that the test has waited for. If it failed and the test does
/// not look at that, a report says so.
pub(super) fn value(lua: &Lua, result: RunResult) -> Result<Value> {
    let result = ResultObject::new(lua, "run", result)?;
    if let Some(failed) = &result.failed {
        let group = TestFileState::of(lua).current_group();
        group.failed_commands.add(failed);
    }
    object(lua, result)
}

/// The Lua value of the result of a background process, which may well have been killed by the test.
pub(super) fn value_of_process(lua: &Lua, result: RunResult) -> Result<Value> {
    object(lua, ResultObject::new(lua, "run", result)?)
}

/// The Lua value of the result of `check`: of a command that exited with 0; any other is an error.
pub(super) fn checked(
    lua: &Lua,
    subject: &str,
    result: RunResult,
) -> std::result::Result<Value, LuaError> {
    let result = ResultObject::new(lua, "check", result)?;
    match &result.failed {
        None => Ok(object(lua, result)?),
        Some(failed) => {
            let text = format!("{subject}: {}", failed.report());
            Err(LuaError::message(text))
        }
    }
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ResultObject>::new(lua)?
        .method("ok", |lua, this, _| {
            this.note_read(lua);
            Ok(this.result.ok())
        })?
        .method("assert_ok", |lua, this, _| {
            this.note_read(lua);
            match &this.failed {
                None => Ok(object(lua, this.clone())?),
                Some(failed) => Err(LuaError::message(failed.report())),
            }
        })?
        .finish_with(field, |_, _, key, _| {
            Err(LuaError::message(format!(
                "a result's field `{key}` cannot be assigned"
            )))
        })
}

fn field(lua: &Lua, this: &ResultObject, key: &str) -> std::result::Result<Value, LuaError> {
    let result = &this.result;
    if TELL_THE_END.contains(&key) {
        this.note_read(lua);
    }
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
    fn new(lua: &Lua, call: &str, mut result: RunResult) -> Result<Self> {
        let stdout = std::mem::take(&mut result.stdout);
        let stderr = std::mem::take(&mut result.stderr);
        let failed = (!result.ok()).then(|| {
            let outputs = [
                ("stdout", &stdout, result.stdout_dropped),
                ("stderr", &stderr, result.stderr_dropped),
            ];
            let keep = keep_in(&TestFileState::of(lua).lab);
            let outputs = outputs.map(|(name, output, dropped)| {
                let file = is_long(output).then(|| keep(name, output)).flatten();
                (output_text(output, dropped, file.as_deref()), file)
            });
            let [(stdout, _), (stderr, stderr_file)] = outputs;
            let ending = format!(
                "{call}({}) {}",
                result.command,
                describe_status(result.status)
            );
            FailedCommand::new(ending, [stdout, stderr], stderr_file, stack::place(lua))
        });
        Ok(Self {
            stdout: lua.create_string(stdout)?,
            stderr: lua.create_string(stderr)?,
            result: Rc::new(result),
            failed,
        })
    }

    /// The author's code reads how the command ended.
    fn note_read(&self, lua: &Lua) {
        if let Some(failed) = &self.failed {
            let site = stack::place(lua);
            let group = TestFileState::of(lua).current_group();
            group.failed_commands.read(failed, site);
        }
    }
}

/// Whether a message has to cut the output. Bytes that are not UTF-8 are longer as text.
fn is_long(output: &[u8]) -> bool {
    let lines = output.iter().filter(|byte| **byte == b'\n').count();
    lines > SHOWN_LINES || output.len() > SHOWN || text::display(output).len() > SHOWN
}

/// The end of a command's output, as a message shows it. `file` has all of it.
fn output_text(output: &[u8], dropped: u64, file: Option<&str>) -> String {
    let text = text::display(output);
    let text = text.trim_end();
    let more = text.lines().count().saturating_sub(SHOWN_LINES);
    let shown: Vec<&str> = text.lines().skip(more).collect();
    let mut text = text::tail(&shown.join("\n"), SHOWN, file);
    if more > 0 {
        let note = more_lines(more, "before", file);
        text = format!("{note}\n{text}");
    }
    if dropped > 0 {
        text.push_str(&format!("\n({dropped} bytes of it were dropped)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_output_is_shown_by_its_end() {
        let lines: String = (1..=100).map(|line| format!("{line}\n")).collect();
        assert!(is_long(lines.as_bytes()));
        let text = output_text(lines.as_bytes(), 0, Some("f.txt"));
        assert!(text.starts_with("… 60 more lines in f.txt\n61\n"), "{text}");
        assert!(text.ends_with("\n99\n100"), "{text}");
        let text = output_text(lines.as_bytes(), 7, None);
        assert!(text.starts_with("… 60 more lines before\n61\n"), "{text}");
        assert!(
            text.ends_with("\n100\n(7 bytes of it were dropped)"),
            "{text}"
        );
        let line = "x".repeat(SHOWN + 1);
        assert!(is_long(line.as_bytes()));
        let text = output_text(line.as_bytes(), 0, Some("f.txt"));
        assert!(
            text.starts_with("(… 1 more characters in f.txt)\nxx"),
            "{text}"
        );
        assert!(!is_long(b"short\n"));
        assert_eq!(output_text(b"short\n", 0, None), "short");
    }
}
