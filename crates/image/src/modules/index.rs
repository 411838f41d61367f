//! The index of modules, and its queries.

use super::info::ModuleInfo;
use super::name::{is_pattern, matches, normalized, normalized_alias};
use crate::compress::{Format, bounded};
use crate::error::ImageError;
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom};

/// A module is not longer than this, bytes, packed or not.
const MAX_MODULE_BYTES: u64 = 256 << 20;

/// A file with a module in it: the whole file, or a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FileSpan {
    /// Relative to the index's folder.
    pub(super) file: Utf8PathBuf,
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) packing: Option<Format>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ModuleRecord {
    place: FileSpan,
    depends: Vec<String>,
    before: Vec<String>,
    after: Vec<String>,
}

/// As it is kept in the cache.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    release: String,
    modules: BTreeMap<String, ModuleRecord>,
    builtin: BTreeSet<String>,
    /// Each alias and the module it means; a module may have many, an alias may mean many.
    aliases: BTreeSet<(String, String)>,
}

impl Record {
    pub(super) fn new(release: &str) -> Self {
        Self {
            release: release.to_owned(),
            ..Self::default()
        }
    }

    /// Adds a module. `name` is its file's, for a module that does not say its own.
    pub(super) fn add_module(&mut self, name: &str, info: ModuleInfo, place: FileSpan) {
        let name = info.name.unwrap_or_else(|| normalized(name));
        self.add_aliases(&name, info.aliases);
        let ModuleInfo {
            depends,
            before,
            after,
            ..
        } = info;
        self.modules.insert(
            name,
            ModuleRecord {
                place,
                depends,
                before,
                after,
            },
        );
    }

    /// Adds a module that is part of the kernel itself.
    pub(super) fn add_builtin(&mut self, name: &str, aliases: Vec<String>) {
        let name = normalized(name);
        self.add_aliases(&name, aliases);
        self.builtin.insert(name);
    }

    fn add_aliases(&mut self, name: &str, aliases: Vec<String>) {
        let aliases = aliases
            .iter()
            .map(|alias| (normalized_alias(alias), name.to_owned()));
        self.aliases.extend(aliases);
    }
}

/// The modules of one kernel.
#[derive(Debug)]
pub struct ModuleIndex {
    folder: Utf8PathBuf,
    record: Record,
    /// Of the aliases, those that must be matched one by one.
    patterns: Vec<(String, String)>,
}

/// A module in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModuleRef {
    name: String,
    path: Utf8PathBuf,
    place: FileSpan,
}

impl ModuleIndex {
    /// The index of `record`, whose files are in `folder`.
    pub(crate) fn new(folder: Utf8PathBuf, record: Record) -> Self {
        let patterns = record
            .aliases
            .iter()
            .filter(|(alias, _)| is_pattern(alias))
            .cloned();
        Self {
            folder,
            patterns: patterns.collect(),
            record,
        }
    }

    /// The kernel's release, as `uname -r` gives it.
    pub fn release(&self) -> &str {
        &self.record.release
    }

    /// The names of the modules that can be loaded, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.record.modules.keys().map(String::as_str)
    }

    /// The modules to load for a name (`virtio-net`) or an alias (`pci:v00001AF4d…`, `fs-ext4`),
    /// each after those that it needs. Empty if it is part of the kernel itself; `None` if there is
    /// nothing of the name.
    pub fn resolve(&self, name_or_alias: &str) -> Option<Vec<ModuleRef>> {
        let name = normalized(name_or_alias);
        let mut order = Order::default();
        if self.record.modules.contains_key(&name) {
            self.add(&name, &mut order);
        } else if !self.record.builtin.contains(&name) {
            let meant = self.aliased(&normalized_alias(name_or_alias));
            if meant.is_empty() {
                return None;
            }
            for name in meant {
                self.add(name, &mut order);
            }
        }
        Some(order.modules)
    }

    fn aliased(&self, alias: &str) -> BTreeSet<&str> {
        let first = (alias.to_owned(), String::new());
        let exact = self
            .record
            .aliases
            .range(first..)
            .take_while(|(found, _)| found == alias);
        let matched = self
            .patterns
            .iter()
            .filter(|(pattern, _)| matches(pattern, alias));
        exact
            .chain(matched)
            .map(|(_, name)| name.as_str())
            .collect()
    }

    /// Adds a module behind those it needs. What is part of the kernel, or nowhere, is passed over:
    /// the guest's kernel says which symbol it misses.
    fn add(&self, name: &str, order: &mut Order) {
        let Some(entry) = self.record.modules.get(name) else {
            return;
        };
        if !order.seen.insert(name.to_owned()) {
            return;
        }
        for needed in entry.before.iter().chain(&entry.depends) {
            self.add(needed, order);
        }
        order.modules.push(ModuleRef {
            name: name.to_owned(),
            path: self.folder.join(&entry.place.file),
            place: entry.place.clone(),
        });
        for later in &entry.after {
            self.add(later, order);
        }
    }
}

#[derive(Default)]
struct Order {
    seen: BTreeSet<String>,
    modules: Vec<ModuleRef>,
}

