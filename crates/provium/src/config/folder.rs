//! Profiles that lie in folders of their own: `[profiles] from_dir`.

use super::profile::{Defaults, ProfileConfig};
use super::section::{Document, Section, Span};
use crate::failure::Failure;
use camino::Utf8Path;

/// The file that makes a folder a profile.
const FILE_NAME: &str = "profile.provium.toml";

/// The profiles in the sub-folders of `folder`, by name.
pub(super) fn profiles(
    section: &Section<'_>,
    folder: &str,
    span: &Span,
    defaults: &Defaults,
    cache_dir: &Utf8Path,
) -> Result<Vec<ProfileConfig>, Failure> {
    let missing = || section.error(span.clone(), format!("folder `{folder}` does not exist"));
    let entries = section
        .directory()
        .join(folder)
        .read_dir_utf8()
        .map_err(|_| missing())?;
    let mut files: Vec<_> = entries
        .filter_map(Result::ok)
        .map(|entry| (entry.file_name().to_owned(), entry.path().join(FILE_NAME)))
        .filter(|(_, file)| file.is_file())
        .collect();
    files.sort();

    let mut profiles = Vec::new();
    for (name, file) in files {
        let document = Document::read(&file, format!("{folder}/{name}/{FILE_NAME}"))?;
        let table = document.table()?;
        let top = Section::top(&document, &table);
        profiles.push(ProfileConfig::read(&name, &top, defaults, cache_dir)?);
    }
    Ok(profiles)
}
