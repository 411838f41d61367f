//! What earlier runs found out about files: how long each took, and how much of the pool it held.
//!
//! Loaded before a run, read during it, saved after it. It only improves the order of a run: a history
//! file that is missing, damaged or of another version counts as empty, and a failure to write it does no
//! harm. It is written to a temporary file and renamed. What other runs have saved meanwhile is kept; of
//! two runs that save at the same moment, one may be lost.
//!
//! It does not know which files are to run, and decides no order.

use camino::{Utf8Path, Utf8PathBuf};
use provium_events::Resources;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Duration;

/// Name of the file in the cache; a new shape has a new one.
const FILE: &str = "history-v2.json";

/// Files that are remembered. Beyond it those go that were not run for longest.
const MAX_FILES: usize = 20_000;

/// Largest file that is read, bytes: what is larger was not written by us.
const MAX_HISTORY_BYTES: u64 = 16 << 20;

/// What is known of files, by their absolute paths.
#[derive(Debug, Clone, Default)]
pub struct History {
    known: BTreeMap<Utf8PathBuf, FileStats>,
    recorded: BTreeMap<Utf8PathBuf, FileStats>,
}

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStats {
    /// How long it took, all its tests together.
    pub duration: Duration,
    /// What it held of the pool: the most memory at a time, which cannot be shared; the mean of its vCPUs,
    /// which can, and at least one if it held any.
    pub held: Resources,
}

#[derive(Serialize, Deserialize)]
struct HistoryFile {
    /// Counts the runs that saved.
    run: u64,
    files: BTreeMap<Utf8PathBuf, SavedFile>,
}

#[derive(Serialize, Deserialize)]
struct SavedFile {
    duration_ms: u64,
    memory_bytes: u64,
    cpus: u32,
    /// The run that it was last part of.
    run: u64,
}

impl History {
    /// What is kept in the cache.
    pub fn load(cache_dir: &Utf8Path) -> Self {
        let known = |(path, saved): (Utf8PathBuf, SavedFile)| {
            let known = FileStats {
                duration: Duration::from_millis(saved.duration_ms),
                held: Resources {
                    memory_bytes: saved.memory_bytes,
                    cpus: saved.cpus,
                },
            };
            (path, known)
        };
        let saved = read(&cache_dir.join(FILE));
        Self {
            known: saved.files.into_iter().map(known).collect(),
            recorded: BTreeMap::new(),
        }
    }

    /// What is known of the file.
    pub fn of(&self, path: &Utf8Path) -> Option<FileStats> {
        self.known.get(path).copied()
    }

    /// Records a file that ran to its end. Reads return the older values until the next load, so that
    /// the order of a run does not change.
    pub(crate) fn record(&mut self, path: Utf8PathBuf, known: FileStats) {
        self.recorded.insert(path, known);
    }

    /// Adds what was recorded to the file in the cache.
    pub fn save(&self, cache_dir: &Utf8Path) -> io::Result<()> {
        if self.recorded.is_empty() {
            return Ok(());
        }
        let path = cache_dir.join(FILE);
        let mut saved = read(&path);
        saved.run += 1;
        for (file, known) in &self.recorded {
            let file_of_run = SavedFile {
                duration_ms: u64::try_from(known.duration.as_millis()).unwrap_or(u64::MAX),
                memory_bytes: known.held.memory_bytes,
                cpus: known.held.cpus,
                run: saved.run,
            };
            saved.files.insert(file.clone(), file_of_run);
        }
        evict(&mut saved, MAX_FILES);
        std::fs::create_dir_all(cache_dir)?;
        let mut file = tempfile::Builder::new()
            .prefix(".history-")
            .tempfile_in(cache_dir)?;
        file.write_all(&serde_json::to_vec(&saved)?)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }
}

fn read(path: &Utf8Path) -> HistoryFile {
    let nothing = HistoryFile {
        run: 0,
        files: BTreeMap::new(),
    };
    let small = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() <= MAX_HISTORY_BYTES);
    let bytes = small.then(|| std::fs::read(path).ok()).flatten();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or(nothing)
}

