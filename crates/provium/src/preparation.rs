//! The images of the profiles that the selected files name, prepared before the first test starts and
//! outside of all time limits. If that fails, the run ends with exit code 2, and no test has run.
//!
//! A profile is named by a string in a selected file, in a module that it requires, or in a fixture that it
//! uses. A profile whose name is put together when the file runs is prepared at its first boot.

use crate::config::Config;
use crate::failure::Failure;
use camino::{Utf8Path, Utf8PathBuf};
use provium_lab::{Environment, EnvironmentError};
use provium_runner::{FIXTURE_SUFFIX, TestFile, fixture_refs, literals};
use std::collections::{BTreeMap, BTreeSet};

/// The profiles that `files` name, each with the name of the first file that does.
pub(crate) fn named_profiles(config: &Config, files: &[TestFile]) -> BTreeMap<String, String> {
    let mut missing: BTreeSet<&str> = config
        .profiles
        .iter()
        .map(|profile| profile.name.as_str())
        .collect();
    let mut named = BTreeMap::new();
    let mut read = BTreeSet::new();
    for file in files {
        let mut unread = vec![file.path.clone()];
        while let Some(path) = unread.pop() {
            if missing.is_empty() {
                return named;
            }
            if !read.insert(path.clone()) {
                continue;
            }
            // A file that cannot be read fails by itself.
            let source = std::fs::read_to_string(&path).unwrap_or_default();
            let strings = literals(&source);
            for text in &strings.texts {
                if missing.remove(text.as_str()) {
                    named.insert(text.clone(), file.display.clone());
                }
            }
            let modules = strings.modules.iter().flat_map(|name| {
                let path = name.replace('.', "/");
                [format!("{path}.lua"), format!("{path}/init.lua")]
            });
            let fixtures = fixture_refs(&source)
                .into_iter()
                .flat_map(|name| [format!("{name}{FIXTURE_SUFFIX}"), name]);
            unread.extend(modules.chain(fixtures).filter_map(|name| find(file, &name)));
        }
    }
    named
}

/// The file `name` that `file` would load.
fn find(file: &TestFile, name: &str) -> Option<Utf8PathBuf> {
    let own = file.path.parent().map(Utf8Path::to_owned);
    let roots = file.package_roots.iter().cloned().chain(own);
    let mut places = roots.map(|root| root.join(name));
    places.find(|place| place.is_file())
}

/// Whether the files are there that `named` profiles boot from, apart from those that are built first.
///
/// # Errors
/// A file is missing: where the configuration names it, and which test file names the profile.
pub(crate) fn check_files(
    config: &Config,
    named: &BTreeMap<String, String>,
    no_build: bool,
) -> Result<(), Failure> {
    for (name, file) in named {
        let profile = config.profile(name)?;
        if profile.build.is_some() && !no_build {
            continue;
        }
        if let Some(mut missing) = profile.missing() {
            let hint =
                || format!("`{file}` names the profile; correct the path, or select other files");
            missing.hint.get_or_insert_with(hint);
            return Err(missing.into());
        }
    }
    Ok(())
}

/// Prepares the images of `named` profiles.
pub(crate) async fn prepare_images(
    environment: &Environment,
    named: BTreeMap<String, String>,
) -> Result<(), Failure> {
    for (profile, file) in named {
        match environment.image(&profile).await {
            Ok(_) => (),
            Err(EnvironmentError::Image(source)) => {
                return Err(Failure::ProfileImage {
                    profile,
                    file,
                    source: Box::new(source),
                });
            }
            Err(source) => {
                return Err(Failure::ProfileUnfit {
                    profile,
                    file,
                    source: Box::new(source),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_named_in_files_modules_and_fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let config = ["a", "b", "c", "d", "e", "f"]
            .map(|name| format!("[profiles.{name}]\n"))
            .concat();
        for (path, text) in [
            ("provium.toml", config.as_str()),
            ("one.test.lua", "require 'helpers.x'; vm('v', 'a') -- 'f'"),
            ("two.test.lua", "provium:vm_fixture('db'); f('a')"),
            ("helpers/x.lua", "return require('helpers.y')"),
            ("helpers/y/init.lua", "return 'b'"),
            ("helpers/unused.lua", "return 'd'"),
            ("db.fixture.lua", "vm('v', 'c')"),
        ] {
            fs_err::create_dir_all(root.join(path).parent().unwrap()).unwrap();
            fs_err::write(root.join(path), text).unwrap();
        }
        let config = Config::load(None, root).unwrap();
        let file = |name: &str| TestFile {
            path: root.join(name),
            display: name.to_owned(),
            package_roots: vec![root.to_owned()],
            root: root.to_owned(),
            lines: Vec::new(),
            names: Vec::new(),
        };
        let named = named_profiles(&config, &[file("one.test.lua"), file("two.test.lua")]);
        let named: Vec<(&str, &str)> = named
            .iter()
            .map(|(profile, file)| (profile.as_str(), file.as_str()))
            .collect();
        assert_eq!(
            named,
            [
                ("a", "one.test.lua"),
                ("b", "one.test.lua"),
                ("c", "two.test.lua")
            ]
        );
    }
}
