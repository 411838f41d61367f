//! The source tree in memory, so that rules are functions over it and are tested without a disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Folders that hold nothing of ours, by name, wherever they are.
const SKIPPED: [&str; 2] = ["target", "node_modules"];

/// Files that rules look at, by their end.
const TEXT: [&str; 6] = [".rs", ".toml", ".md", ".lua", ".sh", ".allow"];

/// Why the tree could not be read, or a file not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreeError {
    /// The file system said no; its message names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A text that is not UTF-8.
    #[error("`{0}` is not UTF-8")]
    NotText(String),
}

/// The files below a root, by path from it, with `/`.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the tree. Hidden entries, links and build output are passed over; of files that no
    /// rule reads only the name is kept.
    pub(crate) fn read(root: &Path) -> Result<Self, TreeError> {
        let mut tree = Self::default();
        tree.read_folder(root, "")?;
        Ok(tree)
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) -> Result<(), TreeError> {
        for entry in fs_err::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with('.') || SKIPPED.contains(&name.as_str()) {
                continue;
            }
            let path = format!("{prefix}{name}");
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.read_folder(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                let text = if TEXT.iter().any(|end| name.ends_with(end)) {
                    read_text(entry.path(), &path)?
                } else {
                    String::new()
                };
                self.files.insert(path, text);
            }
        }
        Ok(())
    }

    /// How many files it has.
    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// Paths and texts of the files that end in `end`, in the order of their paths.
    pub(crate) fn ending<'a>(&'a self, end: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.files
            .iter()
            .filter(move |(path, _)| path.ends_with(end))
            .map(|(path, text)| (path.as_str(), text.as_str()))
    }

    /// A file's text.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// Whether a file or a folder of that path is there.
    pub(crate) fn exists(&self, path: &str) -> bool {
        let path = path.trim_end_matches('/');
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(p, _)| p.starts_with(&folder))
    }
}

fn read_text(at: PathBuf, path: &str) -> Result<String, TreeError> {
    String::from_utf8(fs_err::read(at)?).map_err(|_| TreeError::NotText(path.to_owned()))
}

#[cfg(test)]
impl<const N: usize> From<[(&str, &str); N]> for Tree {
    fn from(files: [(&str, &str); N]) -> Self {
        let files = files
            .into_iter()
            .map(|(path, text)| (path.to_owned(), text.to_owned()));
        Self {
            files: files.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_folders_exist() {
        let tree = Tree::from([("docs/guide/a.md", ""), ("docs-old.md", "")]);
        for there in [
            "",
            "docs",
            "docs/",
            "docs/guide",
            "docs/guide/a.md",
            "docs-old.md",
        ] {
            assert!(tree.exists(there), "{there}");
        }
        for absent in ["doc", "docs/guide/a", "docs-old"] {
            assert!(!tree.exists(absent), "{absent}");
        }
    }

    #[test]
    fn reading_passes_over_what_is_not_ours() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a.rs", "target/b.rs", ".git/c.rs", "d/e.bin"] {
            let at = folder.path().join(path);
            fs_err::create_dir_all(at.parent().unwrap()).unwrap();
            fs_err::write(at, "//! x\n").unwrap();
        }
        let tree = Tree::read(folder.path()).unwrap();
        assert_eq!(tree.text("a.rs"), Some("//! x\n"));
        assert_eq!(tree.text("d/e.bin"), Some(""), "known, not read");
        assert_eq!(tree.len(), 2);
    }
}
