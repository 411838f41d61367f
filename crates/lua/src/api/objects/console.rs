//! A VM's console: `vm:console()`.

use super::stream::{self, StreamOrigin};
use super::value::{call_site, describe_handle};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object};
use crate::binding::options::list_of;
use crate::binding::raise::LuaError;
use crate::binding::values::text_to_find_of;
use mlua::{Lua, Result, Value};
use provium_lab::{Console, LabClone, Vm};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// The timeout of `expect` and `expect_any`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// The timeout of `write`.
const DEFAULT_WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// A console as Lua holds it.
#[derive(Clone)]
pub(super) struct ConsoleObject {
    vm: Vm,
    /// Clones are the same handle.
    is_closed: Rc<Cell<bool>>,
}

impl ConsoleObject {
    fn new(vm: Vm) -> Self {
        Self {
            vm,
            is_closed: Rc::default(),
        }
    }

    fn check_open(&self) -> std::result::Result<(), LuaError> {
        match self.is_closed.get() {
            true => Err(LuaError::argument("console closed")),
            false => Ok(()),
        }
    }

    fn console(&self) -> std::result::Result<Console, LuaError> {
        self.check_open()?;
        Ok(self.vm.console())
    }
}

impl Object for ConsoleObject {
    const CLASS: &'static str = "console";
    fn subject(&self) -> String {
        self.vm.console().subject()
    }
    fn describe(&self) -> String {
        describe_handle(self.subject(), self.is_closed.get())
    }
    fn resolve_in(&self, copy: &LabClone) -> Self {
        Self {
            vm: copy.vm(&self.vm),
            is_closed: Rc::clone(&self.is_closed),
        }
    }
}

/// The Lua value of a VM's console; a new one after the last one was closed.
pub(super) fn value(lua: &Lua, vm: &Vm) -> Result<Value> {
    super::value::of_open(
        lua,
        vm.id(),
        |known: &ConsoleObject| !known.is_closed.get(),
        || ConsoleObject::new(vm.original()),
    )
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<ConsoleObject>::new(lua)?
        .with(looks)?
        .with(async_methods)?
        .finish()
}

fn looks(class: Class<'_, ConsoleObject>) -> Result<Class<'_, ConsoleObject>> {
    class
        .method("read", |lua, this, _| {
            let (scope, site) = call_site(lua);
            let stream = this.console()?.stream(&scope, site);
            let origin = StreamOrigin::Console(this.vm.clone());
            Ok(stream::value_of(lua, stream, origin)?)
        })?
        .method("read_log", |lua, this, _| {
            Ok(lua.create_string(this.console()?.read_log()?)?)
        })?
        .method("mark", |_, this, _| Ok(this.console()?.mark()))?
        .method("since", |lua, this, args| {
            let console = this.console()?;
            let mark = mark_of(&console, args)?;
            Ok(lua.create_string(console.since(mark)?)?)
        })?
        .method("lines", |lua, this, args| {
            let console = this.console()?;
            let mark = match args.has(0) {
                true => mark_of(&console, args)?,
                false => 0,
            };
            let log = console.since(mark)?;
            let log = log.strip_suffix(b"\n").unwrap_or(&log);
            let lines = lua.create_table()?;
            if log.is_empty() {
                return Ok(lines);
            }
            for (index, line) in log.split(|byte| *byte == b'\n').enumerate() {
                let line: Vec<u8> = line.iter().copied().filter(|byte| *byte != b'\r').collect();
                lines.raw_set(index + 1, lua.create_string(line)?)?;
            }
            Ok(lines)
        })?
        .method("count", |_, this, args| {
            Ok(this.console()?.count(&args.text_to_find(0)?)?)
        })
}

/// A mark, which is not beyond the end of the log.
fn mark_of(console: &Console, args: &Args) -> std::result::Result<u64, LuaError> {
    let mark: u64 = args.unsigned(0, "the mark")?;
    let end = console.mark();
    if mark <= end {
        return Ok(mark);
    }
    Err(LuaError::argument(format!(
        "the mark: {mark} is beyond the end of the log, which has {end} bytes; \
         take it with `mark()` of this console"
    )))
}

fn async_methods(class: Class<'_, ConsoleObject>) -> Result<Class<'_, ConsoleObject>> {
    class
        .async_method("expect", |lua, this, args| async move {
            let text = args.text_to_find(0)?;
            let timeout = args
                .opt_duration(1, "the timeout")?
                .unwrap_or(DEFAULT_TIMEOUT);
            this.check_open()?;
            this.vm.console_wait().expect(&text, timeout).await?;
            Ok(lua.create_string(text)?)
        })?
        .async_method("expect_any", |_, this, args| async move {
            let list = list_of(&args.table(0, "the texts")?)?;
            let texts = list.iter().enumerate().map(|(index, text)| {
                text_to_find_of(text)
                    .map_err(|why| LuaError::argument(format!("text {}: {why}", index + 1)))
            });
            let texts = texts.collect::<std::result::Result<Vec<_>, _>>()?;
            if texts.is_empty() {
                let text = "the texts: must not be empty";
                return Err(LuaError::argument(text));
            }
            let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
            let timeout = args
                .opt_duration(1, "the timeout")?
                .unwrap_or(DEFAULT_TIMEOUT);
            this.check_open()?;
            Ok(this.vm.console_wait().expect_any(&texts, timeout).await? + 1)
        })?
        .async_method("never", |_, this, args| async move {
            let text = args.text_to_find(0)?;
            let duration = args.duration(1, "the duration")?;
            this.check_open()?;
            Ok(this.vm.console_wait().never(&text, duration).await?)
        })?
        .async_method("write", |_, this, args| async move {
            let data = args.bytes(0, "the data")?;
            let options = args.options(1, &["timeout", "timeout_ms"])?;
            if options.has("timeout_ms") {
                let text = "option `timeout_ms` is not for a console; write timeout = \"500ms\"";
                return Err(LuaError::argument(text));
            }
            let timeout = options
                .duration("timeout")?
                .unwrap_or(DEFAULT_WRITE_TIMEOUT);
            Ok(this.console()?.write(&data, timeout).await?)
        })?
        .async_method("close", |_, this, _| async move {
            if !this.is_closed.replace(true) {
                this.vm.console().close().await?;
            }
            Ok(())
        })
}
