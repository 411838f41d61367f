//! Files of the host whose operations may block, as Lua holds them.

use super::formats::{Format, formats, read};
use super::source::{Reader, Source};
use crate::binding::args::Args;
use crate::binding::class::{Class, Object, object};
use crate::binding::raise::LuaError;
use crate::engine::children::Child;
use crate::engine::log::Log;
use crate::engine::test_file::TestFileState;
use mlua::{IntoLuaMulti, Lua, MultiValue, Result, Value};
use provium_lab::{HostChild, HostExit};
use std::cell::{Cell, RefCell};
use std::fs::File;
use std::io::{self, Write as _};
use std::rc::Rc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// Where bytes go.
pub(super) enum Sink {
    Pipe(pipe::Sender),
    Device(File),
    /// The log of the test that writes.
    Log,
}

/// A file of the host.
#[derive(Clone)]
pub(super) struct HostFile(Rc<Inner>);

struct Inner {
    what: String,
    closed: Cell<bool>,
    /// Standard input, output and error cannot be closed.
    standard: bool,
    reader: Mutex<Option<Reader>>,
    sink: Mutex<Option<Sink>>,
    command: RefCell<Option<RunningChild>>,
}

/// A command of `io.popen`.
struct RunningChild {
    child: HostChild,
    /// Logs output of it that the test does not read.
    logged: Vec<JoinHandle<()>>,
}

impl Child for Inner {
    fn end(&self) {
        self.command.take();
    }
}

impl Drop for RunningChild {
    fn drop(&mut self) {
        for task in &self.logged {
            task.abort();
        }
    }
}

impl Object for HostFile {
    const CLASS: &'static str = "host file";
    const NEEDS_NO_GUEST: bool = true;
    fn subject(&self) -> String {
        self.0.what.clone()
    }
    fn describe(&self) -> String {
        let state = if self.0.closed.get() { " (closed)" } else { "" };
        format!("{}{state}", self.0.what)
    }
}

impl HostFile {
    fn new(what: String, reader: Option<Reader>, sink: Option<Sink>) -> Self {
        Self(Rc::new(Inner {
            what,
            closed: Cell::new(false),
            standard: false,
            reader: Mutex::new(reader),
            sink: Mutex::new(sink),
            command: RefCell::default(),
        }))
    }

    /// Bytes that were received and not read yet.
    pub(super) fn reading(what: String, source: Source, read: Vec<u8>) -> Self {
        Self::new(what, Some(Reader::new(source, read)), None)
    }

    pub(super) fn writing(what: String, sink: Sink) -> Self {
        Self::new(what, None, Some(sink))
    }

    /// Standard input, or, with a sink, one of the outputs.
    pub(super) fn standard(what: &str, source: Option<Source>, sink: Option<Sink>) -> Self {
        Self(Rc::new(Inner {
            what: what.to_owned(),
            closed: Cell::new(false),
            standard: true,
            reader: Mutex::new(source.map(|source| Reader::new(source, Vec::new()))),
            sink: Mutex::new(sink),
            command: RefCell::default(),
        }))
    }

    /// A command that was started. What it writes, and is not read, goes into the log.
    pub(super) fn of_command(lua: &Lua, what: String, mut child: HostChild, read: bool) -> Self {
        let log = current_log(lua);
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let mut logged = vec![child.stderr.take()];
        let file = if read {
            let reader = stdout.map(|pipe| Reader::new(Source::Pipe(pipe), Vec::new()));
            Self::new(what, reader, None)
        } else {
            logged.push(stdout);
            Self::new(what, None, stdin.map(Sink::Pipe))
        };
        let logged = logged.into_iter().flatten();
        let logged = logged.map(|pipe| tokio::task::spawn_local(to_log(pipe, Rc::clone(&log))));
        let logged = logged.collect();
        file.0.command.replace(Some(RunningChild { child, logged }));
        let child: Rc<dyn Child> = Rc::clone(&file.0) as Rc<dyn Child>;
        TestFileState::of(lua).current_group().children.add(&child);
        file
    }

    pub(super) fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    fn open(&self) -> std::result::Result<&Inner, LuaError> {
        match self.is_closed() {
            true => Err(LuaError::argument("attempt to use a closed file")),
            false => Ok(&self.0),
        }
    }

    async fn read(
        &self,
        lua: &Lua,
        wanted: &[Format],
    ) -> std::result::Result<MultiValue, LuaError> {
        let mut reader = self.open()?.reader.lock().await;
        let Some(reader) = reader.as_mut() else {
            return Ok(not_done(lua, &bad_descriptor())?);
        };
        let mut values = MultiValue::new();
        for format in wanted {
            let bytes = match read(reader, *format).await {
                Ok(bytes) => bytes,
                Err(error) => return Ok(not_done(lua, &error)?),
            };
            let value = match bytes {
                None => Value::Nil,
                Some(text) if *format == Format::Number => {
                    let text = lua.create_string(text)?;
                    number_in(lua, Value::String(text))?
                }
                Some(bytes) => Value::String(lua.create_string(bytes)?),
            };
            let is_end = value.is_nil();
            values.push_back(value);
            if is_end {
                break;
            }
        }
        Ok(values)
    }

    /// Writes to the log, if that is where it leads: nothing has to wait for that.
    pub(super) fn write_now(&self, lua: &Lua, args: &Args) -> std::result::Result<bool, LuaError> {
        let is_log = match self.open()?.sink.try_lock() {
            Ok(sink) => matches!(*sink, Some(Sink::Log)),
            Err(_) => false,
        };
        if !is_log {
            return Ok(false);
        }
        let log = current_log(lua);
        // What can be written of them is, as by Lua's own.
        for index in 1..args.values().len() {
            let bytes = text_to_write(lua, args, index)?;
            log.borrow_mut().write(&bytes);
        }
        Ok(true)
    }

