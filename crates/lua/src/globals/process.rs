//! What of Lua's standard library would act on the harness's own process: `print` and `os.exit`.

use crate::class::function;
use crate::file::FileState;
use crate::raise::Raise;
use crate::task::Task;
use mlua::{Lua, Result, Table, Value};

/// Replaces both.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    // Standard output belongs to the reports: what is printed goes into the test's log.
    let print = function(lua, "print", |lua, args| {
        let words = args
            .values()
            .iter()
            .map(Value::to_string)
            .collect::<Result<Vec<_>>>()?;
        let line = words.join("\t");
        match Task::current().and_then(|task| task.run.clone()) {
            Some(run) => run.log.borrow_mut().push(line),
            None => FileState::of(lua).early_log.borrow_mut().push(line),
        }
        Ok(())
    })?;
    lua.globals().raw_set("print", print)?;
    let exit = function(lua, "os.exit", |_, _| -> std::result::Result<(), Raise> {
        let text = "would end the whole run; return from the test, or use t:skip() or t:fail()";
        Err(Raise::argument(text))
    })?;
    lua.globals().get::<Table>("os")?.raw_set("exit", exit)
}
