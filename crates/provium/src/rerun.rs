//! `--rerun-failed`: which tests did not pass when they were last run.
//!
//! A run with failures replaces what is recorded of its project; a run without leaves it alone, so that
//! the same tests can be run again. Kept in the cache folder, or in the file that `PROVIUM_RERUN_STATE`
//! names. A file that is damaged or of another version counts as empty.

use crate::hiargs::{Context, Selection, from_start};
use camino::{Utf8Path, Utf8PathBuf};
use provium_report::FailedTests;
use provium_runner::TestFile;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};

/// Name of the file in the cache; a new shape has a new one.
const FILE: &str = "failed-v1.json";

/// The variable that names another file.
const VARIABLE: &str = "PROVIUM_RERUN_STATE";

/// Where the failed tests of a project are recorded.
pub(crate) struct RerunState {
    file: Utf8PathBuf,
    /// The project, as it is named in the file; test files are named relative to its folder.
    project: String,
    folder: Utf8PathBuf,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct RerunFile {
    projects: BTreeMap<String, Vec<SavedFile>>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedFile {
    path: Utf8PathBuf,
    /// The tests; none: all of the file.
    tests: Vec<String>,
}

impl RerunState {
    /// The state of the project that a run belongs to.
    pub(crate) fn of(context: &Context) -> Self {
        let folder = context.config.directory.as_ref().unwrap_or(&context.base);
        let named = std::env::var(VARIABLE).ok().filter(|name| !name.is_empty());
        match named {
            // Such a file is the caller's, and may move between machines with the project.
            Some(name) => Self {
                file: from_start(Utf8Path::new(&name)),
                project: ".".to_owned(),
                folder: folder.clone(),
            },
            None => Self {
                file: context.config.cache_dir.join(FILE),
                project: folder.to_string(),
                folder: folder.clone(),
            },
        }
    }

    /// Leaves of `selected` what did not pass when it was last run; whether there is something.
    pub(crate) fn select(&self, selected: &mut Selection) -> bool {
        let saved = self.load().projects.remove(&self.project);
        let saved: BTreeMap<Utf8PathBuf, Vec<String>> = saved
            .unwrap_or_default()
            .into_iter()
            .map(|file| (self.folder.join(file.path), file.tests))
            .collect();
        selected.files.retain_mut(|file| {
            let Some(tests) = saved.get(&file.path) else {
                return false;
            };
            let is_whole = file.names.is_empty() && file.lines.is_empty();
            if is_whole {
                file.names.clone_from(tests);
            }
            true
        });
        !selected.files.is_empty()
    }

    /// Records what did not pass of `files`.
    pub(crate) fn save(
        &self,
        failed: &FailedTests,
        files: &[(String, Utf8PathBuf)],
    ) -> io::Result<()> {
        if failed.is_empty() {
            return Ok(());
        }
        let paths: BTreeMap<&str, &Utf8PathBuf> = files
            .iter()
            .map(|(name, path)| (name.as_str(), path))
            .collect();
        let mut recorded = Vec::new();
        for (name, file) in failed.files() {
            let Some(path) = paths.get(name) else {
                continue;
            };
            let tests = match file.whole {
                true => Vec::new(),
                false => file.names.iter().cloned().collect(),
            };
            recorded.push(SavedFile {
                path: path.strip_prefix(&self.folder).unwrap_or(path).to_owned(),
                tests,
            });
        }
        let mut saved = self.load();
        saved.projects.insert(self.project.clone(), recorded);
        let folder = self.file.parent().unwrap_or(Utf8Path::new("."));
        fs_err::create_dir_all(folder)?;
        let mut file = tempfile::Builder::new()
            .prefix(".failed-")
            .tempfile_in(folder)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        file.persist(&self.file)
            .map(drop)
            .map_err(|error| error.error)
    }

    fn load(&self) -> RerunFile {
        let bytes = fs_err::read(&self.file).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }
}

/// The names of files in events, and where the files are.
pub(crate) fn paths(files: &[TestFile]) -> Vec<(String, Utf8PathBuf)> {
    let pair = |file: &TestFile| (file.display.clone(), file.path.clone());
    files.iter().map(pair).collect()
}
