//! What of Lua's standard library would act on the harness's own process: `print`, `warn`, `os.exit`
//! and `os.execute`. Files are in `host_io`.

use crate::binding::class::{async_function, function};
use crate::binding::raise::LuaError;
use crate::engine::test_file::TestFileState;
use crate::testing::plain;
use crate::text::display;
use mlua::{Lua, Result, Table};
use provium_lab::host_shell;

/// Replaces them.
pub(crate) fn install(lua: &Lua) -> Result<()> {
    // Standard output belongs to the reports: what is printed goes into the test's log.
    let print = function(lua, "print", |lua, args| {
        let words: Vec<_> = args.values().iter().map(plain).collect();
        log(lua, words.join("\t"));
        Ok(())
    })?;
    lua.globals().raw_set("print", print)?;
    let warn = function(lua, "warn", |lua, args| {
        let words = args.values().iter().map(plain).collect::<String>();
        // Lua's control messages, such as `@on`, are not for people.
        if !words.starts_with('@') {
            log(lua, format!("warning: {words}"));
        }
        Ok(())
    })?;
    lua.globals().raw_set("warn", warn)?;
    let os = lua.globals().get::<Table>("os")?;
    let exit = function(
        lua,
        "os.exit",
        |_, _| -> std::result::Result<(), LuaError> {
            let text = "would end the whole run; return from the test, or use t:skip() or t:fail()";
            Err(LuaError::argument(text))
        },
    )?;
    os.raw_set("exit", exit)?;
    // Lua's own waits in C, where no time limit reaches and no other task runs.
    let execute = async_function(lua, "os.execute", false, |lua, args| async move {
        if !args.has(0) {
            return Ok((Some(true), None, None));
        }
        let ran = host_shell(&args.bytes(0, "the command")?).await?;
        for output in [&ran.stdout, &ran.stderr] {
            for line in display(output).lines() {
                log(&lua, line.to_owned());
            }
        }
        let (how, code) = match ran.exit {
            Ok(code) => ("exit", code),
            Err(signal) => ("signal", signal),
        };
        // As in Lua: true or fail, how it ended, and the number that goes with it.
        Ok(((ran.exit == Ok(0)).then_some(true), Some(how), Some(code)))
    })?;
    os.raw_set("execute", execute)
}

fn log(lua: &Lua, line: String) {
    let group = TestFileState::of(lua).current_group();
    group.log.borrow_mut().push(line);
}
