//! Eviction: which entries are removed so that the cache keeps its size limit.
//!
//! The least recently used entry is removed first. Entries that need a download or a long unpacking
//! are removed after all those that are rebuilt by using them. An entry in use stays, so the cache may
//! be larger than its limit meanwhile.

use crate::cache::Cache;
use crate::entry::EntryInfo;
use crate::error::StoreError;
use crate::key::Key;

/// Kinds of entries that take longer than others to rebuild.
const COSTLY: [&str; 6] = ["guests", "kernels", "initrds", "roots", "modules", "disks"];

/// An entry that may be removed.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its bucket's folder: the kind of entry, and the version.
    pub bucket: String,
    /// The entry.
    pub info: EntryInfo,
}

/// What an eviction has removed and left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Eviction {
    /// Removed entries: bucket, key, bytes.
    pub removed: Vec<(String, Key, u64)>,
    /// Entries that were to be removed, but are in use or cannot be removed by this user: bucket,
    /// key, bytes.
    pub in_use: Vec<(String, Key, u64)>,
    /// Size of what is left in the cache, bytes.
    pub left: u64,
}

/// The entries to remove so that the others take at most `cap` bytes, in that order.
pub fn plan(mut candidates: Vec<Candidate>, cap: u64) -> Vec<Candidate> {
    let mut total: u64 = candidates.iter().map(|candidate| candidate.info.size).sum();
    candidates.sort_by(|a, b| {
        let order = |it: &Candidate| (it.is_costly(), it.info.used);
        let ties = || a.info.key.cmp(&b.info.key);
        order(a).cmp(&order(b)).then_with(ties)
    });
    candidates.retain(|candidate| {
        let goes = total > cap;
        if goes {
            total -= candidate.info.size;
        }
        goes
    });
    candidates
}

impl Candidate {
    fn is_costly(&self) -> bool {
        let kind = self.bucket.rsplit_once("-v").map(|(kind, _)| kind);
        kind.is_some_and(|kind| COSTLY.contains(&kind))
    }
}

impl Cache {
    /// Removes the least recently used entries until the cache takes at most `cap` bytes.
    ///
    /// # Errors
    /// When the cache's folder cannot be read.
    pub fn evict(&self, cap: u64) -> Result<Eviction, StoreError> {
        let buckets = self.buckets()?;
        let mut candidates = Vec::new();
        for (name, bucket) in &buckets {
            // A bucket that cannot be read cannot be emptied either; the run continues.
            let entries = bucket.entries().unwrap_or_default().into_iter();
            candidates.extend(entries.map(|info| Candidate {
                bucket: name.clone(),
                info,
            }));
        }
        let mut left: u64 = candidates.iter().map(|candidate| candidate.info.size).sum();
        let (mut removed, mut in_use) = (Vec::new(), Vec::new());
        // In the plan's order; where one is in use, a later one goes instead.
        for candidate in plan(candidates, 0) {
            if left <= cap {
                break;
            }
            let Candidate { bucket: name, info } = candidate;
            let bucket = buckets.iter().find(|(bucket, _)| *bucket == name);
            let gone = match bucket {
                Some((_, bucket)) => bucket.remove_unused(&info.key).unwrap_or(false),
                None => false,
            };
            let entry = (name, info.key, info.size);
            if gone {
                left -= info.size;
                removed.push(entry);
            } else {
                in_use.push(entry);
            }
        }
        Ok(Eviction {
            removed,
            in_use,
            left,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyBuilder;
    use camino::Utf8Path;
    use std::time::{Duration, SystemTime};

    fn candidate(kind: &str, name: &str, size: u64, age: u64) -> Candidate {
        Candidate {
            bucket: format!("{kind}-v1"),
            info: EntryInfo {
                key: KeyBuilder::new(name).finish(),
                size,
                used: SystemTime::UNIX_EPOCH + Duration::from_secs(1000 - age),
            },
        }
    }

    fn kinds(plan: &[Candidate]) -> Vec<(&str, u64)> {
        let shown = plan.iter().map(|it| (it.bucket.as_str(), it.info.size));
        shown.collect()
    }

    #[test]
    fn the_oldest_goes_first_and_what_is_costly_last() {
        let all = vec![
            candidate("guests", "a", 50, 900),
            candidate("templates", "b", 10, 1),
            candidate("templates", "c", 20, 800),
            candidate("fixtures", "d", 30, 500),
        ];
        assert_eq!(kinds(&plan(all.clone(), 110)), []);
        assert_eq!(kinds(&plan(all.clone(), 109)), [("templates-v1", 20)]);
        let some = plan(all.clone(), 60);
        assert_eq!(kinds(&some), [("templates-v1", 20), ("fixtures-v1", 30)]);
        assert_eq!(plan(all, 0).last().unwrap().bucket, "guests-v1");
    }

    #[tokio::test]
    async fn what_is_in_use_stays_and_a_later_one_goes_instead() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8Path::from_path(folder.path()).unwrap();
        let cache = Cache::open(root.join("cache")).unwrap();
        let bucket = cache.bucket("templates", 1).unwrap();
        let mut entries = Vec::new();
        for name in ["old", "new"] {
            let fill = |path: camino::Utf8PathBuf| async move {
                fs_err::write(path.join("ram"), vec![1; 100_000])?;
                Ok::<_, StoreError>(())
            };
            let key = KeyBuilder::new(name).finish();
            let entry = bucket.get_or_build(&key, &|_| (), fill).await.unwrap();
            entries.push((key, entry));
        }
        let (old, held) = entries.remove(0);
        let (new, free) = entries.remove(0);
        drop(free);

        let room = cache.evict(1000).unwrap();
        assert_eq!(room.removed.len(), 1);
        assert_eq!(room.removed[0].1, new, "the old one is held");
        assert_eq!(room.in_use[0].1, old);
        assert!(room.left > 1000);

        drop(held);
        // A lock file that cannot be taken keeps its entry, and the run continues.
        let lock = bucket.locks().join(old.as_str());
        fs_err::remove_file(&lock).unwrap();
        fs_err::create_dir(&lock).unwrap();
        let room = cache.evict(1000).unwrap();
        assert_eq!((room.removed.len(), &room.in_use[0].1), (0, &old));
        fs_err::remove_dir(&lock).unwrap();
        let room = cache.evict(1000).unwrap();
        assert_eq!((room.removed.len(), room.left), (1, 0));
        assert_eq!(cache.evict(1000).unwrap(), Eviction::default());
    }
}
