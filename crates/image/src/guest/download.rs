//! The default guest from the distribution's packages.

use super::deb;
use super::parts::{GuestParts, KERNEL, PACK};
use super::skeleton::Release;
use super::source::PackageSource;
use crate::blocking::blocking;
use crate::error::ImageError;
use crate::images::write_index;
use crate::modules;
use crate::node::{Content, Kind};
use crate::progress::Progress;
use crate::tree::Tree;
use camino::{Utf8Path, Utf8PathBuf};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Packages that mean "the newest kernel", best first: Debian's, then Ubuntu's.
const KERNELS: [&str; 5] = [
    "linux-image-cloud-amd64",
    "linux-image-virtual",
    "linux-image-kvm",
    "linux-image-amd64",
    "linux-image-generic",
];

/// What a kernel consists of: packages named so, with a version behind.
const KERNEL_PARTS: [&str; 2] = ["linux-image-", "linux-modules-"];

const BUSYBOX: &str = "busybox-static";

/// Fills `entry` with kernel and modules; gives the rest.
pub(super) async fn download(
    entry: &Utf8Path,
    progress: &Arc<dyn Progress>,
) -> Result<GuestParts, ImageError> {
    let folder = entry.join("packages");
    let mut source = PackageSource::set_up(folder.clone(), progress)?;
    progress.step("fetching the lists of packages");
    source.update().await?;
    let mut packages = kernel_packages(&source).await?;
    packages.push(BUSYBOX.to_owned());
    progress.step(&format!("downloading {}", packages.join(", ")));
    let files = source.download(&packages).await?;
    progress.step("unpacking kernel, modules and busybox");
    let entry = entry.to_owned();
    blocking(move || {
        let mut tree = Tree::default();
        for file in &files {
            unpack(&mut tree, file)?;
        }
        fs_err::remove_dir_all(&folder).map_err(provium_store::StoreError::from)?;
        let names = files.iter().filter_map(|file| file.file_name());
        take_apart(tree, &entry, names.map(str::to_owned).collect())
    })
    .await
}

/// Adds a package's file to `tree`.
pub(super) fn unpack(tree: &mut Tree, file: &Utf8Path) -> Result<(), ImageError> {
    let bytes = std::fs::read(file).map_err(|source| ImageError::Read {
        path: file.to_owned(),
        source,
    })?;
    deb::unpack_into(tree, &bytes, file.file_name().unwrap_or(file.as_str()))
}

/// The packages that the newest kernel consists of.
async fn kernel_packages(source: &PackageSource) -> Result<Vec<String>, ImageError> {
    for start in KERNELS {
        let Some(needed) = source.dependencies(start).await? else {
            continue;
        };
        let mut found = BTreeSet::new();
        let mut open = needed;
        while let Some(name) = open.pop() {
            if is_kernel_part(&name) && found.insert(name.clone()) {
                open.extend(source.dependencies(&name).await?.unwrap_or_default());
            }
        }
        if !found.is_empty() {
            return Ok(found.into_iter().collect());
        }
    }
    Err(ImageError::NoKernelPackage {
        tried: KERNELS.join(", "),
        why: source.explain("the lists of packages have none of them"),
    })
}

fn is_kernel_part(name: &str) -> bool {
    KERNEL_PARTS.iter().any(|prefix| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    })
}

