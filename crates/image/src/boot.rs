//! The archives of one boot: agent, plan and modules before the image, the test's files behind it.
//!
//! The kernel unpacks archives in their order, and a later file replaces an earlier one. So the
//! agent's come first and the test's last.

use crate::agent::AGENT;
use crate::error::ImageError;
use crate::image::{GuestImage, Layout};
use crate::modules::{ModuleIndex, ModuleRef};
use crate::node::{Kind, Node};
use crate::root_image::{DISK_MODULES, ROOT_DISK};
use crate::tree::Tree;
use provium_protocol::boot::{
    AGENT_DIR, AGENT_PATH, BootPlan, PLAN_PATH, ROOT_FILES_DIR, RootDisk,
};
use provium_protocol::codec;
use std::collections::BTreeSet;

/// What the agent needs to be reached and to do its work, where the kernel has it as modules: its
/// port, randomness, the panic device, the power button.
const NEEDED: [&str; 7] = [
    "virtio_pci",
    "virtio_console",
    "virtio_rng",
    "pvpanic_mmio",
    "button",
    "evdev",
    "vmgenid",
];

/// What ext4 asks the kernel for by itself, when no program can load it.
const CHECKSUMS: [&str; 2] = ["crc32c_generic", "crc32c_intel"];

/// The file system of a root disk that does not say what it is.
const DEFAULT_FILESYSTEM: &str = "ext4";

/// `PATH_MAX` and `NAME_MAX` of the kernel, which passes over entries with longer ones.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255;

/// What one boot adds to an image.
#[derive(Debug, Clone)]
pub struct BootRequest<'a> {
    /// Host name, set where the agent is the init.
    pub hostname: String,
    /// Modules (names or aliases) to load before anything else.
    pub modules: &'a [String],
    /// Files of the test's, there before the image's init runs.
    pub files: &'a [BootFile],
    /// Whether the agent comes along.
    pub inject_agent: bool,
}

/// A file that is there before the guest's init runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootFile {
    /// Absolute path in the guest.
    pub path: String,
    /// Content.
    pub content: Vec<u8>,
    /// Permission bits.
    pub perm: u32,
}

/// Uncompressed cpio archives; empty where there is nothing to add.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BootArchives {
    /// Goes before the image's own archives.
    pub before: Vec<u8>,
    /// Goes behind them.
    pub after: Vec<u8>,
}

impl GuestImage {
    /// The archives for one boot. Reads modules from the disk.
    ///
    /// # Errors
    /// For a module that is not there, or a path that cannot be a file's.
    pub fn boot_archive(&self, request: &BootRequest<'_>) -> Result<BootArchives, ImageError> {
        let before = if request.inject_agent {
            self.agent_archive(request)?
        } else {
            Vec::new()
        };
        let after = if request.files.is_empty() {
            Vec::new()
        } else {
            self.files(request)?
        };
        Ok(BootArchives { before, after })
    }

    fn agent_archive(&self, request: &BootRequest<'_>) -> Result<Vec<u8>, ImageError> {
        let mut tree = Tree::default();
        tree.put(AGENT_DIR.as_bytes(), Node::directory(0o755))?;
        tree.put(AGENT_PATH.as_bytes(), Node::file(0o755, AGENT))?;
        let mut paths = Vec::new();
        for (number, module) in self.boot_modules(request.modules)?.iter().enumerate() {
            let path = format!("{AGENT_DIR}/modules/{number:03}-{}.ko", module.name());
            tree.put(path.as_bytes(), Node::file(0o600, module.read()?))?;
            paths.push(path);
        }
        let plan = BootPlan {
            modules: paths,
            init: self.init.clone(),
            hostname: request.hostname.clone(),
            modules_on_demand: self.modules.is_some(),
            root_disk: self.root_disk.as_ref().map(|disk| RootDisk {
                serial: ROOT_DISK.to_owned(),
                filesystem: disk.filesystem.unwrap_or(DEFAULT_FILESYSTEM).to_owned(),
            }),
        };
        tree.put(
            PLAN_PATH.as_bytes(),
            Node::file(0o600, codec::encode(&plan)),
        )?;
        archive(&tree)
    }

