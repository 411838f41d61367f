//! Kernel modules: an index of their names and aliases, in place of `depmod(8)`'s files.
//!
//! A kernel package has no `modules.dep`: that is made when it is installed, which is never done
//! here. So the index is made from each module's own `.modinfo` section and from the kernel's
//! `modules.builtin*`. A name that a guest asks for is only ever looked up in it; it never becomes a
//! path.

mod index;
mod info;
mod name;
mod scan;

pub(crate) use index::Record;
pub use index::{ModuleIndex, ModuleRef};
pub(crate) use scan::{listing, scan_folder, scan_tree};

#[cfg(test)]
pub(crate) mod tests {
    use super::{ModuleIndex, scan_tree};
    use crate::tree::{Node, Tree};
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
}
