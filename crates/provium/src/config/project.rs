//! The configuration as a whole: its tables, and what holds without them.

use super::profile::{Defaults, ProfileConfig};
use super::section::{Document, Section};
use super::{find, folder};
use crate::failure::Failure;
use crate::suggestion::did_you_mean;
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Name of the configuration's file.
const FILE_NAME: &str = "provium.toml";

/// What the cache's entries may take where nothing is said, bytes.
const CACHE_MAX_SIZE: u64 = 20 << 30;

/// From here on tests and files are marked as slow where nothing is said.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// The name under which the built-in guest is always there.
const DEFAULT_PROFILE: &str = "default";

/// The configuration of a run.
#[derive(Debug)]
pub(crate) struct Config {
    /// Folders to scan, and to look for helpers in; absolute.
    pub(crate) roots: Vec<Utf8PathBuf>,
    /// Where what took long is kept.
    pub(crate) cache_dir: Utf8PathBuf,
    /// What its entries may take, bytes.
    pub(crate) cache_max_size: u64,
    /// A test that takes as long is marked as slow.
    pub(crate) slow_after: Duration,
    /// In the file's order, the built-in one last unless the file has it.
    pub(crate) profiles: Vec<ProfileConfig>,
    /// The folder of its file; `None`: there is none.
    pub(crate) directory: Option<Utf8PathBuf>,
}

impl Config {
    /// Reads the configuration that `explicit` names, or the one nearest to `base`; without any, all is
    /// by default.
    #[cfg(test)]
    pub(crate) fn load(explicit: Option<&Utf8Path>, base: &Utf8Path) -> Result<Self, Failure> {
        Self::load_for(None, explicit, base)
    }

    /// The same, but the configuration nearest to `first`, the first path of the command line, comes
    /// before that of `base`.
    pub(crate) fn load_for(
        first: Option<&str>,
        explicit: Option<&Utf8Path>,
        base: &Utf8Path,
    ) -> Result<Self, Failure> {
        let near = |first: &str| find::nearest(&find::folder_of(&base.join(first)), FILE_NAME);
        let path = match explicit {
            Some(explicit) => Some(base.join(explicit)),
            None => first
                .and_then(near)
                .or_else(|| find::nearest(base, FILE_NAME)),
        };
        let Some(path) = path else {
            let cache_dir = find::default_cache()?;
            let profiles = vec![ProfileConfig::built_in(DEFAULT_PROFILE)];
            return Ok(Self {
                roots: Vec::new(),
                cache_dir,
                cache_max_size: CACHE_MAX_SIZE,
                slow_after: SLOW_AFTER,
                profiles,
                directory: None,
            });
        };
        let document = Document::read(&path, find::shown(&path, base))?;
        Self::of_document(&document)
    }

    fn of_document(document: &Arc<Document>) -> Result<Self, Failure> {
        let table = document.table()?;
        let top = Section::top(document, &table);
        top.only(&["provium", "defaults", "profiles"])?;
        let directory = document.directory().to_owned();

        let mut roots = Vec::new();
        let mut cache_dir = None;
        let mut cache_max_size = CACHE_MAX_SIZE;
        let mut slow_after = SLOW_AFTER;
        if let Some(provium) = top.section("provium")? {
            provium.only(&["roots", "cache_dir", "cache_max_size", "slow_after"])?;
            for (root, span) in provium.strings("roots")?.unwrap_or_default() {
                let folder = directory.join(&root);
                if !folder.is_dir() {
                    return Err(provium
                        .error(span, format!("folder `{root}` does not exist"))
                        .into());
                }
                roots.push(folder);
            }
            if let Some((size, _)) = provium.size_or_zero("cache_max_size")? {
                cache_max_size = size;
            }
            if let Some((duration, _)) = provium.duration("slow_after")? {
                slow_after = duration;
            }
            if let Some((folder, _)) = provium.string("cache_dir")? {
                cache_dir = Some(find::expanded(&folder, &directory)?);
            }
        }
        let cache_dir = cache_dir.map_or_else(find::default_cache, Ok)?;

        let defaults = match top.section("defaults")? {
            Some(section) => Defaults::read(&section)?,
            None => Defaults::default(),
        };
        let mut profiles = match top.section("profiles")? {
            Some(section) => read_profiles(&section, &defaults, &cache_dir)?,
            None => Vec::new(),
        };
        if !profiles
            .iter()
            .any(|profile| profile.name == DEFAULT_PROFILE)
        {
            let mut built_in = ProfileConfig::built_in(DEFAULT_PROFILE);
            defaults.apply(&mut built_in);
            profiles.push(built_in);
        }
        Ok(Self {
            roots,
            cache_dir,
            cache_max_size,
            slow_after,
            profiles,
            directory: Some(directory),
        })
    }

    /// What has no effect, each key once however many profiles have it.
    pub(crate) fn warnings(&self) -> Vec<&str> {
        let mut found = self.profiles.iter();
        found
            .find_map(|profile| profile.without_use.as_deref())
            .into_iter()
            .collect()
    }

    /// The profile of that name.
    pub(crate) fn profile(&self, name: &str) -> Result<&ProfileConfig, Failure> {
        self.profiles
            .iter()
            .find(|profile| profile.name == name)
            .ok_or_else(|| {
                let known = self.profiles.iter().map(|profile| profile.name.as_str());
                Failure::Usage {
                    what: format!("no profile `{name}`{}", did_you_mean(name, known)),
                }
            })
    }
}

fn read_profiles(
    section: &Section<'_>,
    defaults: &Defaults,
    cache_dir: &Utf8Path,
) -> Result<Vec<ProfileConfig>, Failure> {
    let mut profiles = Vec::new();
    for name in section.keys() {
        if name == "from_dir" && section.is_string(&name) {
            continue;
        }
        if let Some(inner) = section.section(&name)? {
            profiles.push(ProfileConfig::read(&name, &inner, defaults, cache_dir)?);
        }
    }
    if let Some((folder, span)) = section.string_if_any("from_dir") {
        let found = folder::profiles(section, &folder, &span, defaults, cache_dir)?;
        for profile in found {
            if profiles.iter().any(|known| known.name == profile.name) {
                let what = format!(
                    "profile `{}` is in `{folder}` and here as well",
                    profile.name
                );
                return Err(section.error(span, what).into());
            }
            profiles.push(profile);
        }
    }
    Ok(profiles)
}
