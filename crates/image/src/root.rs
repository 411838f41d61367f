//! A root folder on the host: its kernel, its modules, and itself as a tree.

use crate::error::ImageError;
use crate::tree::Tree;
use crate::walk::{owner, user, walk};
use camino::{Utf8Path, Utf8PathBuf};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Links followed in one path before it is given up.
const MOST_LINKS: usize = 40;

/// A root whose modules are not larger than this carries them along, bytes.
const SMALL_MODULES: u64 = 64 << 20;

/// Where kernels are looked for, in words.
const KERNEL_PLACES: [&str; 5] = [
    "boot/vmlinuz*",
    "vmlinuz",
    "boot/bzImage",
    "lib/modules/*/vmlinuz*",
    "usr/lib/modules/*/vmlinuz*",
];

/// How the files of kernels are called.
const KERNEL: &str = "vmlinuz";

/// What is above the modules' folders.
const MODULES: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// A root folder.
#[derive(Debug, Clone)]
pub(crate) struct Root(Utf8PathBuf);

impl Root {
    /// # Errors
    /// [`ImageError::NotAFolder`].
    pub(crate) fn open(path: &Utf8Path) -> Result<Self, ImageError> {
        if path.is_dir() {
            Ok(Self(path.to_owned()))
        } else {
            Err(ImageError::NotAFolder {
                path: path.to_owned(),
            })
        }
    }

    /// The file that `path` is for a guest whose root this is: links are followed inside of it.
    pub(crate) fn resolve(&self, path: &str) -> Option<Utf8PathBuf> {
        let mut names: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
        let mut at = self.0.clone();
        let mut links = 0;
        while let Some(name) = names.pop() {
            match name.as_str() {
                "" | "." => continue,
                ".." => {
                    if at != self.0 {
                        at.pop();
                    }
                    continue;
                }
                name => at.push(name),
            }
            if at.symlink_metadata().ok()?.is_symlink() {
                links += 1;
                let target = at.read_link_utf8().ok()?;
                if links > MOST_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    at = self.0.clone()
                } else {
                    at.pop().then_some(())?
                }
                names.extend(target.as_str().split('/').rev().map(str::to_owned));
            }
        }
        Some(at)
    }

    /// The newest kernel.
    pub(crate) fn kernel(&self) -> Result<Utf8PathBuf, ImageError> {
        let mut places = self.kernels_in("boot", "vmlinuz-");
        places.extend(["boot/vmlinuz", "vmlinuz", "boot/bzImage"].map(str::to_owned));
        places.extend(self.kernels_in("boot", KERNEL));
        for modules in MODULES {
            let mut releases = self.names(modules, |_| true);
            releases.sort_by(|a, b| compare_versions(b, a));
            for release in releases {
                places.extend(self.kernels_in(&format!("{modules}/{release}"), KERNEL));
            }
        }
        let mut files = places.iter().filter_map(|place| self.resolve(place));
        files
            .find(|file| file.is_file())
            .ok_or_else(|| ImageError::NoKernel {
                root: self.0.clone(),
                looked: KERNEL_PLACES.map(str::to_owned).to_vec(),
            })
    }

    /// The files of a folder whose names begin so, the newest version first.
    fn kernels_in(&self, folder: &str, begin: &str) -> Vec<String> {
        let mut names = self.names(folder, |name| name.starts_with(begin));
        names.sort_by(|a, b| compare_versions(b, a));
        let paths = names.into_iter().map(|name| format!("{folder}/{name}"));
        paths.collect()
    }

    /// The folder of the modules of a kernel; where its release is not known, of the only one.
    pub(crate) fn modules(&self, release: Option<&str>) -> Option<Utf8PathBuf> {
        let folder = |name: &str| {
            let places = MODULES.map(|above| format!("{above}/{name}"));
            places
                .iter()
                .filter_map(|place| self.resolve(place))
                .find(|path| path.is_dir())
        };
        if let Some(release) = release {
            return folder(release);
        }
        let names = MODULES.iter().flat_map(|above| self.names(above, |_| true));
        let names: BTreeSet<String> = names.collect();
        if names.len() == 1 {
            names.iter().find_map(|name| folder(name))
        } else {
            None
        }
    }

    /// The whole tree, without what a guest does not need in RAM: kernels, and modules unless they
    /// are few. What belongs to the user who runs this belongs to root in the guest.
    pub(crate) fn tree(&self) -> Result<Tree, ImageError> {
        let modules: BTreeSet<PathBuf> = MODULES
            .iter()
            .filter_map(|place| self.resolve(place))
            .filter(|folder| size(folder.as_std_path()) > SMALL_MODULES)
            .map(Utf8PathBuf::into_std_path_buf)
            .collect();
        let boot = self.resolve("boot").map(Utf8PathBuf::into_std_path_buf);
        let mut passed_over = modules;
        passed_over.extend(boot);
        let is_wanted = |name: &[u8], is_file| !(is_file && is_kernel_of_modules(name));
        let mut tree = walk(&self.0, &passed_over, &is_wanted)?;
        let (user, group) = user();
        tree.map_owners(|uid, gid| (owner(uid, user), owner(gid, group)));
        Ok(tree)
    }

    fn names(&self, folder: &str, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let entries = self
            .resolve(folder)
            .and_then(|folder| folder.read_dir_utf8().ok());
        let names = entries.into_iter().flatten().flatten();
        names
            .map(|entry| entry.file_name().to_owned())
            .filter(|name| wanted(name))
            .collect()
    }
}

