//! Making the index.

use super::index::{FileSpan, Record, unpacked};
use super::info::{ModuleInfo, lines};
use crate::compress::Format;
use crate::error::ImageError;
use crate::node::{Content, Kind};
use crate::tree::Tree;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// Folders in folders up to here.
const DEEPEST: usize = 32;

/// A module's file in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModuleScan {
    /// Relative to the folder.
    path: Utf8PathBuf,
    length: u64,
    modified: (i64, i64),
}

impl ModuleScan {
    fn of(path: Utf8PathBuf, metadata: &std::fs::Metadata) -> Self {
        Self {
            path,
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Its path, relative to the folder.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What a cache key needs to know of it.
    pub(crate) fn facts(&self) -> String {
        let Self {
            path,
            length,
            modified: (seconds, nanoseconds),
        } = self;
        format!("{path}\0{length}\0{seconds}.{nanoseconds}\0")
    }
}

/// The modules and the lists of modules in `folder`, in the order of their paths. The folder is a
/// `lib/modules/RELEASE`, or the folder in which a kernel was built.
pub(crate) fn listing(folder: &Utf8Path) -> Result<Vec<ModuleScan>, ImageError> {
    let mut found = Vec::new();
    let listed = if is_build_tree(folder, None) {
        built(folder, &mut found)
    } else {
        walk(folder, Utf8Path::new(""), DEEPEST, &mut found)
    };
    listed.map_err(|source| ImageError::Read {
        path: folder.to_owned(),
        source,
    })?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Whether a kernel was built in `folder`, with modules and, if it is given, of that release.
pub(super) fn is_build_tree(folder: &Utf8Path, release: Option<&str>) -> bool {
    // `make` leaves a list of modules in every folder below as well.
    folder.join(ORDER).is_file()
        && std::fs::read_to_string(folder.join(BUILT_RELEASE))
            .is_ok_and(|built| release.is_none_or(|release| built.trim() == release))
}

/// What the last build in `folder` has made. Objects of earlier configurations may lie beside them, so the
/// build's own list decides.
fn built(folder: &Utf8Path, found: &mut Vec<ModuleScan>) -> std::io::Result<()> {
    let order = std::fs::read_to_string(folder.join(ORDER))?;
    let modules = order.lines().filter_map(|line| {
        // Linux 6.2 and later list objects; before 5.3, paths began as in an installation.
        let line = line.trim();
        let line = line
            .strip_suffix(".o")
            .or_else(|| line.strip_suffix(".ko"))?;
        let path = Utf8PathBuf::from(format!("{line}.ko"));
        let shorter = path.strip_prefix("kernel").ok().map(Utf8Path::to_owned);
        let is_there = |path: &Utf8PathBuf| folder.join(path).is_file();
        [Some(path), shorter].into_iter().flatten().find(is_there)
    });
    let lists = [BUILTIN, BUILTIN_INFO].map(Utf8PathBuf::from);
    let lists = lists.into_iter().filter(|path| folder.join(path).is_file());
    for path in modules.chain(lists) {
        let metadata = folder.join(&path).metadata()?;
        found.push(ModuleScan::of(path, &metadata));
    }
    Ok(())
}

fn walk(
    root: &Utf8Path,
    below: &Utf8Path,
    depth: usize,
    found: &mut Vec<ModuleScan>,
) -> std::io::Result<()> {
    for entry in root.join(below).read_dir_utf8()? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        // `build` and `source` are links to somewhere else entirely.
        let metadata = entry.path().symlink_metadata()?;
        if metadata.is_dir() && depth > 0 {
            walk(root, &path, depth - 1, found)?;
        } else if metadata.is_file() && (module_name(&path).is_some() || is_list(&path)) {
            found.push(ModuleScan::of(path, &metadata));
        }
    }
    Ok(())
}

/// Makes the index of modules that stay where they are.
pub(crate) fn scan_folder(
    folder: &Utf8Path,
    release: &str,
    found: &[ModuleScan],
) -> Result<Record, ImageError> {
    let mut record = Record::new(release);
    let mut lists = Lists::default();
    for ModuleScan { path, length, .. } in found {
        let full = folder.join(path);
        let read = || {
            std::fs::read(&full).map_err(|source| ImageError::Read {
                path: full.clone(),
                source,
            })
        };
        match module_name(path) {
            None => lists.add(path, read()?),
            Some((name, packing)) => {
                let place = FileSpan {
                    file: path.clone(),
                    offset: 0,
                    length: *length,
                    packing,
                };
                let info = info(&full, unpacked(read()?, packing))?;
                record.add_module(name, info, place);
            }
        }
    }
    lists.add_to(&mut record);
    Ok(record)
}

/// Makes the index of modules in `tree`, whose objects are written to `pack`, one after the other,
/// uncompressed. `file` is the name that the index gives to that.
pub(crate) fn scan_tree(
    tree: Tree,
    release: &str,
    file: &str,
    pack: &mut impl Write,
) -> Result<Record, ImageError> {
    let mut record = Record::new(release);
    let mut lists = Lists::default();
    let mut offset = 0;
    for (path, node) in tree.into_nodes() {
        let Kind::File(Content::Bytes(content)) = node.kind else {
            continue;
        };
        let content = Arc::unwrap_or_clone(content);
        let Ok(path) = String::from_utf8(path).map(Utf8PathBuf::from) else {
            continue;
        };
        let Some((name, packing)) = module_name(&path) else {
            if is_list(&path) {
                lists.add(&path, content);
            }
            continue;
        };
        let object = unpacked(content, packing).map_err(|error| bad(&path, error))?;
        let failed = |source| ImageError::Read {
            path: file.into(),
            source,
        };
        pack.write_all(&object).map_err(failed)?;
        let length = object.len() as u64;
        let place = FileSpan {
            file: file.into(),
            offset,
            length,
            packing: None,
        };
        offset += length;
        record.add_module(name, info(&path, Ok(object))?, place);
    }
    lists.add_to(&mut record);
    Ok(record)
}

fn info(path: &Utf8Path, object: std::io::Result<Vec<u8>>) -> Result<ModuleInfo, ImageError> {
    let object = object.map_err(|error| bad(path, error))?;
    ModuleInfo::of_object(&object).ok_or_else(|| bad(path, "it is not a kernel module"))
}

fn bad(path: &Utf8Path, why: impl ToString) -> ImageError {
    ImageError::BadModule {
        path: path.to_owned(),
        why: why.to_string(),
    }
}

/// The name of the module in a file of that name, and how it is packed.
fn module_name(path: &Utf8Path) -> Option<(&str, Option<Format>)> {
    let file = path.file_name()?;
    if let Some(name) = file.strip_suffix(".ko") {
        return Some((name, None));
    }
    let packing = Format::of_name(file)?;
    Some((file.rsplit_once('.')?.0.strip_suffix(".ko")?, Some(packing)))
}

/// In a folder in which a kernel was built: its modules, and its release.
const ORDER: &str = "modules.order";
const BUILT_RELEASE: &str = "include/config/kernel.release";

/// The lists of what is part of the kernel itself.
const BUILTIN: &str = "modules.builtin";
const BUILTIN_INFO: &str = "modules.builtin.modinfo";

fn is_list(path: &Utf8Path) -> bool {
    matches!(path.file_name(), Some(BUILTIN | BUILTIN_INFO))
}

#[derive(Default)]
struct Lists {
    aliases: BTreeMap<String, Vec<String>>,
}

impl Lists {
    fn add(&mut self, path: &Utf8Path, content: Vec<u8>) {
        if path.file_name() == Some(BUILTIN) {
            // Paths, one a line.
            for line in String::from_utf8_lossy(&content).lines() {
                if let Some((name, _)) = module_name(Utf8Path::new(line)) {
                    self.aliases.entry(name.to_owned()).or_default();
                }
            }
        } else {
            // `name.key=value`, each ended by a NUL.
            for line in lines(&content) {
                let Some((module, rest)) = line.split_once('.') else {
                    continue;
                };
                if let Some(alias) = rest.strip_prefix("alias=") {
                    self.aliases
                        .entry(module.to_owned())
                        .or_default()
                        .push(alias.to_owned());
                }
            }
        }
    }

    fn add_to(self, record: &mut Record) {
        for (name, aliases) in self.aliases {
            record.add_builtin(&name, aliases);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::index::ModuleIndex;
    use super::*;
    use crate::compress::tests::gzip_of;
    use crate::elf::tests::module;
    use crate::node::Node;

    fn files() -> Vec<(&'static str, Vec<u8>)> {
        let net = module(&["depends=virtio", "alias=virtio:d1v*"]);
        vec![
            ("kernel/net/virtio-net.ko.gz", gzip_of(&net)),
            (
                "kernel/drivers/virtio.ko",
                module(&["name=virtio", "depends="]),
            ),
            (
                "kernel/drivers/extra.ko.zst",
                zstd::encode_all(&module(&[])[..], 1).unwrap(),
            ),
            (
                "modules.builtin",
                b"kernel/drivers/char/hw_random/rng-core.ko\n".to_vec(),
            ),
            (
                "modules.builtin.modinfo",
                b"ext4.alias=fs-ext4\0ext4.license=GPL\0".to_vec(),
            ),
            ("modules.order", b"kernel/net/virtio-net.ko\n".to_vec()),
            ("source.c", Vec::new()),
        ]
    }

    fn check(index: &ModuleIndex) {
        let names: Vec<_> = index.names().collect();
        assert_eq!(names, ["extra", "virtio", "virtio_net"]);
        let found = index.resolve("virtio-net").unwrap();
        assert_eq!(
            found[0].read().unwrap(),
            module(&["name=virtio", "depends="])
        );
        assert_eq!(
            found[1].read().unwrap(),
            module(&["depends=virtio", "alias=virtio:d1v*"])
        );
        assert_eq!(found.len(), 2);
        assert_eq!(index.resolve("fs-ext4"), Some(Vec::new()));
        assert_eq!(index.resolve("rng_core"), Some(Vec::new()));
    }

    #[test]
    fn a_folder_is_indexed_in_place() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temporary.path()).unwrap();
        for (path, content) in files() {
            fs_err::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs_err::write(folder.join(path), content).unwrap();
        }
        std::os::unix::fs::symlink("/", folder.join("build")).unwrap();
        let found = listing(folder).unwrap();
        assert_eq!(found.len(), 5);
        let record = scan_folder(folder, "6.1", &found).unwrap();
        check(&ModuleIndex::new(folder.to_owned(), record));

        fs_err::write(folder.join("kernel/drivers/bad.ko"), "bad").unwrap();
        let error = scan_folder(folder, "6.1", &listing(folder).unwrap()).unwrap_err();
        assert!(
            error.to_string().contains("kernel/drivers/bad.ko"),
            "{error}"
        );
    }

    #[test]
    fn a_build_is_indexed_by_its_own_list() {
        let temporary = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temporary.path()).unwrap();
        let put = |path: &str, content: &[u8]| {
            fs_err::create_dir_all(folder.join(path).parent().unwrap()).unwrap();
            fs_err::write(folder.join(path), content).unwrap();
        };
        put(BUILT_RELEASE, b"6.1\n");
        for name in ["fs/a.ko", "kernel/b.ko", "lib/old.ko", "net/c.ko"] {
            put(name, &module(&[]));
        }
        put("modules.builtin", b"kernel/fs/ext4/ext4.ko\n");
        let names = || {
            let found = listing(folder).unwrap();
            let record = scan_folder(folder, "6.1", &found).unwrap();
            let index = ModuleIndex::new(folder.to_owned(), record);
            assert_eq!(
                index.resolve("ext4"),
                Some(Vec::new()),
                "part of the kernel"
            );
            let names: Vec<_> = index.names().map(str::to_owned).collect();
            names.join(" ")
        };
        // Linux 6.2 and later, 5.3 and later, and before; `gone` is configured, but not built yet.
        put(ORDER, b"fs/a.o\nkernel/b.o\nfs/gone.o\n");
        assert_eq!(names(), "a b");
        put(ORDER, b"fs/a.ko\nkernel/b.ko\n");
        assert_eq!(names(), "a b");
        put(
            ORDER,
            b"kernel/fs/a.ko\nkernel/kernel/b.ko\nkernel/net/c.ko\n",
        );
        assert_eq!(names(), "a b c");
    }

    #[test]
    fn a_tree_is_packed() {
        let mut tree = Tree::default();
        for (path, content) in files() {
            tree.put(path.as_bytes(), Node::file(0o644, content))
                .unwrap();
        }
        let temporary = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(temporary.path()).unwrap();
        let mut pack = fs_err::File::create(folder.join("pack")).unwrap();
        let record = scan_tree(tree, "6.1", "pack", &mut pack).unwrap();
        check(&ModuleIndex::new(folder.to_owned(), record));
    }
}
