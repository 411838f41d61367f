//! Files with the whole of what a report shortens: outputs of processes, consoles, kernel traces, compared texts.
//!
//! A text is offered when a message cuts it, and the message names its file. The file is written if a failure is
//! reported with the message; most messages are not, as those of an assertion that a test retries.

use crate::lock::lock;
use camino::{Utf8Path, Utf8PathBuf};
use provium_store::{Cache, RunFolder, RunFolderLimits};
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::time::Duration;

/// The folder of the cache that has a folder for each run.
const KIND: &str = "output";

/// How many folders of runs stay, and how long.
const LIMITS: RunFolderLimits = RunFolderLimits {
    most: 10,
    longest: Duration::from_secs(7 * 24 * 3600),
};

/// Most files of a run, and most bytes in all of them.
const MOST_FILES: usize = 500;
const MOST_BYTES: usize = 256 << 20;

/// Most bytes of a file: the end of a longer text is kept.
const LONGEST: usize = 16 << 20;

/// Most offers that wait for a failure, and most bytes in all of them; the oldest ones are dropped.
const MOST_OFFERS: usize = 128;
const MOST_OFFERED: usize = 64 << 20;

/// Characters of a name that are kept in the name of a file.
const LONGEST_NAME: usize = 60;

/// Keeps what reports cut.
#[derive(Debug)]
pub struct KeptOutput {
    place: OutputLocation,
    /// Paths in messages are relative to this folder.
    shown_from: Utf8PathBuf,
    files: Mutex<Files>,
}

/// Where the files are.
#[derive(Debug)]
enum OutputLocation {
    /// In a folder for this run in the cache, which is there.
    Cache(Utf8PathBuf),
    /// In this folder, which is made with the first file.
    Folder(Utf8PathBuf),
}

#[derive(Debug, Default)]
struct Files {
    folder: Option<FilesFolder>,
    last: usize,
    written: usize,
    written_bytes: usize,
    offers: VecDeque<Offer>,
}

#[derive(Debug)]
enum FilesFolder {
    OfRun(RunFolder),
    Named(Utf8PathBuf),
}

/// A text that a message names.
#[derive(Debug)]
struct Offer {
    path: Utf8PathBuf,
    shown: String,
    content: Vec<u8>,
}

/// The files that were written for a failure.
#[derive(Debug, Default)]
pub struct KeptFiles {
    /// Their paths, as the messages name them.
    pub written: Vec<String>,
    /// What could not be written, and why, as sentences without a full stop.
    pub problems: Vec<String>,
}

impl KeptOutput {
    /// In the cache, in a folder for this run. Paths in messages are relative to `shown_from`.
    pub fn in_cache(cache_dir: &Utf8Path, shown_from: &Utf8Path) -> Self {
        Self::new(OutputLocation::Cache(cache_dir.to_owned()), shown_from)
    }

    /// In `folder`, which is absolute.
    pub fn in_folder(folder: Utf8PathBuf, shown_from: &Utf8Path) -> Self {
        Self::new(OutputLocation::Folder(folder), shown_from)
    }

    fn new(place: OutputLocation, shown_from: &Utf8Path) -> Self {
        Self {
            place,
            shown_from: shown_from.to_owned(),
            files: Mutex::default(),
        }
    }

    /// The path of the file that a message names for `content`; `None` if the run has kept as much as it may,
    /// or nothing can be kept. `name` says what it is.
    pub fn offer(&self, name: &str, content: &[u8]) -> Option<String> {
        let mut files = lock(&self.files);
        let size = content.len().min(LONGEST);
        if files.written >= MOST_FILES || files.written_bytes + size > MOST_BYTES {
            return None;
        }
        let folder = files.folder(&self.place)?;
        files.last += 1;
        let path = folder.join(format!("{}-{}.txt", files.last, file_name(name)));
        let shown = path.strip_prefix(&self.shown_from).unwrap_or(&path);
        let shown = shown.to_string();
        files.offers.push_back(Offer {
            path,
            shown: shown.clone(),
            content: end_of(content),
        });
        files.drop_old_offers();
        Some(shown)
    }

    /// A failure is reported with these texts: writes the files that they name.
    pub fn keep_named_in<'a>(&self, texts: impl IntoIterator<Item = &'a str> + Clone) -> KeptFiles {
        let mut files = lock(&self.files);
        let is_named = |offer: &Offer| {
            let mut texts = texts.clone().into_iter();
            texts.any(|text| text.contains(&offer.shown))
        };
        let (named, others) = std::mem::take(&mut files.offers)
            .into_iter()
            .partition(is_named);
        files.offers = others;
        let mut kept = KeptFiles::default();
        for Offer {
            path,
            shown,
            content,
        } in named
        {
            match write(&path, &content) {
                Ok(()) => {
                    files.written += 1;
                    files.written_bytes += content.len();
                    kept.written.push(shown);
                }
                Err(error) => kept
                    .problems
                    .push(format!("`{shown}` is not written: {error}")),
            }
        }
        kept
    }
}

