//! Staging folders next to a path that a user has named: filled there, then moved into place in one
//! step.
//!
//! ```text
//! PARENT/
//!   NAME/                       the folder, complete at any time
//!   .NAME.tmp-PID-START-N/      a staging folder, locked by its process (see `temporary`)
//! ```
//!
//! Several processes may fill staging folders for the same path at once. Each replaces the whole folder;
//! the last one wins. A staging folder of a killed process is removed when the next one is made.

use crate::build::StagingFolder;
use crate::temporary;
use camino::{Utf8Path, Utf8PathBuf};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;
use std::io;

/// Longest folder name that is used in full in the names of its staging folders, bytes. A name may have
/// 255.
const MAX_FULL_NAME: usize = 180;

/// Bytes that are kept of a longer name; a hash of it follows.
const KEPT_BYTES: usize = 100;

/// Maximum number of attempts while other processes replace the same folder.
const ATTEMPTS: usize = 1000;

impl StagingFolder {
    /// A folder to fill, beside `place`. Staging folders of killed processes are removed there.
    ///
    /// # Errors
    /// When the path does not name a folder, or its parent cannot be written.
    pub fn beside(place: &Utf8Path) -> io::Result<Self> {
        let (parent, prefix) = neighbourhood(place)?;
        fs_err::create_dir_all(parent)?;
        temporary::sweep(parent, &prefix);
        Ok(Self(temporary::make(parent, &prefix)?))
    }

    /// Moves it to `place`, for which it was made, in one step. An older folder there is removed.
    ///
    /// # Errors
    /// When `place` cannot be written. The older folder remains.
    pub fn replace(self, place: &Utf8Path) -> io::Result<()> {
        let rename = |flags| renameat_with(CWD, self.path().as_str(), CWD, place.as_str(), flags);
        for _ in 0..ATTEMPTS {
            match rename(RenameFlags::NOREPLACE) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) => (),
                Err(error) if is_unsupported(error) => return self.replace_in_two_steps(place),
                Err(error) => return Err(failed(place, error.into())),
            }
            match rename(RenameFlags::EXCHANGE) {
                // The older folder has the name of the staging folder now, and is removed with it.
                Ok(()) => return Ok(()),
                Err(Errno::NOENT) => (),
                Err(error) if is_unsupported(error) => return self.replace_in_two_steps(place),
                Err(error) => return Err(failed(place, error.into())),
            }
        }
        Err(failed(place, io::ErrorKind::ResourceBusy.into()))
    }

    /// For file systems that cannot exchange two folders, such as NFS.
    fn replace_in_two_steps(self, place: &Utf8Path) -> io::Result<()> {
        let (parent, prefix) = neighbourhood(place)?;
        for _ in 0..ATTEMPTS {
            let older = temporary::new_name(parent, &prefix);
            let moved = std::fs::rename(place, &older).is_ok();
            let renamed = std::fs::rename(self.path(), place);
            match renamed {
                Ok(()) => {
                    if moved {
                        let _ = std::fs::remove_dir_all(&older);
                    }
                    return Ok(());
                }
                Err(error) => {
                    if moved {
                        let _ = std::fs::rename(&older, place);
                        let _ = std::fs::remove_dir_all(&older);
                    }
                    let is_taken = matches!(
                        error.kind(),
                        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
                    );
                    if !is_taken {
                        return Err(failed(place, error));
                    }
                }
            }
        }
        Err(failed(place, io::ErrorKind::ResourceBusy.into()))
    }
}

/// The parent of `place`, and the prefix of the names of its staging folders.
fn neighbourhood(place: &Utf8Path) -> io::Result<(&Utf8Path, String)> {
    let name = place.file_name().ok_or_else(|| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the path `{place}` does not name a folder"),
        )
    })?;
    let parent = place.parent().filter(|parent| !parent.as_str().is_empty());
    let stem = if name.len() <= MAX_FULL_NAME {
        name.to_owned()
    } else {
        let kept = (0..=KEPT_BYTES).rev().find(|at| name.is_char_boundary(*at));
        let hash = blake3::hash(name.as_bytes()).to_hex();
        format!("{}-{}", &name[..kept.unwrap_or(0)], &hash[..16])
    };
    Ok((
        parent.unwrap_or(Utf8Path::new(".")),
        format!(".{stem}.tmp-"),
    ))
}

fn is_unsupported(error: Errno) -> bool {
    matches!(error, Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP)
}

fn failed(place: &Utf8Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot replace `{place}`: {error}"))
}

/// The path that `place` leads to, if it is a symbolic link.
///
/// # Errors
/// When the link is broken.
pub fn follow_links(place: &Utf8Path) -> io::Result<Utf8PathBuf> {
    match place.symlink_metadata() {
        Ok(metadata) if metadata.is_symlink() => place.canonicalize_utf8().map_err(|error| {
            let text = format!("`{place}` is a broken symbolic link: {error}");
            io::Error::new(error.kind(), text)
        }),
        _ => Ok(place.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, Utf8PathBuf) {
        let root = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(root.path().to_owned()).unwrap();
        (root, path)
    }

    fn put(folder: &StagingFolder, content: &str) {
        for name in ["a", "b"] {
            fs_err::write(folder.path().join(name), content).unwrap();
        }
    }

    #[test]
    fn folders_for_one_place_at_once_never_mix() {
        let (_root, root) = root();
        let place = root.join("place");
        for in_two_steps in [false, true] {
            std::thread::scope(|scope| {
                for number in 0..4 {
                    let place = &place;
                    scope.spawn(move || {
                        for round in 0..25 {
                            let folder = StagingFolder::beside(place).unwrap();
                            put(&folder, &format!("{number} {round}"));
                            if in_two_steps {
                                folder.replace_in_two_steps(place).unwrap();
                            } else {
                                folder.replace(place).unwrap();
                            }
                        }
                    });
                }
            });
            let read = |name: &str| fs_err::read_to_string(place.join(name)).unwrap();
            assert_eq!(read("a"), read("b"));
            assert_eq!(root.read_dir_utf8().unwrap().count(), 1, "nothing is left");
        }
    }

    #[test]
    fn a_left_folder_is_swept_and_one_in_use_is_not() {
        let (_root, root) = root();
        let place = root.join("place");
        let left = root.join(".place.tmp-4194305");
        let neighbour = root.join(".place2.tmp-4194305");
        for folder in [&left, &neighbour] {
            fs_err::create_dir(folder).unwrap();
        }
        let one = StagingFolder::beside(&place).unwrap();
        let two = StagingFolder::beside(&place).unwrap();
        assert!(one.path().exists() && two.path().exists());
        assert!(!left.exists() && neighbour.exists());
        drop((one, two));
        assert_eq!(root.read_dir_utf8().unwrap().count(), 1);
    }

    #[test]
    fn long_names_and_links_work() {
        let (_root, root) = root();
        let long = root.join("ä".repeat(125));
        let folder = StagingFolder::beside(&long).unwrap();
        folder.replace(&long).unwrap();
        assert!(long.exists());

        let link = root.join("link");
        std::os::unix::fs::symlink(&long, &link).unwrap();
        assert_eq!(follow_links(&link).unwrap().file_name(), long.file_name());
        assert_eq!(follow_links(&long).unwrap(), long);
        fs_err::remove_dir(&long).unwrap();
        let error = follow_links(&link).unwrap_err().to_string();
        assert!(error.contains("broken symbolic link"), "{error}");
        let error = StagingFolder::beside(Utf8Path::new("/")).unwrap_err();
        assert!(
            error.to_string().contains("does not name a folder"),
            "{error}"
        );
    }
}
