//! Raw syscalls: the numbers-only form, the table form with buffers, and `ioctl`.

use super::handles::HasSurface;
use super::syscall_result::{self, bytes_list, head};
use super::value::call_site;
use super::{file, pending};
use crate::api::globals::syscall_number;
use crate::binding::args::Args;
use crate::binding::class::Class;
use crate::binding::options::Options;
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{bytes_of, integer_of};
use mlua::{Lua, Result, Table, Value};
use provium_lab::{Buffer, Link, Syscall, SyscallResult};

/// Number of `ioctl(2)` on x86-64.
const SYS_IOCTL: i64 = 16;
/// Arguments a syscall has.
const SLOTS: usize = 6;
/// Alignment of buffers by default.
const ALIGN: u32 = 16;
/// Greatest alignment.
const MAX_ALIGN: u32 = 1024 * 1024;
/// Bytes of a pointer.
const POINTER: u64 = 8;

/// Adds the raw calls.
pub(super) fn add<T: HasSurface>(class: Class<'_, T>) -> Result<Class<'_, T>> {
    class
        .async_method("syscall", |lua, this, args| async move {
            let (call, syscall) = (named("syscall", &args), read(&args)?);
            let result = this.surface().syscall(call, syscall).await?;
            Ok(syscall_result::table(&lua, &result)?)
        })?
        .async_method("syscall_async", |lua, this, args| async move {
            let (call, syscall) = (named("syscall_async", &args), read(&args)?);
            let (scope, _) = call_site(&lua);
            let pending = this.surface().syscall_async(&scope, call, syscall).await?;
            Ok(pending::value(&lua, pending, this.subject())?)
        })?
        .async_method("ioctl", |lua, this, args| async move {
            let mut syscall = read_ioctl(&args)?;
            let ops = this.surface();
            let descriptor = file::descriptor(&args, 0)?;
            syscall.args[0] = match &descriptor {
                file::Descriptor::Number(number) => *number,
                file::Descriptor::File(file) => {
                    i64::from(file.number_for("ioctl()", ops.target()).await?)
                }
            };
            let call = format!("ioctl({}, {:#x})", syscall.args[0], syscall.args[1]);
            let result = match descriptor {
                file::Descriptor::Number(_) => ops.syscall(call, syscall).await?,
                // It is made by the worker (or VM) that opened it, whichever is asked.
                file::Descriptor::File(file) => file.syscall(call, syscall).await?,
            };
            Ok(ioctl_table(&lua, &result, args.value(2))?)
        })?
        .async_method("read_mem", |lua, this, args| async move {
            let address = args.integer(0, "the address")?.cast_unsigned();
            let len = args.unsigned(1, "the length")?;
            match this.surface().read_memory(address, len).await? {
                Ok(bytes) => Ok((Value::String(lua.create_string(bytes)?), None)),
                Err(errno) => Ok((Value::Nil, Some(errno))),
            }
        })?
        .async_method("write_mem", |_, this, args| async move {
            let address = args.integer(0, "the address")?.cast_unsigned();
            let bytes = args.bytes(1, "the bytes")?;
            match this.surface().write_memory(address, bytes).await? {
                Ok(()) => Ok((Some(true), None)),
                Err(errno) => Ok((None, Some(errno))),
            }
        })
}

/// The call as the author wrote it: `syscall("openat")`.
fn named(method: &str, args: &Args) -> String {
    format!("{method}({})", shown(&args.value(0)))
}

/// The syscall that the arguments ask for.
pub(super) fn read(args: &Args) -> std::result::Result<Syscall, LuaError> {
    let nr = match args.value(0) {
        Value::String(name) => syscall_number(&name.to_string_lossy())?,
        _ => args.integer(0, "the number (or name)")?,
    };
    let mut syscall = Syscall {
        nr,
        args: [0; SLOTS],
        buffers: Vec::new(),
        pointers: Vec::new(),
        nested: Vec::new(),
        background: false,
    };
    match args.value(1) {
        Value::Table(form) => {
            if args.has(2) {
                return Err(LuaError::argument(
                    "the table form takes nothing after the table",
                ));
            }
            let options = Options::read(&form, &["args", "bufs", "ptrs", "nested"])?;
            if let Some(values) = options.table("args")? {
                syscall.args = slots(&sparse(&values)?)?;
            }
            syscall.buffers = buffers(&options)?;
            syscall.pointers = pointers(&options, syscall.buffers.len())?;
            syscall.nested = nested(&options, &syscall.buffers)?;
        }
        _ => syscall.args = slots(args.values().get(1..).unwrap_or_default())?,
    }
    Ok(syscall)
}

fn slots(values: &[Value]) -> std::result::Result<[i64; SLOTS], LuaError> {
    if values.len() > SLOTS {
        let text = format!(
            "a syscall has at most {SLOTS} arguments, got {}",
            values.len()
        );
        return Err(LuaError::argument(text));
    }
    let mut slots = [0; SLOTS];
    for (index, (slot, value)) in slots.iter_mut().zip(values).enumerate() {
        *slot = integer_of(value)
            .map_err(|why| LuaError::argument(format!("argument {}: {why}", index + 1)))?;
    }
    Ok(slots)
}

/// A list that may contain nil: keys 1 to the greatest. A nil is 0 where a number is expected.
fn sparse(table: &Table) -> std::result::Result<Vec<Value>, LuaError> {
    let mut values = Vec::new();
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let Some(index) = key.as_usize().filter(|index| (1..=1 << 20).contains(index)) else {
            return Err(LuaError::argument(format!(
                "a list has no key {}",
                shown(&key)
            )));
        };
        if values.len() < index {
            values.resize(index, Value::Integer(0));
        }
        values[index - 1] = value;
    }
    Ok(values)
}