    /// What is needed, as far as it is there, and then what was asked for, which must be.
    fn boot_modules(&self, asked: &[String]) -> Result<Vec<ModuleRef>, ImageError> {
        let Some(index) = &self.modules else {
            return match asked.first() {
                None => Ok(Vec::new()),
                Some(name) => Err(ImageError::NoModules { name: name.clone() }),
            };
        };
        let mut found = Vec::new();
        for name in NEEDED {
            found.extend(index.resolve(name).unwrap_or_default());
        }
        if self.root_disk.is_some() {
            for name in DISK_MODULES.iter().chain(&CHECKSUMS) {
                found.extend(index.resolve(name).unwrap_or_default());
            }
        }
        for name in asked {
            found.extend(resolve(index, name)?);
        }
        let mut seen = BTreeSet::new();
        found.retain(|module| seen.insert(module.name().to_owned()));
        Ok(found)
    }

    /// Folders that the image has are left out: an entry for one would change its mode, or put a
    /// folder where a link to one is.
    fn files(&self, request: &BootRequest<'_>) -> Result<Vec<u8>, ImageError> {
        let Layout {
            tree: mut layout,
            is_whole,
        } = self.layout()?;
        // What is on a root disk is not known.
        let is_whole = is_whole && self.root_disk.is_none();
        let mut added = Tree::default();
        for file in request.files {
            let refused = |why| ImageError::BadPath {
                path: file.path.clone(),
                why,
            };
            let located = layout.locate(file.path.as_bytes())?;
            let (missing, path) = located.ok_or_else(|| refused("it is the root directory"))?;
            if let Some(why) = impossible(&file.path, &path, &layout, request) {
                return Err(refused(why));
            }
            for folder in missing {
                layout.put(&folder, Node::directory(0o755))?;
                if self.root_disk.is_none() {
                    added.add(folder, Node::directory(0o755));
                }
            }
            let node = Node::file(file.perm & 0o7777, file.content.clone());
            layout.put(&path, Node::file(0, []))?;
            if self.root_disk.is_some() {
                // The agent copies it from there.
                added.put(&[ROOT_FILES_DIR.as_bytes(), b"/", &path].concat(), node)?;
            } else {
                added.add(path, node);
            }
        }
        let has_init = |init: &String| layout.get(init.as_bytes()).is_some();
        let agent_is_init = is_whole && request.inject_agent && !self.init.iter().any(has_init);
        if agent_is_init
            && let Some(file) = request
                .files
                .iter()
                .find(|file| is_below(&file.path, "dev"))
        {
            return Err(ImageError::BadPath {
                path: file.path.clone(),
                why: "the guest mounts /dev over it",
            });
        }
        archive(&added)
    }
}

/// Why the kernel, or the agent, would not leave a file there. `path` is `given` with its links
/// followed.
fn impossible(
    given: &str,
    path: &[u8],
    layout: &Tree,
    request: &BootRequest<'_>,
) -> Option<&'static str> {
    let text = String::from_utf8_lossy(path);
    if given.ends_with('/') {
        return Some("it ends in a slash, as the path of a directory does");
    }
    if text.len() >= LONGEST_PATH || text.split('/').any(|name| name.len() > LONGEST_NAME) {
        return Some("it is too long for the kernel");
    }
    if request.inject_agent && is_below(&text, AGENT_DIR.trim_start_matches('/')) {
        return Some("the agent's own files are there");
    }
    if is_below(&text, "proc") || is_below(&text, "sys") {
        return Some("the guest mounts a file system of the kernel over it");
    }
    match layout.get(path).map(|node| &node.kind) {
        Some(Kind::Directory) => Some("it is a directory in the guest"),
        _ => None,
    }
}

