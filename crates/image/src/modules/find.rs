//! Where a kernel's modules are: below a folder that a profile names, or beside the kernel itself.
//!
//! | kernel | its modules |
//! |---|---|
//! | `TREE/boot/vmlinuz-RELEASE`, or anywhere else in `TREE` | `TREE/lib/modules/RELEASE`, `TREE/usr/lib/modules/RELEASE` |
//! | `modules/RELEASE/vmlinuz` | that folder |
//! | `BUILD/arch/x86/boot/bzImage`, `BUILD/vmlinux` | `BUILD`, as the kernel's build has left it |
//!
//! A folder counts only if its release is the kernel's: other modules could not be loaded.

use super::scan::is_build_tree;
use camino::{Utf8Path, Utf8PathBuf};

/// Where `make modules_install` and packages put modules, relative to a root.
const INSTALLED: [&str; 2] = ["lib/modules", "usr/lib/modules"];

/// The modules of the kernel `release` in `folder`, which is the root of an installation, `lib/modules`,
/// or the folder of the modules itself.
pub(crate) fn modules_below(folder: &Utf8Path, release: Option<&str>) -> Utf8PathBuf {
    let below = release.into_iter().flat_map(|release| {
        let places = INSTALLED.iter().copied().chain([""]);
        places.map(move |above| folder.join(above).join(release))
    });
    below
        .into_iter()
        .find(|path| path.is_dir())
        .unwrap_or_else(|| folder.to_owned())
}

/// The modules of a kernel in the tree that its file is in; the nearest, if there are several.
pub(crate) fn modules_beside(kernel: &Utf8Path, release: &str) -> Option<Utf8PathBuf> {
    // `arch/x86_64/boot/bzImage` and `/vmlinuz` are links.
    let kernel = kernel.canonicalize_utf8().ok()?;
    kernel.ancestors().skip(1).find_map(|folder| {
        if is_build_tree(folder, Some(release)) || is_modules_of(folder, release) {
            return Some(folder.to_owned());
        }
        let installed = INSTALLED.map(|above| folder.join(above).join(release));
        installed.into_iter().find(|path| path.is_dir())
    })
}

/// Whether `folder` is the `modules/RELEASE` of an installation.
fn is_modules_of(folder: &Utf8Path, release: &str) -> bool {
    let parent = folder.parent().and_then(Utf8Path::file_name);
    folder.file_name() == Some(release) && parent == Some("modules")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn modules_are_found_beside_their_kernel() {
        let temporary = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(temporary.path()).unwrap();
        let root = root.canonicalize_utf8().unwrap();
        let put = |path: &str, content: &str| {
            fs_err::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs_err::write(root.join(path), content).unwrap();
        };
        for path in [
            "a/boot/vmlinuz-6.1-x",
            "a/lib/modules/6.1-x/modules.order",
            "b/usr/lib/modules/6.1-x/vmlinuz",
            "c/arch/x86/boot/bzImage",
            "c/modules.order",
            "c/kernel/modules.order",
            "c/vmlinux",
            "d/vmlinuz",
            "d/lib/modules/6.1-y/modules.order",
        ] {
            put(path, "");
        }
        put("c/include/config/kernel.release", "6.1-x\n");
        fs_err::create_dir_all(root.join("c/arch/x86_64/boot")).unwrap();
        symlink(
            "../../x86/boot/bzImage",
            root.join("c/arch/x86_64/boot/bzImage"),
        )
        .unwrap();
        for (kernel, expected) in [
            ("a/boot/vmlinuz-6.1-x", Some("a/lib/modules/6.1-x")),
            (
                "b/usr/lib/modules/6.1-x/vmlinuz",
                Some("b/usr/lib/modules/6.1-x"),
            ),
            ("c/arch/x86/boot/bzImage", Some("c")),
            ("c/arch/x86_64/boot/bzImage", Some("c")),
            ("c/vmlinux", Some("c")),
            ("d/vmlinuz", None),
            ("gone", None),
        ] {
            let expected = expected.map(|path| root.join(path));
            assert_eq!(
                modules_beside(&root.join(kernel), "6.1-x"),
                expected,
                "{kernel}"
            );
        }
        let built_as_another = modules_beside(&root.join("c/vmlinux"), "6.1-z");
        assert_eq!(built_as_another, None);

        let below = |folder: &str| modules_below(&root.join(folder), Some("6.1-x"));
        assert_eq!(below("a"), root.join("a/lib/modules/6.1-x"));
        assert_eq!(below("a/lib/modules"), root.join("a/lib/modules/6.1-x"));
        assert_eq!(
            below("a/lib/modules/6.1-x"),
            root.join("a/lib/modules/6.1-x")
        );
        assert_eq!(modules_below(&root.join("a"), None), root.join("a"));
    }
}