impl Files {
    /// The folder of the files, made when it is needed first.
    fn folder(&mut self, place: &OutputLocation) -> Option<Utf8PathBuf> {
        if self.folder.is_none() {
            self.folder = Some(match place {
                OutputLocation::Cache(path) => {
                    let cache = Cache::open(path).ok()?;
                    FilesFolder::OfRun(cache.run_folder(KIND, LIMITS).ok()?)
                }
                OutputLocation::Folder(path) => FilesFolder::Named(path.clone()),
            });
        }
        match self.folder.as_ref()? {
            FilesFolder::OfRun(folder) => Some(folder.path().to_owned()),
            FilesFolder::Named(path) => Some(path.clone()),
        }
    }

    fn drop_old_offers(&mut self) {
        let mut size: usize = self.offers.iter().map(|offer| offer.content.len()).sum();
        // The newest one stays.
        while self.offers.len() > 1 && (self.offers.len() > MOST_OFFERS || size > MOST_OFFERED) {
            let dropped = self.offers.pop_front();
            size -= dropped.map_or(0, |offer| offer.content.len());
        }
    }
}

fn write(path: &Utf8Path, content: &[u8]) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs_err::create_dir_all(folder)?;
    }
    fs_err::write(path, content)
}

/// The content of the file of a text: all of it, or its end.
fn end_of(content: &[u8]) -> Vec<u8> {
    let Some(dropped) = content
        .len()
        .checked_sub(LONGEST)
        .filter(|count| *count > 0)
    else {
        return content.to_vec();
    };
    let note = format!("… {dropped} bytes before this are not kept …\n");
    [note.as_bytes(), &content[dropped..]].concat()
}

/// A name as part of a file's name.
fn file_name(name: &str) -> String {
    let safe = |character: char| match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '-' | '_' => character,
        _ => '-',
    };
    let name: String = name.chars().map(safe).collect();
    let words: Vec<&str> = name.split('-').filter(|word| !word.is_empty()).collect();
    // All of it is ASCII.
    words.join("-").chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> (tempfile::TempDir, Utf8PathBuf, KeptOutput) {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::from_path_buf(folder.path().to_owned()).unwrap();
        let kept = KeptOutput::in_cache(&root.join("cache"), &root);
        (folder, root, kept)
    }

    #[test]
    fn only_what_a_failure_names_is_written() {
        let (_folder, root, kept) = kept();
        let first = kept.offer("stdout of `a b`", b"one").unwrap();
        let second = kept.offer("console", b"two").unwrap();
        assert_eq!(first, "cache/output/1/1-stdout-of-a-b.txt");
        assert_eq!(second, "cache/output/1/2-console.txt");
        let message = format!("… 3 more lines in {second}");
        let files = kept.keep_named_in(["else", message.as_str()]);
        assert_eq!(files.written, std::slice::from_ref(&second));
        assert_eq!(fs_err::read(root.join(&second)).unwrap(), b"two");
        assert!(!root.join(&first).exists());
        // Another failure may name the other one.
        assert_eq!(kept.keep_named_in([first.as_str()]).written.len(), 1);
        assert!(kept.keep_named_in([message.as_str()]).written.is_empty());
    }

    #[test]
    fn nothing_is_left_where_nothing_was_named() {
        let (_folder, root, kept) = kept();
        kept.offer("stdout", b"one").unwrap();
        drop(kept);
        assert_eq!(
            fs_err::read_dir(root.join("cache/output")).unwrap().count(),
            0
        );
    }

    #[test]
    fn offers_and_files_are_bounded() {
        let (_folder, root, kept) = kept();
        let long = vec![b'x'; LONGEST + 1];
        let shown = kept.offer("long", &long).unwrap();
        assert_eq!(kept.keep_named_in([shown.as_str()]).written.len(), 1);
        let written = fs_err::read(root.join(&shown)).unwrap();
        assert!(written.starts_with("… 1 bytes before this".as_bytes()));
        assert!(written.len() < LONGEST + 100);

        for _ in 0..2 * MOST_OFFERS {
            kept.offer("a", b"x").unwrap();
        }
        assert_eq!(lock(&kept.files).offers.len(), MOST_OFFERS);
        lock(&kept.files).written = MOST_FILES;
        assert_eq!(kept.offer("b", b"x"), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_reported() {
        let (_folder, root, _) = kept();
        fs_err::write(root.join("file"), "").unwrap();
        let kept = KeptOutput::in_folder(root.join("file/below"), &root);
        let shown = kept.offer("x", b"x").unwrap();
        let files = kept.keep_named_in([shown.as_str()]);
        assert!(files.written.is_empty());
        assert!(files.problems[0].starts_with("`file/below/1-x.txt` is not written: "));
    }
}