fn buffers(options: &Options) -> std::result::Result<Vec<Buffer>, LuaError> {
    let list = options.list("bufs")?.unwrap_or_default();
    let one = |(index, value): (usize, &Value)| {
        buffer(value).map_err(|raise| LuaError::argument(format!("bufs[{}]: {raise}", index + 1)))
    };
    list.iter().enumerate().map(one).collect()
}

/// A buffer: a string (sent and returned), `{out = n}`, `{inp = s}`, or `{s, align = n}`.
fn buffer(value: &Value) -> std::result::Result<Buffer, LuaError> {
    let Value::Table(form) = value else {
        let content = bytes_of(value).map_err(LuaError::argument)?;
        return Ok(Buffer {
            len: content.len() as u64,
            content,
            align: ALIGN,
            returned: true,
        });
    };
    let positional: Value = form.raw_get(1)?;
    let options = if positional.is_nil() {
        Options::read(form, &["out", "inp", "data", "align"])?
    } else {
        Options::read_after_list(form, 1, &["align"])?
    };
    let align = match options.integer("align")? {
        None => ALIGN,
        Some(align) => match u32::try_from(align) {
            Ok(align) if align.is_power_of_two() && align <= MAX_ALIGN => align.max(ALIGN),
            _ => {
                let text = format!("align: a power of two up to {MAX_ALIGN}, got {align}");
                return Err(LuaError::argument(text));
            }
        },
    };
    let data = match positional {
        Value::Nil => options.bytes("data")?,
        value => Some(bytes_of(&value).map_err(LuaError::argument)?),
    };
    let (content, len, returned) = match (options.size("out")?, options.bytes("inp")?, data) {
        (Some(len), None, None) => (Vec::new(), len, true),
        (None, Some(content), None) => (content.clone(), content.len() as u64, false),
        (None, None, Some(content)) => (content.clone(), content.len() as u64, true),
        _ => {
            return Err(LuaError::argument(
                "give one of a string, `out`, `inp` and `data`",
            ));
        }
    };
    Ok(Buffer {
        content,
        len,
        align,
        returned,
    })
}

fn pointers(options: &Options, buffers: usize) -> std::result::Result<Vec<i8>, LuaError> {
    let Some(list) = options.table("ptrs")? else {
        return Ok(Vec::new());
    };
    let mut slots = vec![-1; buffers];
    for pair in list.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let index = key.as_usize().filter(|index| (1..=buffers).contains(index));
        let index = index.ok_or_else(|| {
            LuaError::argument(format!("ptrs[{}]: there are {buffers} bufs", shown(&key)))
        })?;
        let slot = integer_of(&value)
            .map_err(|why| LuaError::argument(format!("ptrs[{index}]: {why}")))?;
        let slot = match i8::try_from(slot) {
            Ok(slot @ 0..=5) => slot,
            _ => {
                let text = format!("ptrs[{index}]: {slot} is not an argument slot (0 to 5)");
                return Err(LuaError::argument(text));
            }
        };
        if let Some(other) = slots.iter().position(|taken| *taken == slot) {
            let text = format!(
                "ptrs[{index}]: slot {slot} has the address of bufs[{}]",
                other + 1
            );
            return Err(LuaError::argument(text));
        }
        slots[index - 1] = slot;
    }
    Ok(slots)
}

fn nested(options: &Options, buffers: &[Buffer]) -> std::result::Result<Vec<Link>, LuaError> {
    let list = options.list("nested")?.unwrap_or_default();
    let one = |(index, value): (usize, &Value)| {
        link(value, buffers)
            .map_err(|raise| LuaError::argument(format!("nested[{}]: {raise}", index + 1)))
    };
    list.iter().enumerate().map(one).collect()
}

