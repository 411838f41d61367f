//! The functions behind the prelude's `io` library.

use super::file::{self, HostFile, Sink, not_done};
use super::open::{self, Kind};
use super::source::Source;
use crate::binding::args::Args;
use crate::binding::class::{async_function, raw_function};
use crate::binding::raise::LuaError;
use mlua::{IntoLuaMulti, Lua, MultiValue, Result, Table, Value};
use provium_lab::start_host_shell;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Makes the class, and puts what the prelude calls into `native`.
pub(crate) fn install(lua: &Lua, native: &Table) -> Result<()> {
    file::install(lua)?;
    // Standard input is opened on first use, since it is shared with other processes.
    let stdin = raw_function(lua, "io.stdin", |lua, _| {
        let own = io::stdin().as_fd().try_clone_to_owned();
        let source = own.and_then(|own| Source::of(own.into()));
        let source = source.map_err(|error| LuaError::argument(error.to_string()))?;
        Ok(file::value(
            lua,
            HostFile::standard("standard input", Some(source), None),
        )?)
    })?;
    native.raw_set("stdin", stdin)?;
    let output = raw_function(lua, "io.stdout", |lua, args| {
        let what = args.text(0, "the name")?;
        Ok(file::value(
            lua,
            HostFile::standard(&what, None, Some(Sink::Log)),
        )?)
    })?;
    native.raw_set("output", output)?;
    let kind = raw_function(lua, "io.open", |_, args| {
        Ok(open::kind(&path(args)?, writes(args)?) != Kind::Plain)
    })?;
    native.raw_set("may_block", kind)?;
    let opened = async_function(lua, "io.open", true, |lua, args| async move {
        open(&lua, &args).await
    })?;
    native.raw_set("open", opened)?;
    let write_now = raw_function(lua, "write", |lua, args| {
        let written = match args.value(0) {
            Value::UserData(userdata) => match userdata.borrow::<HostFile>() {
                Ok(file) => file.write_now(lua, args)?,
                Err(_) => false,
            },
            _ => false,
        };
        Ok(written)
    })?;
    native.raw_set("write_now", write_now)?;
    let popen = raw_function(lua, "io.popen", popen)?;
    native.raw_set("popen", popen)?;
    // As `io.type` says it; nothing for a value that is not such a file.
    let io_type = raw_function(lua, "io.type", |_, args| {
        let file = match args.value(0) {
            Value::UserData(userdata) => userdata
                .borrow::<HostFile>()
                .ok()
                .map(|file| file.is_closed()),
            _ => None,
        };
        Ok(file.map(|closed| if closed { "closed file" } else { "file" }))
    })?;
    native.raw_set("io_type", io_type)
}

fn path(args: &Args) -> std::result::Result<PathBuf, LuaError> {
    let bytes = args.bytes(0, "the path")?;
    Ok(PathBuf::from(OsStr::from_bytes(&bytes)))
}

fn writes(args: &Args) -> std::result::Result<bool, LuaError> {
    let mode = args.opt_words(1, "the mode")?;
    Ok(mode.is_some_and(|mode| !mode.starts_with('r') || mode.contains('+')))
}

async fn open(lua: &Lua, args: &Args) -> std::result::Result<MultiValue, LuaError> {
    let (path, write) = (path(args)?, writes(args)?);
    let what = format!("host file `{}`", path.display());
    let opened = match open::kind(&path, write) {
        Kind::Output => Ok(HostFile::writing(what, Sink::Log)),
        Kind::Pipe if write => {
            let pipe = open::pipe_writer(&path).await;
            pipe.map(|pipe| HostFile::writing(what, Sink::Pipe(pipe)))
        }
        Kind::Device if write => {
            let device = open::device_writer(&path);
            device.map(|device| HostFile::writing(what, Sink::Device(device)))
        }
        Kind::Pipe => {
            let pipe = open::pipe_reader(&path).await;
            pipe.map(|(source, read)| HostFile::reading(what, source, read))
        }
        _ => open::device_reader(&path).map(|source| HostFile::reading(what, source, Vec::new())),
    };
    match opened {
        Ok(opened) => Ok(file::value(lua, opened)?.into_lua_multi(lua)?),
        Err(error) => {
            let mut values = not_done(lua, &error)?;
            if let Some(Value::String(why)) = values.get(1) {
                let text = format!("{}: {}", path.display(), why.to_string_lossy());
                values[1] = Value::String(lua.create_string(text)?);
            }
            Ok(values)
        }
    }
}

fn popen(lua: &Lua, args: &Args) -> std::result::Result<MultiValue, LuaError> {
    let command = args.bytes(0, "the command")?;
    let read = match args.opt_words(1, "the mode")?.as_deref() {
        None | Some("r") => true,
        Some("w") => false,
        Some(_) => {
            return Err(LuaError::argument(
                "bad argument #2 to 'popen' (invalid mode)",
            ));
        }
    };
    let child = match start_host_shell(&command, !read) {
        Ok(child) => child,
        Err(error) => return Ok((Value::Nil, error.to_string(), 0).into_lua_multi(lua)?),
    };
    let what = crate::binding::preview::call("io", ".", "popen", args.shown());
    let file = HostFile::of_command(lua, what, child, read);
    Ok(file::value(lua, file)?.into_lua_multi(lua)?)
}
