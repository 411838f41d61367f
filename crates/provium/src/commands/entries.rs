//! Listing the entries of a bucket of the cache, as a table or as lines of JSON.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal;
use provium_store::{Bucket, EntryInfo};
use serde::Serialize;

/// Digits of a key that a table shows.
pub(super) const SHOWN: usize = 12;

/// Prints all entries, the one that was used last first.
pub(super) fn list<R: Serialize>(
    bucket: &Bucket,
    json: bool,
    row: impl Fn(&EntryInfo) -> R,
    table: impl Fn(&[EntryInfo]) -> String,
) -> Result<Exit, Failure> {
    let mut entries = bucket.entries()?;
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.used));
    terminal::out(&if json {
        entries.iter().map(|entry| json_line(&row(entry))).collect()
    } else {
        table(&entries)
    });
    Ok(Exit::Passed)
}

fn json_line(row: &impl Serialize) -> String {
    // Strings and numbers always serialise.
    let mut text = serde_json::to_string(row).unwrap_or_default();
    text.push('\n');
    text
}