/// Whether the path, relative to the root, belongs to a kernel beside its modules.
fn is_kernel_of_modules(path: &[u8]) -> bool {
    let below = MODULES.iter().find_map(|modules| {
        let rest = path.strip_prefix(modules.as_bytes())?;
        rest.strip_prefix(b"/")
    });
    let mut names = below
        .unwrap_or_default()
        .split(|byte| *byte == b'/')
        .skip(1);
    let is_kernel = |name: &[u8]| name.starts_with(KERNEL.as_bytes());
    names.next().is_some_and(is_kernel) && names.next().is_none()
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// Numbers by value, the rest by its letters: `6.10` is newer than `6.9`.
fn compare_versions(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        let (digits_a, digits_b) = (digits(a), digits(b));
        let order = if digits_a > 0 && digits_b > 0 {
            let trimmed = |bytes: &[u8], count: usize| {
                let zeros = bytes[..count]
                    .iter()
                    .take_while(|byte| **byte == b'0')
                    .count();
                bytes[zeros..count].to_vec()
            };
            let (x, y) = (trimmed(a, digits_a), trimmed(b, digits_b));
            let order = x.len().cmp(&y.len()).then(x.cmp(&y));
            (a, b) = (&a[digits_a..], &b[digits_b..]);
            order
        } else {
            match (a.split_first(), b.split_first()) {
                (None, None) => return Ordering::Equal,
                (None, Some(_)) => return Ordering::Less,
                (Some(_), None) => return Ordering::Greater,
                (Some((x, rest_a)), Some((y, rest_b))) => {
                    (a, b) = (rest_a, rest_b);
                    x.cmp(y)
                }
            }
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

fn digits(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::Node;
    use std::os::unix::fs::symlink;

    fn made(files: &[&str]) -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap().join("root");
        for file in files {
            fs_err::create_dir_all(path.join(file).parent().unwrap()).unwrap();
            fs_err::write(path.join(file), file).unwrap();
        }
        let root = Root::open(&path).unwrap();
        (folder, root)
    }

    fn found(root: &Root) -> String {
        root.kernel()
            .unwrap()
            .strip_prefix(&root.0)
            .unwrap()
            .to_string()
    }

    #[test]
    fn the_newest_kernel_is_taken() {
        let (_folder, root) = made(&[
            "boot/vmlinuz-6.9.12-amd64",
            "boot/vmlinuz-6.10.1-amd64",
            "boot/vmlinuz-0-rescue-77",
            "boot/System.map-7.0",
            "vmlinuz",
        ]);
        assert_eq!(found(&root), "boot/vmlinuz-6.10.1-amd64");
        for (files, newest) in [
            (
                &["usr/lib/modules/6.9/vmlinuz"][..],
                "usr/lib/modules/6.9/vmlinuz",
            ),
            (
                &[
                    "lib/modules/6.9/vmlinuz-6.9",
                    "lib/modules/6.10/vmlinuz-6.10",
                    "lib/modules/6.11/modules.dep",
                ],
                "lib/modules/6.10/vmlinuz-6.10",
            ),
            (
                &["usr/lib/modules/6.9/vmlinuz-6.9", "boot/grub/x"],
                "usr/lib/modules/6.9/vmlinuz-6.9",
            ),
            (&["boot/vmlinuz.old"], "boot/vmlinuz.old"),
            (&["boot/bzImage", "boot/vmlinuz.old"], "boot/bzImage"),
        ] {
            let (_folder, modern) = made(files);
            assert_eq!(found(&modern), newest);
        }
        let (_folder, none) = made(&["boot/grub"]);
        let error = none.kernel().unwrap_err().to_string();
        assert!(error.contains("boot/vmlinuz*"), "{error}");
    }

    #[test]
    fn links_stay_inside() {
        let (_folder, root) = made(&["usr/lib/modules/6.1/modules.order", "boot/real"]);
        symlink("/usr/lib", root.0.join("lib")).unwrap();
        symlink("../../../boot/real", root.0.join("vmlinuz")).unwrap();
        symlink("circle", root.0.join("circle")).unwrap();
        assert_eq!(found(&root), "boot/real");
        let modules = root.0.join("usr/lib/modules/6.1");
        assert_eq!(root.resolve("lib/modules/6.1"), Some(modules.clone()));
        assert_eq!(root.resolve("circle"), None);
        assert_eq!(root.modules(Some("6.1")), Some(modules.clone()));
        assert_eq!(root.modules(None), Some(modules));
        assert_eq!(root.modules(Some("6.2")), None);
    }

    #[test]
    fn the_tree_is_without_kernels_and_knows_links() {
        let (_folder, root) = made(&[
            "boot/vmlinuz-1",
            "sbin/init",
            "etc/x",
            "usr/lib/modules/1/vmlinuz-1",
            "usr/lib/modules/1/a.ko",
        ]);
        symlink("init", root.0.join("sbin/link")).unwrap();
        fs_err::hard_link(root.0.join("etc/x"), root.0.join("etc/y")).unwrap();
        let tree = root.tree().unwrap();
        let paths: Vec<_> = tree
            .iter()
            .map(|(path, _)| String::from_utf8_lossy(path))
            .collect();
        assert_eq!(
            paths,
            [
                ".",
                "boot",
                "etc",
                "etc/x",
                "etc/y",
                "sbin",
                "sbin/init",
                "sbin/link",
                "usr",
                "usr/lib",
                "usr/lib/modules",
                "usr/lib/modules/1",
                "usr/lib/modules/1/a.ko"
            ]
        );
        assert_eq!(tree.get(b"sbin/link"), Some(&Node::symlink("init")));
        let owner = tree.get(b"etc/x").unwrap();
        assert_eq!((owner.uid, owner.gid), (0, 0));
    }

    #[test]
    fn versions_are_compared_by_their_numbers() {
        let mut versions = vec!["6.10", "6.9", "6.9-rc1", "6.09.1", "6.9a", "10"];
        versions.sort_by(|a, b| compare_versions(a, b));
        assert_eq!(versions, ["6.9", "6.9-rc1", "6.09.1", "6.9a", "6.10", "10"]);
    }
}
