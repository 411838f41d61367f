//! What `vm` and `worker` share: commands and opened things. Paths are in `paths` and `tree`, servers in
//! `server`, raw syscalls in `syscall`, batches in `batch`.

use super::command::{self, RunMode};
use super::handles::HasSurface;
use super::value::call_site;
use super::{batch, file, paths, process, result, server, stream, syscall, tree};
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::raise::LuaError;
use mlua::{Result, Value};
use provium_lab::{OpenMode, TailStart};

/// Adds all that the surface offers.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .with(commands)?
        .with(opened)?
        .with(paths::add)?
        .with(tree::add)?
        .with(server::add)?
        .with(syscall::add)?
        .with(batch::add)
}

fn commands<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("run", |lua, this, args| async move {
            let (spec, timeout) = command::read(&args, RunMode::Foreground)?;
            let ran = this.surface().run(spec, timeout).await?;
            Ok(result::value(&lua, ran)?)
        })?
        .async_method("check", |lua, this, args| async move {
            let (spec, timeout) = command::read(&args, RunMode::Foreground)?;
            let ran = this.surface().run(spec, timeout).await?;
            result::checked(&lua, &this.subject(), ran)
        })?
        .async_method("run_async", |lua, this, args| async move {
            let (scope, _) = call_site(&lua);
            let (spec, _) = command::read(&args, RunMode::Background)?;
            let process = this.surface().run_async(&scope, spec).await?;
            Ok(process::value(&lua, process)?)
        })
}

fn opened<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("open_file", |lua, this, args| async move {
            let (scope, _) = call_site(&lua);
            let path = args.path(0, "the path")?;
            let opened = this
                .surface()
                .open_file(&scope, &path, open_mode(&args)?)
                .await?;
            Ok(file::value(&lua, opened)?)
        })?
        .async_method("tail_file", |lua, this, args| async move {
            let (scope, site) = call_site(&lua);
            let path = args.path(0, "the path")?;
            let start = tail_start(&args)?;
            let tail = this.surface().tail_file(&scope, &path, start, site).await?;
            Ok(stream::value(&lua, tail)?)
        })?
        .async_method("fd_stream", |lua, this, args| async move {
            let (scope, site) = call_site(&lua);
            let number = match file::descriptor(&args, 0)? {
                // Of the worker (or VM) that opened it, whichever is asked.
                file::Descriptor::File(file) => {
                    let tail = file
                        .fd_stream(&scope, this.surface().target(), site)
                        .await?;
                    return Ok(stream::value(&lua, tail)?);
                }
                file::Descriptor::Number(number) => number,
            };
            let fd = i32::try_from(number)
                .ok()
                .filter(|fd| *fd >= 0)
                .ok_or_else(|| {
                    LuaError::argument(format!(
                        "the descriptor (or file): must be from 0 to {}, got {number}",
                        i32::MAX
                    ))
                })?;
            let tail = this.surface().fd_stream(&scope, fd, site).await?;
            Ok(stream::value(&lua, tail)?)
        })
}

fn open_mode(args: &Args) -> std::result::Result<OpenMode, LuaError> {
    let known = [
        "read",
        "write",
        "create",
        "truncate",
        "append",
        "exclusive",
        "perm",
    ];
    let options = args.options(1, &known)?;
    Ok(OpenMode {
        read: options.flag("read")?,
        write: options.flag("write")?,
        create: options.flag("create")?,
        truncate: options.flag("truncate")?,
        append: options.flag("append")?,
        exclusive: options.flag("exclusive")?,
        perm: options.perm("perm")?,
    })
}

fn tail_start(args: &Args) -> std::result::Result<TailStart, LuaError> {
    let options = args.options(1, &["start"])?;
    match options.value("start") {
        None => Ok(TailStart::End),
        Some(Value::String(word)) => match word.to_string_lossy().as_str() {
            "end" => Ok(TailStart::End),
            "beginning" | "start" => Ok(TailStart::Beginning),
            other => {
                let text = format!(
                    "option `start`: must be \"end\", \"beginning\" or a number, got `{other}`"
                );
                Err(LuaError::argument(text))
            }
        },
        Some(value) => {
            let offset = match value {
                // A fraction, as of a position that was computed, is cut off.
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "saturates, as a position may"
                )]
                Value::Number(offset) if offset.is_finite() => *offset as i64,
                _ => options.integer("start")?.unwrap_or(0),
            };
            let distance = offset.unsigned_abs();
            Ok(if offset < 0 {
                TailStart::BeforeEnd(distance)
            } else {
                TailStart::At(distance)
            })
        }
    }
}