/// Keeps the `most` files that were run last; of those of one run, the first by name.
fn evict(saved: &mut HistoryFile, most: usize) {
    if saved.files.len() <= most {
        return;
    }
    let mut runs: Vec<u64> = saved.files.values().map(|file| file.run).collect();
    runs.sort_unstable_by(|one, other| other.cmp(one));
    let oldest = runs.get(most.saturating_sub(1)).copied().unwrap_or(0);
    let newer = runs.iter().filter(|run| **run > oldest).count();
    let mut room = most.saturating_sub(newer);
    saved.files.retain(|_, file| {
        if file.run == oldest && room > 0 {
            room -= 1;
            return true;
        }
        file.run > oldest
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(seconds: u64, cpus: u32) -> FileStats {
        FileStats {
            duration: Duration::from_secs(seconds),
            held: Resources {
                memory_bytes: u64::from(cpus) << 20,
                cpus,
            },
        }
    }

    fn cache() -> (tempfile::TempDir, Utf8PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("cache")).unwrap();
        (dir, path)
    }

    #[test]
    fn recorded_files_are_known_after_a_save() {
        let (_dir, cache) = cache();
        let mut history = History::load(&cache);
        history.record("/a".into(), known(3, 2));
        assert_eq!(history.of("/a".into()), None);
        history.save(&cache).unwrap();

        let mut later = History::load(&cache);
        assert_eq!(later.of("/a".into()), Some(known(3, 2)));
        assert_eq!(later.of("/b".into()), None);
        // Another run saves in between: neither is lost.
        history.record("/b".into(), known(1, 1));
        history.save(&cache).unwrap();
        later.record("/a".into(), known(5, 1));
        later.save(&cache).unwrap();
        let last = History::load(&cache);
        assert_eq!(last.of("/a".into()), Some(known(5, 1)));
        assert_eq!(last.of("/b".into()), Some(known(1, 1)));
        let names: Vec<_> = cache.read_dir_utf8().unwrap().collect();
        assert_eq!(names.len(), 1, "nothing but the file: {names:?}");
    }

    #[test]
    fn a_damaged_file_counts_as_empty_and_is_replaced() {
        let (_dir, cache) = cache();
        std::fs::create_dir_all(&cache).unwrap();
        for damaged in ["", "{", "{\"run\":1}", "[]", "\u{0}\u{0}"] {
            std::fs::write(cache.join(FILE), damaged).unwrap();
            let mut history = History::load(&cache);
            assert_eq!(history.of("/a".into()), None);
            history.record("/a".into(), known(1, 1));
            history.save(&cache).unwrap();
            assert_eq!(History::load(&cache).of("/a".into()), Some(known(1, 1)));
        }
    }

    #[test]
    fn a_run_without_records_writes_nothing() {
        let (_dir, cache) = cache();
        History::default().save(&cache).unwrap();
        assert!(!cache.exists());
    }

    #[test]
    fn the_shape_is_pinned() {
        let (_dir, cache) = cache();
        let mut history = History::default();
        history.record("/t/a.test.lua".into(), known(2, 1));
        history.save(&cache).unwrap();
        assert_eq!(
            std::fs::read_to_string(cache.join(FILE)).unwrap(),
            r#"{"run":1,"files":{"/t/a.test.lua":{"duration_ms":2000,"memory_bytes":1048576,"cpus":1,"run":1}}}"#
        );
    }

    #[test]
    fn least_recently_run_files_are_evicted_first() {
        let file = |run| SavedFile {
            duration_ms: 0,
            memory_bytes: 0,
            cpus: 0,
            run,
        };
        let files = [("/a", 1), ("/b", 3), ("/c", 2), ("/d", 2), ("/e", 1)];
        let mut saved = HistoryFile {
            run: 3,
            files: files.map(|(path, run)| (path.into(), file(run))).into(),
        };
        evict(&mut saved, 2);
        let left: Vec<_> = saved.files.keys().map(|path| path.as_str()).collect();
        assert_eq!(left, ["/b", "/c"]);
    }
}