    async fn write(
        &self,
        lua: &Lua,
        bytes: &[u8],
    ) -> std::result::Result<io::Result<()>, LuaError> {
        let mut sink = self.open()?.sink.lock().await;
        Ok(match sink.as_mut() {
            None => Err(bad_descriptor()),
            Some(Sink::Pipe(pipe)) => pipe.write_all(bytes).await,
            Some(Sink::Device(device)) => write_device(device, bytes).await,
            Some(Sink::Log) => {
                current_log(lua).borrow_mut().write(bytes);
                Ok(())
            }
        })
    }

    /// Closes it; returns how the command ended, if it is one.
    async fn close(&self) -> std::result::Result<Option<HostExit>, LuaError> {
        let inner = self.open()?;
        inner.closed.set(true);
        // Who reads or writes it at the moment is let go by the end of the other side.
        let command = inner.command.take();
        inner.sink.lock().await.take();
        inner.reader.lock().await.take();
        let Some(mut running) = command else {
            return Ok(None);
        };
        let ended = running.child.wait().await;
        let ended = ended.map_err(|error| LuaError::argument(error.to_string()))?;
        for task in &mut running.logged {
            // What escaped from the command's group may hold its pipes open.
            let _ = tokio::time::timeout(std::time::Duration::from_millis(500), task).await;
        }
        Ok(Some(ended))
    }
}

fn text_to_write(lua: &Lua, args: &Args, index: usize) -> std::result::Result<Vec<u8>, LuaError> {
    let value = args.value(index);
    let text = match &value {
        Value::String(_) | Value::Integer(_) | Value::Number(_) => {
            lua.coerce_string(value.clone())?
        }
        _ => None,
    };
    match text {
        Some(text) => Ok(text.as_bytes().to_vec()),
        None => Err(LuaError::argument(format!(
            "what is written must be a string, got {}",
            crate::binding::preview::shown(&value)
        ))),
    }
}

fn number_in(lua: &Lua, text: Value) -> Result<Value> {
    let integer = lua.coerce_integer(text.clone())?;
    if let (Some(integer), Value::String(written)) = (integer, &text)
        && !written
            .as_bytes()
            .iter()
            .any(|byte| b".eEpP".contains(byte))
    {
        return Ok(Value::Integer(integer));
    }
    Ok(lua.coerce_number(text)?.map_or(Value::Nil, Value::Number))
}

fn bad_descriptor() -> io::Error {
    /// Bad file descriptor.
    const EBADF: i32 = 9;
    io::Error::from_raw_os_error(EBADF)
}

async fn write_device(device: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match device.write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What Lua's library returns on failure: nil, the reason, and the errno.
pub(super) fn not_done(lua: &Lua, error: &io::Error) -> Result<MultiValue> {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    (Value::Nil, text, error.raw_os_error().unwrap_or(0)).into_lua_multi(lua)
}

fn current_log(lua: &Lua) -> Log {
    Rc::clone(&TestFileState::of(lua).current_group().log)
}

async fn to_log(mut pipe: pipe::Receiver, log: Log) {
    let mut piece = vec![0; 64 << 10];
    loop {
        match pipe.read(&mut piece).await {
            Ok(0) | Err(_) => return,
            Ok(count) => log.borrow_mut().write(&piece[..count]),
        }
    }
}

/// The Lua value of a file.
pub(super) fn value(lua: &Lua, file: HostFile) -> Result<Value> {
    object(lua, file)
}

/// Makes the class.
pub(super) fn install(lua: &Lua) -> Result<()> {
    Class::<HostFile>::new(lua)?
        .async_method("read", |lua, this, args| async move {
            let wanted = formats(&args)?;
            this.read(&lua, &wanted).await
        })?
        .async_method("write", |lua, this, args| async move {
            for index in 0..args.values().len() {
                let bytes = text_to_write(&lua, &args, index)?;
                if let Err(error) = this.write(&lua, &bytes).await? {
                    return Ok(not_done(&lua, &error)?);
                }
            }
            Ok(object(&lua, this)?.into_lua_multi(&lua)?)
        })?
        .async_method("close", |lua, this, _| async move {
            if this.0.standard {
                return Ok((Value::Nil, "cannot close standard file").into_lua_multi(&lua)?);
            }
            let (how, code) = match this.close().await? {
                None => return Ok(true.into_lua_multi(&lua)?),
                Some(HostExit::Exited(code)) => ("exit", code),
                Some(HostExit::Signalled(signal)) => ("signal", signal),
            };
            let ok = (how == "exit" && code == 0).then_some(true);
            Ok((ok, how, code).into_lua_multi(&lua)?)
        })?
        .method("flush", |lua, this, _| {
            this.open()?;
            Ok(object(lua, this.clone())?)
        })?
        .method("setvbuf", |_, this, args| {
            args.take_any();
            this.open()?;
            Ok(true)
        })?
        .method("seek", |lua, this, _| {
            this.open()?;
            /// Illegal seek.
            const ESPIPE: i32 = 29;
            Ok(not_done(lua, &io::Error::from_raw_os_error(ESPIPE))?)
        })?
        .with(|class| {
            let prelude = TestFileState::of(class.lua()).prelude.clone();
            class
                .lua_method("lines", &prelude.method("lines")?)?
                .wrapped_by("write", &prelude.method("writing")?)
        })?
        .finish()
}
