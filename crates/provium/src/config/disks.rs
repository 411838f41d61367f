//! The `disks` of a profile.

use super::error::ConfigError;
use super::section::{Section, Span};
use camino::Utf8PathBuf;
use provium_lab::{DiskId, DiskOptions, DiskSource, SECTOR};
use std::collections::BTreeSet;

/// Keys of a disk.
const KEYS: &[&str] = &[
    "path",
    "scratch",
    "template",
    "folder",
    "id",
    "readonly",
    "mount",
    "filesystem",
];

/// The keys that say what is on a disk, of which it has one.
const SOURCES: [&str; 4] = ["path", "scratch", "template", "folder"];

/// A file or folder that a disk needs for a boot.
pub(super) struct DiskFile {
    pub(super) key: &'static str,
    pub(super) path: Utf8PathBuf,
    pub(super) span: Span,
}

/// Reads the disks of the profile `section`. `absolute` makes a path absolute that a key of a disk names.
pub(super) fn read(
    section: &Section<'_>,
    absolute: impl Fn(&Section<'_>, &str) -> Result<Option<(Utf8PathBuf, Span)>, ConfigError>,
) -> Result<(Vec<DiskOptions>, Vec<DiskFile>), ConfigError> {
    let (mut disks, mut files) = (Vec::new(), Vec::new());
    let mut ids = BTreeSet::new();
    for (place, (disk, span)) in section
        .sections("disks")?
        .unwrap_or_default()
        .into_iter()
        .enumerate()
    {
        disk.only(KEYS)?;
        let given: Vec<&'static str> = SOURCES
            .into_iter()
            .filter(|key| disk.key_span(key).is_some())
            .collect();
        let &[source] = &given[..] else {
            let what = match given[..] {
                [] => format!("a disk needs one of {}", listed(&SOURCES)),
                _ => format!(
                    "a disk has one of {}, and this has {}",
                    listed(&SOURCES),
                    listed(&given)
                ),
            };
            let span = given
                .get(1)
                .and_then(|key| disk.key_span(key))
                .unwrap_or(span);
            return Err(section.error(span, what));
        };
        let source = if source == "scratch" {
            scratch(&disk)?
        } else {
            // It is there, and a string, or that is the error.
            let Some((path, span)) = absolute(&disk, source)? else {
                continue;
            };
            let file = DiskFile {
                key: source,
                path: path.clone(),
                span,
            };
            files.push(file);
            match source {
                "path" => DiskSource::Path(path),
                "template" => DiskSource::Template(path),
                _ => DiskSource::Folder(path),
            }
        };
        let mut options = DiskOptions::new(source);
        let mut id = DiskId::by_place(place);
        let mut id_span = span;
        if let Some((text, span)) = disk.string("id")? {
            id = DiskId::new(&text).map_err(|why| section.error(span.clone(), why))?;
            id_span = span;
            options.id = Some(text);
        }
        if !ids.insert(id.clone()) {
            let what = format!("another disk of this profile has the id `{id}`");
            return Err(section.error(id_span, what));
        }
        options.read_only = disk.boolean("readonly")?.is_some_and(|(flag, _)| flag);
        if let Some((mount, span)) = disk.string("mount")? {
            if !mount.starts_with('/') || mount.trim_end_matches('/').is_empty() {
                let what = format!("`mount` has to be an absolute path below /, found `{mount}`");
                return Err(section.error(span, what));
            }
            if matches!(options.source, DiskSource::Scratch { .. }) {
                let what = "a scratch disk has no file system that could be mounted".to_owned();
                let mut error = section.error(span, what);
                error.hint = Some("make one in the guest, with mkfs".to_owned());
                return Err(error);
            }
            options.mount = Some(mount);
        }
        if let Some((filesystem, span)) = disk.string("filesystem")? {
            if options.mount.is_none() {
                let what = "`filesystem` needs `mount`, the path at which the disk is mounted";
                return Err(section.error(span, what.to_owned()));
            }
            let filesystem = DiskOptions::filesystem_type(&filesystem);
            let filesystem =
                filesystem.map_err(|why| section.error(span, format!("`filesystem` {why}")))?;
            options.filesystem = Some(filesystem);
        }
        disks.push(options);
    }
    Ok((disks, files))
}

fn scratch(disk: &Section<'_>) -> Result<DiskSource, ConfigError> {
    match disk.size("scratch")? {
        Some((size, _)) if size.is_multiple_of(SECTOR) => Ok(DiskSource::Scratch { size }),
        found => {
            let (size, span) = found.unwrap_or((0, 0..0));
            let what = format!("`scratch` is {size} bytes; it has to be a multiple of {SECTOR}");
            Err(disk.error(span, what))
        }
    }
}

fn listed(keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
    match &keys[..] {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        keys => keys.concat(),
    }
}