fn link(value: &Value, buffers: &[Buffer]) -> std::result::Result<Link, LuaError> {
    let Value::Table(form) = value else {
        return Err(LuaError::argument(format!(
            "must be a table, got {}",
            shown(value)
        )));
    };
    let options = Options::read(form, &["parent", "child", "offset", "child_offset"])?;
    let (parent, parent_len) = buffer_index(&options, "parent", buffers)?;
    let (child, child_len) = buffer_index(&options, "child", buffers)?;
    let offset = options.unsigned::<u64>("offset")?.unwrap_or(0);
    let child_offset = options.unsigned::<u64>("child_offset")?.unwrap_or(0);
    if offset
        .checked_add(POINTER)
        .is_none_or(|end| end > parent_len)
    {
        let text =
            format!("offset {offset}: a pointer does not fit into the parent's {parent_len} bytes");
        return Err(LuaError::argument(text));
    }
    if child_offset > child_len {
        let text = format!("child_offset {child_offset} is past the child's {child_len} bytes");
        return Err(LuaError::argument(text));
    }
    Ok(Link {
        parent,
        child,
        offset,
        child_offset,
    })
}

fn buffer_index(
    options: &Options,
    key: &str,
    buffers: &[Buffer],
) -> std::result::Result<(u32, u64), LuaError> {
    let number = options
        .integer(key)?
        .ok_or_else(|| LuaError::argument(format!("`{key}` is missing")))?;
    let index = usize::try_from(number)
        .ok()
        .and_then(|number| number.checked_sub(1));
    let buffer = index.and_then(|index| buffers.get(index));
    match (buffer, u32::try_from(number)) {
        (Some(buffer), Ok(number)) => Ok((number - 1, buffer.len)),
        _ => Err(LuaError::argument(format!(
            "{key} {number}: there are {} bufs",
            buffers.len()
        ))),
    }
}

/// `ioctl(fd, cmd, data?, {bufs=, ptr_offsets=})`: the data is the third argument, a number as it is
/// and a string by its address; `ptr_offsets[i]` says where in it the address of `bufs[i]` goes.
fn read_ioctl(args: &Args) -> std::result::Result<Syscall, LuaError> {
    let command = args.integer(1, "the command")?;
    let mut syscall = Syscall {
        nr: SYS_IOCTL,
        args: [0, command, 0, 0, 0, 0],
        buffers: Vec::new(),
        pointers: Vec::new(),
        nested: Vec::new(),
        background: false,
    };
    let options = args.options(3, &["bufs", "ptr_offsets"])?;
    match args.value(2) {
        Value::Nil => {}
        Value::Integer(number) => syscall.args[2] = number,
        value => {
            syscall.buffers.push(buffer(&value)?);
            syscall.pointers.push(2);
        }
    }
    let inner = buffers(&options)?;
    if !inner.is_empty() && syscall.buffers.is_empty() {
        return Err(LuaError::argument("`bufs` needs data that points to them"));
    }
    let offsets = options.list("ptr_offsets")?.unwrap_or_default();
    if offsets.len() != inner.len() {
        let text = format!(
            "`ptr_offsets` needs one entry for each of the {} bufs",
            inner.len()
        );
        return Err(LuaError::argument(text));
    }
    for (index, (buffer, offset)) in inner.into_iter().zip(&offsets).enumerate() {
        let bad = |why: String| LuaError::argument(format!("ptr_offsets[{}]: {why}", index + 1));
        let number = integer_of(offset).map_err(bad)?;
        let len = syscall.buffers.first().map_or(0, |data| data.len);
        let offset = u64::try_from(number)
            .ok()
            .filter(|offset| offset + POINTER <= len);
        let offset =
            offset.ok_or_else(|| bad(format!("{number}: no pointer fits there in {len} bytes")))?;
        let child = u32::try_from(index + 1).map_err(|_| bad("too many".to_owned()))?;
        syscall.buffers.push(buffer);
        syscall.pointers.push(-1);
        syscall.nested.push(Link {
            parent: 0,
            child,
            offset,
            child_offset: 0,
        });
    }
    Ok(syscall)
}

fn ioctl_table(lua: &Lua, result: &SyscallResult, data: Value) -> Result<Table> {
    let table = head(lua, result)?;
    let (own, others) = match (data, result.buffers.split_first()) {
        (Value::Nil | Value::Integer(_), _) | (_, None) => (None, &result.buffers[..]),
        (_, Some((own, others))) => (own.as_ref(), others),
    };
    if let Some(bytes) = own {
        table.raw_set("out_data", lua.create_string(bytes)?)?;
    }
    table.raw_set("out_bufs", bytes_list(lua, others)?)?;
    Ok(table)
}