/// Whether a path is a folder of the root, or below it.
fn is_below(path: &str, folder: &str) -> bool {
    let names = path.split('/').filter(|name| !matches!(*name, "" | "."));
    names.take(1).eq([folder])
}

fn resolve(index: &ModuleIndex, name: &str) -> Result<Vec<ModuleRef>, ImageError> {
    index
        .resolve(name)
        .ok_or_else(|| ImageError::UnknownModule {
            name: name.to_owned(),
            release: index.release().to_owned(),
        })
}

fn archive(tree: &Tree) -> Result<Vec<u8>, ImageError> {
    let written = tree.write_to(Vec::new());
    written.map_err(|error| ImageError::Bug {
        what: format!("writing an archive: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::{Header, read_entries};
    use crate::elf::tests::module;
    use crate::modules::index_of;
    use camino::{Utf8Path, Utf8PathBuf};
    use std::sync::Arc;

    fn image(initrd: Option<Utf8PathBuf>, modules: Option<ModuleIndex>) -> GuestImage {
        GuestImage {
            kernel: "/vmlinux".into(),
            given_kernel: "/vmlinux".into(),
            initrds: initrd.into_iter().collect(),
            root_disk: None,
            modules: modules.map(Arc::new),
            init: vec!["/init".to_owned()],
            id: "id".to_owned(),
            held: Vec::new(),
            layout: Arc::default(),
        }
    }

    fn entries(archive: &[u8]) -> Vec<(String, u32)> {
        let mut found = Vec::new();
        read_entries(
            &mut std::io::Cursor::new(archive),
            |Header { name, mode, .. }| {
                found.push((String::from_utf8(name).unwrap(), mode));
            },
        )
        .unwrap();
        found
    }

    fn request<'a>(modules: &'a [String], files: &'a [BootFile]) -> BootRequest<'a> {
        BootRequest {
            hostname: "web".to_owned(),
            modules,
            files,
            inject_agent: true,
        }
    }

    fn file(path: &str) -> BootFile {
        BootFile {
            path: path.to_owned(),
            content: b"x".to_vec(),
            perm: 0o600,
        }
    }

    #[test]
    fn a_file_that_could_not_be_seen_in_the_guest_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let mut tree = Tree::default();
        tree.put(b"etc/conf", Node::file(0o644, *b"x")).unwrap();
        tree.put(b"link", Node::symlink("proc")).unwrap();
        let initrd = folder.join("initrd");
        fs_err::write(&initrd, tree.write_to(Vec::new()).unwrap()).unwrap();
        let image = image(Some(initrd), None);
        let why = |path: &str| match image.boot_archive(&request(&[], &[file(path)])) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        let long = format!("/tmp/{}", "x".repeat(256));
        let deep = format!("/tmp{}", "/x".repeat(2100));
        for (path, expected) in [
            ("/etc", "it is a directory"),
            ("/proc/x", "mounts a file system"),
            ("/link/x", "mounts a file system"),
            ("/dev/x", "mounts /dev over it"),
            (&long, "too long"),
            (&deep, "too long"),
            ("/", "root directory"),
        ] {
            assert!(why(path).contains(expected), "{path}: {}", why(path));
        }
        for path in ["/etc/conf", "/etc/new", "/processes", "/new/proc/x"] {
            assert_eq!(why(path), "", "{path}");
        }
    }

    #[test]
    fn agent_plan_and_modules_come_first() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let index = index_of(
            folder,
            &[
                ("virtio_console", module(&["depends=virtio"])),
                ("virtio", module(&[])),
                ("extra", module(&["depends=virtio"])),
                ("other", module(&[])),
            ],
        );
        let image = image(None, Some(index));
        let archives = image
            .boot_archive(&request(&["extra".to_owned()], &[]))
            .unwrap();
        assert!(archives.after.is_empty());
        assert_eq!(
            entries(&archives.before),
            [
                (".provium".to_owned(), 0o040_755),
                (".provium/agent".to_owned(), 0o100_755),
                (".provium/modules".to_owned(), 0o040_755),
                (".provium/modules/000-virtio.ko".to_owned(), 0o100_600),
                (
                    ".provium/modules/001-virtio_console.ko".to_owned(),
                    0o100_600
                ),
                (".provium/modules/002-extra.ko".to_owned(), 0o100_600),
                (".provium/plan".to_owned(), 0o100_600),
            ]
        );
        let plan = codec::encode(&BootPlan {
            modules: ["000-virtio", "001-virtio_console", "002-extra"]
                .map(|name| format!("/.provium/modules/{name}.ko"))
                .to_vec(),
            init: vec!["/init".to_owned()],
            hostname: "web".to_owned(),
            modules_on_demand: true,
            root_disk: None,
        });
        assert!(
            archives
                .before
                .windows(plan.len())
                .any(|bytes| bytes == plan)
        );

        let error = image
            .boot_archive(&request(&["none".to_owned()], &[]))
            .unwrap_err();
        assert_eq!(error.to_string(), "kernel 6.1 has no module `none`");
    }

    #[test]
    fn without_modules_or_agent() {
        let image = image(None, None);
        let error = image
            .boot_archive(&request(&["ext4".to_owned()], &[]))
            .unwrap_err();
        assert!(error.to_string().contains("`ext4`"), "{error}");
        let mut request = request(&[], &[]);
        request.inject_agent = false;
        let archives = image.boot_archive(&request).unwrap();
        assert_eq!(
            archives,
            BootArchives {
                before: Vec::new(),
                after: Vec::new()
            }
        );
    }

    #[test]
    fn files_keep_the_folders_and_links_of_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let initrd = Utf8Path::from_path(folder.path()).unwrap().join("initrd");
        let mut tree = Tree::default();
        tree.put(b"usr/bin", Node::directory(0o755)).unwrap();
        tree.put(b"bin", Node::symlink("usr/bin")).unwrap();
        tree.put(b"tmp", Node::directory(0o1777)).unwrap();
        tree.put(b"etc/passwd", Node::file(0o644, [])).unwrap();
        fs_err::write(&initrd, tree.write_to(Vec::new()).unwrap()).unwrap();
        let image = image(Some(initrd), None);

        let files = ["/bin/tool", "/tmp/x", "/etc/new/a", "/etc/new/b"].map(file);
        let archives = image.boot_archive(&request(&[], &files)).unwrap();
        assert_eq!(
            entries(&archives.after),
            [
                ("etc/new".to_owned(), 0o040_755),
                ("etc/new/a".to_owned(), 0o100_600),
                ("etc/new/b".to_owned(), 0o100_600),
                ("tmp/x".to_owned(), 0o100_600),
                ("usr/bin/tool".to_owned(), 0o100_600),
            ]
        );
        let long_name = format!("/tmp/{}", "x".repeat(256));
        let long_path = format!("/{}", "x/".repeat(2100));
        for bad in [
            "/",
            "/etc/passwd/x",
            "/../x",
            "/etc",
            "/usr/bin",
            "/tmp/x/",
            "/proc/x",
            "/sys/kernel/x",
            "/dev/x",
            "/./dev/x",
            "/.provium/agent",
            "/.provium",
            &long_name,
            &long_path,
        ] {
            let error = image.boot_archive(&request(&[], &[file(bad)])).unwrap_err();
            assert!(error.to_string().contains(bad), "{error}");
        }
        let both = ["/new/a", "/new"].map(file);
        assert!(image.boot_archive(&request(&[], &both)).is_err());
    }

    #[test]
    fn what_an_own_init_does_not_hide_is_possible() {
        let image = image(None, None);
        let files = ["/init", "/dev/x"].map(file);
        assert!(image.boot_archive(&request(&[], &files)).is_ok());
        let files = ["/.provium/agent"].map(file);
        let own_agent = BootRequest {
            inject_agent: false,
            ..request(&[], &files)
        };
        assert!(image.boot_archive(&own_agent).is_ok());
    }
}
