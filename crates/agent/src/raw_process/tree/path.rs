//! Paths below the directory of a tree, for messages.

use crate::failure;
use crate::sys::Errno;
use provium_protocol::WireError;

/// A path below the tree's directory; only for messages.
pub(super) struct Path {
    bytes: Vec<u8>,
    /// Where each component begins.
    starts: Vec<usize>,
}

impl Path {
    pub(super) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(1024),
            starts: Vec::with_capacity(16),
        }
    }

    pub(super) fn push(&mut self, name: &[u8]) {
        self.starts.push(self.bytes.len());
        if !self.bytes.is_empty() {
            self.bytes.push(b'/');
        }
        self.bytes.extend_from_slice(name);
    }

    pub(super) fn pop(&mut self) {
        self.bytes.truncate(self.starts.pop().unwrap_or(0));
    }

    pub(super) fn depth(&self) -> usize {
        self.starts.len()
    }

    /// What was tried with the file of this name, or with the directory itself, has failed.
    pub(super) fn error(&self, tried: &str, name: &[u8], errno: Errno) -> WireError {
        let between = if self.bytes.is_empty() || name.is_empty() {
            ""
        } else {
            "/"
        };
        let folder = String::from_utf8_lossy(&self.bytes);
        let name = String::from_utf8_lossy(name);
        failure::os(format!("{tried} `{folder}{between}{name}`"), errno)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_path() {
        let mut path = Path::new();
        let text = |path: &Path, name: &[u8]| path.error("open", name, Errno::NOENT).message;
        assert_eq!(text(&path, b"f"), "open `f`");
        path.push(b"a");
        path.push(b"b");
        assert_eq!(text(&path, b"f"), "open `a/b/f`");
        assert_eq!(text(&path, b""), "open `a/b`");
        path.pop();
        assert_eq!(
            (text(&path, b"f"), path.depth()),
            ("open `a/f`".to_owned(), 1)
        );
    }
}