impl ModuleRef {
    /// Its name, as in `/proc/modules`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that it is in.
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// Its uncompressed object. Blocks for the time of reading it.
    ///
    /// # Errors
    /// [`ImageError::Read`], and [`ImageError::BadModule`] for a packed one that is damaged.
    pub fn read(&self) -> Result<Vec<u8>, ImageError> {
        let failed = |source| ImageError::Read {
            path: self.path.clone(),
            source,
        };
        let damaged = |why: String| ImageError::BadModule {
            path: self.path.clone(),
            why,
        };
        let mut file = std::fs::File::open(&self.path).map_err(failed)?;
        file.seek(SeekFrom::Start(self.place.offset))
            .map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(self.place.length.min(MAX_MODULE_BYTES))
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 != self.place.length {
            return Err(damaged("it is shorter than it was".to_owned()));
        }
        unpacked(bytes, self.place.packing).map_err(|error| damaged(error.to_string()))
    }
}

/// A module's object from its file's content.
pub(super) fn unpacked(bytes: Vec<u8>, packing: Option<Format>) -> std::io::Result<Vec<u8>> {
    match packing {
        None => Ok(bytes),
        Some(format) => bounded(format.reader(&bytes[..])?, MAX_MODULE_BYTES as usize),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(name: &str) -> FileSpan {
        FileSpan {
            file: name.into(),
            offset: 0,
            length: 0,
            packing: None,
        }
    }

    fn index(modules: &[(&str, &[(&str, &str)])]) -> ModuleIndex {
        let mut record = Record::new("6.1");
        for (name, lines) in modules {
            let mut info = ModuleInfo::default();
            lines.iter().for_each(|(key, value)| info.add(key, value));
            record.add_module(name, info, place(name));
        }
        record.add_builtin("rng-core", vec!["char-major-10-183".to_owned()]);
        ModuleIndex::new("/modules".into(), record)
    }

    fn resolved(index: &ModuleIndex, name: &str) -> Option<Vec<String>> {
        let found = index.resolve(name)?;
        Some(
            found
                .iter()
                .map(|module| module.name().to_owned())
                .collect(),
        )
    }

    fn list(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn dependencies_come_first() {
        let index = index(&[
            (
                "virtio-net",
                &[
                    ("depends", "net_failover,virtio_ring"),
                    ("alias", "virtio:d1v*"),
                ],
            ),
            ("net_failover", &[("depends", "failover")]),
            ("failover", &[]),
            ("virtio_ring", &[("depends", "virtio,rng-core")]),
            ("virtio", &[("softdep", "pre: absent failover post: late")]),
            ("late", &[("depends", "virtio")]),
        ]);
        let expected = list(&[
            "failover",
            "net_failover",
            "virtio",
            "late",
            "virtio_ring",
            "virtio_net",
        ]);
        assert_eq!(resolved(&index, "virtio-net"), expected);
        assert_eq!(resolved(&index, "virtio_net"), expected);
        assert_eq!(resolved(&index, "virtio:d1v1"), expected);
        assert_eq!(
            resolved(&index, "virtio"),
            list(&["failover", "virtio", "late"])
        );
        assert_eq!(
            index.resolve("virtio-net").unwrap()[0].path(),
            "/modules/failover"
        );
    }

    #[test]
    fn builtin_modules_are_known_and_others_are_refused() {
        let index = index(&[
            ("a", &[("alias", "fs-one"), ("alias", "dup")]),
            ("b", &[("alias", "dup")]),
        ]);
        assert_eq!(resolved(&index, "rng_core"), list(&[]));
        assert_eq!(resolved(&index, "char-major-10-183"), list(&[]));
        assert_eq!(resolved(&index, "fs-one"), list(&["a"]));
        assert_eq!(resolved(&index, "dup"), list(&["a", "b"]));
        for unknown in [
            "",
            "fs-on",
            "../../etc/passwd",
            "/etc/passwd",
            "a/../a",
            "*",
        ] {
            assert_eq!(resolved(&index, unknown), None, "{unknown}");
        }
    }

    #[test]
    fn a_circle_ends() {
        let index = index(&[("a", &[("depends", "b")]), ("b", &[("depends", "a")])]);
        assert_eq!(resolved(&index, "a"), list(&["b", "a"]));
    }

    #[test]
    fn a_part_of_a_file_is_read_and_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let packed = zstd::encode_all(&b"object"[..], 1).unwrap();
        fs_err::write(folder.join("pack"), [b"xx", &packed[..]].concat()).unwrap();
        let place = FileSpan {
            file: "pack".into(),
            offset: 2,
            length: packed.len() as u64,
            packing: Some(Format::Zstd),
        };
        let module = ModuleRef {
            name: "m".to_owned(),
            path: folder.join("pack"),
            place,
        };
        assert_eq!(module.read().unwrap(), b"object");
        let mut beyond = module.clone();
        beyond.place.length += 1;
        assert!(beyond.read().unwrap_err().to_string().contains("shorter"));
        let mut damaged = module;
        damaged.place.offset = 0;
        assert!(matches!(damaged.read(), Err(ImageError::BadModule { .. })));
    }
}
