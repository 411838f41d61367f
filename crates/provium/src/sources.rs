//! The source of test files and helpers, for the excerpts of reports.

use camino::Utf8PathBuf;
use provium_runner::TestFile;
use std::collections::BTreeMap;

/// Gives the text of a file that events name.
pub(crate) fn sources(
    files: &[TestFile],
    base: Utf8PathBuf,
) -> impl Fn(&str) -> Option<String> + Send + 'static {
    let by_name: BTreeMap<String, Utf8PathBuf> = files
        .iter()
        .map(|file| (file.display.clone(), file.path.clone()))
        .collect();
    let mut folders: Vec<Utf8PathBuf> = files
        .iter()
        .flat_map(|file| file.package_roots.clone())
        .collect();
    folders.push(base);
    folders.sort();
    folders.dedup();
    move |name| {
        let known = by_name.get(name).cloned();
        // A helper: named from the folder in which `require` found it.
        let helper = || {
            folders
                .iter()
                .map(|folder| folder.join(name))
                .find(|path| path.is_file())
        };
        std::fs::read_to_string(known.or_else(helper)?).ok()
    }
}
