//! An index made on the spot, for tests of what uses one. It scans as the real one does, and downloads
//! nothing.

use super::{ModuleIndex, scan_tree};
use crate::node::Node;
use crate::tree::Tree;
use camino::Utf8Path;

/// An index of such modules, in a pack in `folder`.
pub(crate) fn index_of(folder: &Utf8Path, modules: &[(&str, Vec<u8>)]) -> ModuleIndex {
    let mut tree = Tree::default();
    for (name, object) in modules {
        let path = format!("lib/{name}.ko");
        tree.put(path.as_bytes(), Node::file(0o644, object.clone()))
            .unwrap();
    }
    let mut pack = Vec::new();
    let record = scan_tree(tree, "6.1", "pack", &mut pack).unwrap();
    fs_err::write(folder.join("pack"), pack).unwrap();
    ModuleIndex::new(folder.to_owned(), record)
}