fn take_apart(
    mut tree: Tree,
    entry: &Utf8Path,
    packages: Vec<String>,
) -> Result<GuestParts, ImageError> {
    let missing = |what: &str| ImageError::BadPackage {
        file: packages.join(", "),
        why: format!("they do not contain {what}"),
    };
    let busybox = ["bin/busybox", "usr/bin/busybox"]
        .iter()
        .find_map(|path| file(&tree, path));
    let busybox = busybox.ok_or_else(|| missing("busybox"))?;
    let boot = tree.take_below(b"boot");
    let (path, kernel) = boot
        .iter()
        .find_map(|(path, node)| match &node.kind {
            Kind::File(Content::Bytes(content)) if path.starts_with(b"boot/vmlinuz-") => {
                Some((String::from_utf8_lossy(path).into_owned(), content))
            }
            _ => None,
        })
        .ok_or_else(|| missing("boot/vmlinuz"))?;
    let release = path.trim_start_matches("boot/vmlinuz-").to_owned();
    crate::images::write(&entry.join(KERNEL), kernel)?;

    let below = |above: &str| format!("{above}/modules/{release}").into_bytes();
    let mut modules = tree.take_below(&below("lib"));
    if modules.iter().next().is_none() {
        modules = tree.take_below(&below("usr/lib"));
    }
    let builtin = modules.iter().find_map(|(path, node)| match &node.kind {
        Kind::File(Content::Bytes(content)) if path.ends_with(b"/modules.builtin") => {
            Some(content.to_vec())
        }
        _ => None,
    });
    let pack = fs_err::File::create(entry.join(PACK)).map_err(provium_store::StoreError::from)?;
    let mut pack = std::io::BufWriter::with_capacity(1 << 20, pack);
    let record = modules::scan_tree(modules, &release, PACK, &mut pack)?;
    std::io::Write::flush(&mut pack).map_err(provium_store::StoreError::from)?;
    write_index(entry, &record)?;
    Ok(GuestParts {
        busybox,
        release: Release {
            name: release,
            builtin,
        },
        modules_folder: None,
        packages,
    })
}

fn file(tree: &Tree, path: &str) -> Option<Vec<u8>> {
    match &tree.get(path.as_bytes())?.kind {
        Kind::File(Content::Bytes(content)) => Some(content.to_vec()),
        _ => None,
    }
}

/// Where a package's file is, for messages.
pub(super) fn names(files: &[Utf8PathBuf]) -> Vec<String> {
    files
        .iter()
        .filter_map(|file| file.file_name())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf::tests::module;
    use crate::node::Node;

    #[test]
    fn a_kernel_is_made_of_versioned_packages() {
        for (name, expected) in [
            ("linux-image-6.1.0-56-cloud-amd64", true),
            ("linux-modules-6.8.0-31-generic", true),
            ("linux-image-cloud-amd64", false),
            ("linux-base", false),
            ("kmod", false),
        ] {
            assert_eq!(is_kernel_part(name), expected, "{name}");
        }
    }

    #[test]
    fn packages_are_taken_apart() {
        let folder = tempfile::tempdir().unwrap();
        let entry = Utf8Path::from_path(folder.path()).unwrap();
        let mut tree = Tree::default();
        let mut put = |path: &str, content: &[u8]| {
            tree.put(path.as_bytes(), Node::file(0o644, content))
                .unwrap();
        };
        put("boot/System.map-6.1-x", b"");
        put("boot/vmlinuz-6.1-x", b"kernel");
        put("bin/busybox", b"busybox");
        put("lib/modules/6.1-x/kernel/a.ko", &module(&["name=a"]));
        put("lib/modules/6.1-x/modules.builtin", b"kernel/b.ko\n");
        let parts = take_apart(tree.clone(), entry, vec!["p".to_owned()]).unwrap();
        assert_eq!(parts.busybox, b"busybox");
        assert_eq!(parts.release.name, "6.1-x");
        assert_eq!(
            parts.release.builtin.as_deref(),
            Some(&b"kernel/b.ko\n"[..])
        );
        assert_eq!(fs_err::read(entry.join(KERNEL)).unwrap(), b"kernel");
        assert_eq!(fs_err::read(entry.join(PACK)).unwrap(), module(&["name=a"]));

        tree.take_below(b"boot");
        let error = take_apart(tree, entry, vec!["p".to_owned()]).unwrap_err();
        assert!(
            error.to_string().contains("do not contain boot/vmlinuz"),
            "{error}"
        );
    }
}
