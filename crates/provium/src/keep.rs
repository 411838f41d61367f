//! `--on-failure keep`: where the VMs of the first failed test are kept, and the command that enters them.

use crate::failure::Failure;
use camino::Utf8Path;
use provium_events::printable::one_line;
use provium_lab::{Environment, KeptFailureSummary, KeptFailures};
use provium_store::{Bucket, Cache};

/// The configuration's file.
const CONFIG: &str = "provium.toml";

/// How the VMs of a failed test are kept.
#[derive(Debug, Clone)]
pub(crate) struct KeepSettings {
    /// The command that enters them, up to the key.
    enter: String,
}

impl KeepSettings {
    /// For a run that was started in `base`, with the configuration that `typed` names or the one that was
    /// found in `folder`.
    pub(crate) fn new(
        typed: Option<&Utf8Path>,
        folder: Option<&Utf8Path>,
        base: &Utf8Path,
    ) -> Self {
        let mut parents = base.ancestors();
        let found_from_base = parents.find(|folder| folder.join(CONFIG).is_file());
        // It may be that of the first path.
        let other = folder.filter(|folder| found_from_base != Some(*folder));
        let config = match typed {
            Some(typed) => Some(typed.to_owned()),
            None => other.map(|folder| folder.join(CONFIG)),
        };
        let config = config.map(|path| format!(" --config {}", quoted(path.as_str())));
        Self {
            enter: format!("provium console{} --resume", config.unwrap_or_default()),
        }
    }

    /// The environment of a run that keeps them in this cache.
    pub(crate) fn apply(
        &self,
        environment: Environment,
        cache_dir: &Utf8Path,
    ) -> Result<Environment, Failure> {
        let failures = KeptFailures::new(bucket(cache_dir)?);
        Ok(environment.keep_first_failure(failures, self.enter.clone()))
    }
}

/// The bucket of the cache that holds kept failures.
pub(crate) fn bucket(cache_dir: &Utf8Path) -> Result<Bucket, Failure> {
    Ok(Cache::open(cache_dir)?.bucket("kept", 1)?)
}

/// A word as a shell reads it.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The line at the end of a run that has kept a failure.
pub(crate) fn report(kept: &KeptFailureSummary) -> String {
    format!(
        "provium: test `{}`: {}\n",
        one_line(&kept.test),
        kept.hint()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("a/b-1.toml"), "a/b-1.toml");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }

    #[test]
    fn the_command_names_the_configuration_unless_it_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        for project in ["a", "a/inner", "b"] {
            std::fs::create_dir_all(root.join(project)).unwrap();
        }
        for config in ["a/provium.toml", "b/provium.toml"] {
            std::fs::write(root.join(config), "").unwrap();
        }
        let (a, b, inner) = (root.join("a"), root.join("b"), root.join("a/inner"));
        let enter = |typed: Option<&str>, found: &Utf8Path, base: &Utf8Path| {
            KeepSettings::new(typed.map(Utf8Path::new), Some(found), base).enter
        };
        assert_eq!(enter(None, &a, &inner), "provium console --resume");
        let named = format!("provium console --config {b}/provium.toml --resume");
        assert_eq!(enter(None, &b, &a), named);
        let typed = "provium console --config ../b/provium.toml --resume";
        assert_eq!(enter(Some("../b/provium.toml"), &b, &a), typed);
    }
}
