//! Options of a VM, at its creation and at each boot.

use super::clock::point_in_time;
use super::disk;
use crate::binding::options::{Options, list_of};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{bytes_of, count_of, text_of};
use mlua::{Lua, Table, Value};
use provium_lab::{BootFile, OnPanic, VmOptions};

const KNOWN: &[&str] = &[
    "memory",
    "cpus",
    "kernel_cmdline",
    "kernel_cmdline_append",
    "rng_seed",
    "initial_time",
    "files",
    "disks",
    "agent_timeout",
    "cold",
    "on_panic",
    // The bridges that it is attached to; they are not kept with a VM.
    "nics",
];

/// Permission bits of a boot file that names none.
const DEFAULT_PERM: u32 = 0o644;

/// The options in `table`.
pub(super) fn read(lua: &Lua, table: &Table) -> Result<VmOptions, LuaError> {
    let options = Options::read(table, KNOWN)?;
    let memory = options.size("memory")?;
    if memory == Some(0) {
        return Err(LuaError::argument("option `memory`: must be more than 0"));
    }
    let cpus = options.read_with("cpus", count_of)?;
    let initial_time_ns = options.value("initial_time").map(point_in_time).transpose();
    Ok(VmOptions {
        memory,
        cpus,
        kernel_cmdline: options.text("kernel_cmdline")?,
        kernel_cmdline_append: options.text("kernel_cmdline_append")?,
        // All 64 bits are a seed; Lua's integers are signed.
        rng_seed: options.integer("rng_seed")?.map(i64::cast_unsigned),
        initial_time_ns: initial_time_ns
            .map_err(|why| LuaError::argument(format!("option `initial_time`: {why}")))?,
        files: options
            .table("files")?
            .map(|files| boot_files(&files))
            .transpose()?,
        disks: options
            .table("disks")?
            .map(|disks| disk::declared(lua, &disks))
            .transpose()?,
        agent_timeout: options.duration("agent_timeout")?,
        cold: options.boolean("cold")?,
        on_panic: options
            .text("on_panic")?
            .map(|text| on_panic(&text))
            .transpose()?,
    })
}

fn on_panic(text: &str) -> Result<OnPanic, LuaError> {
    match text {
        "stop" => Ok(OnPanic::Stop),
        "reboot" => Ok(OnPanic::Reboot),
        other => Err(LuaError::argument(format!(
            "option `on_panic`: must be \"stop\" or \"reboot\", got {other:?}"
        ))),
    }
}

fn boot_files(list: &Table) -> Result<Vec<BootFile>, LuaError> {
    let files =
        list_of(list).map_err(|why| LuaError::argument(format!("option `files`: {why}")))?;
    let one = |(index, value): (usize, &Value)| {
        boot_file(value).map_err(|why| LuaError::argument(format!("files[{}]: {why}", index + 1)))
    };
    files.iter().enumerate().map(one).collect()
}

fn boot_file(value: &Value) -> Result<BootFile, LuaError> {
    let Value::Table(table) = value else {
        return Err(LuaError::argument(format!(
            "must be a table, got {}",
            shown(value)
        )));
    };
    let options = Options::read(table, &["path", "content", "mode", "perm"])?;
    let needed = |key: &str| {
        options
            .value(key)
            .ok_or_else(|| LuaError::argument(format!("`{key}` is missing")))
    };
    let path =
        text_of(needed("path")?).map_err(|why| LuaError::argument(format!("`path` {why}")))?;
    if !path.starts_with('/') {
        return Err(LuaError::argument(format!(
            "`path` must be absolute, got {path:?}"
        )));
    }
    let content = bytes_of(needed("content")?);
    let content = content.map_err(|why| LuaError::argument(format!("`content` {why}")))?;
    if options.has("perm") && options.has("mode") {
        return Err(LuaError::argument("give `perm` or `mode`, not both"));
    }
    let perm = options
        .perm("perm")?
        .or(options.perm("mode")?)
        .unwrap_or(DEFAULT_PERM);
    Ok(BootFile {
        path,
        content,
        perm,
    })
}
