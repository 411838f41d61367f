//! Options of a disk: those of a VM's option `disks`, and those of `vm:attach_disk()`.

use crate::api::globals::{record_read, record_tree, record_write};
use crate::api::objects::paths::{host_path, host_source};
use crate::binding::options::{Options, list_of};
use crate::binding::preview::shown;
use crate::binding::raise::LuaError;
use crate::binding::values::{bytes_of, size_of, text_of};
use crate::engine::test_file::TestFileState;
use camino::Utf8PathBuf;
use mlua::{Lua, Table, Value};
use provium_lab::{DiskId, DiskOptions, DiskSource, SECTOR};

/// The size of a disk that is attached without a size or a source, bytes.
const DEFAULT_SIZE: u64 = 4 << 30;

/// Options that say what is on a disk.
const SOURCES: &[&str] = &["path", "scratch", "template", "folder"];

const KNOWN: &[&str] = &[
    "id",
    "path",
    "scratch",
    "template",
    "folder",
    "readonly",
    "mount",
    "filesystem",
    // Every disk is; tests that say so mean it.
    "mediated",
];

const KNOWN_OF_ATTACHED: &[&str] = &[
    "id",
    "size",
    // The word of the option `disks`.
    "scratch",
    "image",
    "path",
    "template",
    "folder",
    "readonly",
    "mount",
    "filesystem",
    "mediated",
    "content",
];

/// The list in a VM's option `disks`. Messages name the entry.
pub(in crate::api::objects) fn declared(
    lua: &Lua,
    list: &Table,
) -> Result<Vec<DiskOptions>, LuaError> {
    let entries = list_of(list).map_err(|error| error.within("option `disks`"))?;
    let one = |(index, value): (usize, &Value)| {
        entry(lua, value).map_err(|error| error.within(&format!("disks[{}]", index + 1)))
    };
    entries.iter().enumerate().map(one).collect()
}

fn entry(lua: &Lua, value: &Value) -> Result<DiskOptions, LuaError> {
    let Value::Table(table) = value else {
        return Err(LuaError::argument(format!(
            "must be a table, got {}",
            shown(value)
        )));
    };
    let options = Options::read(table, KNOWN)?;
    let source = match source_given(&options, SOURCES)? {
        Some("scratch") => DiskSource::Scratch {
            size: disk_size(&options, "scratch")?.unwrap_or(DEFAULT_SIZE),
        },
        Some(key) => source(lua, &options, key)?,
        None => {
            return Err(LuaError::argument(format!(
                "say what is on the disk: one of {}",
                SOURCES.join(", ")
            )));
        }
    };
    with_source(&options, source)
}

/// A disk to attach, and the data to write to it from its start.
#[derive(Debug)]
pub(super) struct AttachedDisk {
    pub(super) options: DiskOptions,
    pub(super) content: Option<Vec<u8>>,
}

/// The options of `vm:attach_disk()`.
pub(super) fn attached(lua: &Lua, options: &Options) -> Result<AttachedDisk, LuaError> {
    let size_key = source_given(options, &["size", "scratch"])?;
    let size = match size_key {
        Some(key) => disk_size(options, key)?,
        None => None,
    };
    let given = source_given(options, &["image", "path", "template", "folder"])?;
    let source = match (given, size) {
        (None, size) => DiskSource::Scratch {
            size: size.unwrap_or(DEFAULT_SIZE),
        },
        (Some(key), None) => source(lua, options, key)?,
        (Some(key), Some(_)) => {
            let size = size_key.unwrap_or("size");
            return Err(LuaError::argument(format!(
                "`{size}` is for an empty disk; this one has the size of its `{key}`"
            )));
        }
    };
    let content = options.read_with("content", bytes_of)?;
    if let (Some(content), DiskSource::Scratch { size }) = (&content, &source)
        && content.len() as u64 > *size
    {
        return Err(LuaError::argument(format!(
            "option `content`: {} bytes are more than the disk's {size}",
            content.len()
        )));
    }
    Ok(AttachedDisk {
        options: with_source(options, source)?,
        content,
    })
}

/// The keys that `vm:attach_disk()` knows.
pub(super) fn known_of_attached() -> &'static [&'static str] {
    KNOWN_OF_ATTACHED
}

/// Which of the keys is given; more than one raises.
fn source_given<'a>(options: &Options, keys: &[&'a str]) -> Result<Option<&'a str>, LuaError> {
    let given: Vec<&str> = keys
        .iter()
        .copied()
        .filter(|key| options.has(key))
        .collect();
    match given[..] {
        [] => Ok(None),
        [key] => Ok(Some(key)),
        [one, other, ..] => Err(LuaError::argument(format!(
            "give `{one}` or `{other}`, not both"
        ))),
    }
}

/// A source of the host, which is recorded as an input of the fixture that is being built.
fn source(lua: &Lua, options: &Options, key: &str) -> Result<DiskSource, LuaError> {
    let path = options.read_with(key, |value| match text_of(value)? {
        path if path.is_empty() => Err("must not be empty".to_owned()),
        path => Ok(path),
    })?;
    let path = host_place(lua, &path.unwrap_or_default());
    let path = path.map_err(|error| error.within(&format!("option `{key}`")))?;
    Ok(match key {
        "folder" => {
            record_tree(lua, &path);
            DiskSource::Folder(path)
        }
        "path" => {
            record_read(lua, &path);
            // The content is written to the image also if the guest may only read it.
            if !options.flag("readonly")? || options.has("content") {
                record_write(lua, &path);
            }
            DiskSource::Path(path)
        }
        // `template`, and `image` as its other name.
        _ => {
            record_read(lua, &path);
            DiskSource::Template(path)
        }
    })
}

/// The path of an image or a folder. While tests are only listed it need not exist: what makes it does not run.
fn host_place(lua: &Lua, path: &str) -> Result<Utf8PathBuf, LuaError> {
    if TestFileState::of(lua).listing.is_some() {
        return host_path(lua, path);
    }
    let found = host_source(lua, path, true)?;
    if found.exists() {
        return Ok(found);
    }
    Err(LuaError::argument(format!("`{found}` does not exist")))
}

fn with_source(options: &Options, source: DiskSource) -> Result<DiskOptions, LuaError> {
    options.boolean("mediated")?;
    let id = options.text("id")?;
    if let Some(id) = &id {
        DiskId::new(id).map_err(LuaError::argument)?;
    }
    let mount = options.read_with("mount", |value| match text_of(value)? {
        path if path.starts_with('/') => Ok(path),
        path => Err(format!("must be an absolute path, got {path:?}")),
    })?;
    let filesystem = options.read_with("filesystem", |value| {
        DiskOptions::filesystem_type(&text_of(value)?)
    })?;
    if filesystem.is_some() && mount.is_none() {
        return Err(LuaError::argument(
            "option `filesystem` needs `mount`, the path at which the disk is mounted",
        ));
    }
    Ok(DiskOptions {
        id,
        read_only: options.flag("readonly")?,
        mount,
        filesystem,
        ..DiskOptions::new(source)
    })
}

/// A size under `key`: whole sectors, at least one.
fn disk_size(options: &Options, key: &str) -> Result<Option<u64>, LuaError> {
    options.read_with(key, |value| {
        let size = size_of(value)?;
        if size >= SECTOR && size.is_multiple_of(SECTOR) {
            return Ok(size);
        }
        Err(format!(
            "must be a multiple of {SECTOR} bytes, and at least {SECTOR}, got {}",
            shown(value)
        ))
    })
}
