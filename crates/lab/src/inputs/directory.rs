//! The hash of a directory with all entries below it.

use crate::inputs::input::ABSENT;
use blake3::Hasher;
use camino::Utf8Path;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Stands for a directory in which something cannot be read.
const UNREADABLE: &str = "unreadable";

/// A hash of what a directory is now: names, types, permission bits, contents, link targets. Times do not
/// count.
pub(crate) fn tree_now(path: &Utf8Path) -> String {
    let mut hasher = Hasher::new();
    match add_folder(&mut hasher, path.as_std_path()) {
        Ok(()) => hasher.finalize().to_hex().to_string(),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => ABSENT.to_owned(),
            _ => UNREADABLE.to_owned(),
        },
    }
}

fn add_folder(hasher: &mut Hasher, path: &Path) -> io::Result<()> {
    let entries = fs::read_dir(path)?;
    let mut names = entries
        .map(|entry| Ok(entry?.file_name()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    for name in names {
        let path = path.join(&name);
        let found = fs::symlink_metadata(&path)?;
        add(hasher, name.as_bytes());
        hasher.update(&found.mode().to_be_bytes());
        if found.is_dir() {
            add_folder(hasher, &path)?;
        } else if found.is_symlink() {
            add(hasher, fs::read_link(&path)?.as_os_str().as_bytes());
        } else if found.is_file() {
            hasher.update(content(&path)?.as_bytes());
        }
    }
    // No name is as long, so nothing else reads like the end of a directory.
    hasher.update(&u64::MAX.to_be_bytes());
    Ok(())
}

/// A text with its length before it.
fn add(hasher: &mut Hasher, text: &[u8]) {
    hasher.update(&(text.len() as u64).to_be_bytes());
    hasher.update(text);
}

fn content(path: &Path) -> io::Result<blake3::Hash> {
    // It may have become a pipe since.
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let mut options = File::options();
    let file = options.read(true).custom_flags(flags).open(path)?;
    let mut hasher = Hasher::new();
    hasher.update_reader(file)?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    #[test]
    fn whatever_is_copied_of_a_directory_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(folder.path()).unwrap();
        assert_eq!(tree_now(&path.join("none")), ABSENT);
        fs::create_dir(path.join("dir")).unwrap();
        fs::write(path.join("dir/file"), "1").unwrap();
        symlink("file", path.join("dir/link")).unwrap();
        let mut seen = vec![tree_now(path)];
        let changes: [&dyn Fn(); 6] = [
            &|| fs::write(path.join("dir/file"), "2").unwrap(),
            &|| fs::write(path.join("new"), "").unwrap(),
            &|| fs::rename(path.join("new"), path.join("dir/new")).unwrap(),
            &|| fs::rename(path.join("dir/new"), path.join("dir/newer")).unwrap(),
            &|| {
                fs::remove_file(path.join("dir/link")).unwrap();
                symlink("newer", path.join("dir/link")).unwrap();
            },
            &|| {
                let mode = fs::Permissions::from_mode(0o755);
                fs::set_permissions(path.join("dir/file"), mode).unwrap();
            },
        ];
        for change in changes {
            change();
            let now = tree_now(path);
            assert_eq!(now, tree_now(path));
            assert!(!seen.contains(&now));
            seen.push(now);
        }
    }
}
