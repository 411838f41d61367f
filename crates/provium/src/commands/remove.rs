//! Removing entries of a bucket of the cache, all or those whose keys begin so.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::terminal;
use crate::terminal::RemovalSummary;
use provium_store::{Bucket, EntryInfo};

/// Removes those that are not in use, and prints a summary. `noun` is what they are, such as `template`.
pub(super) fn remove(bucket: &Bucket, keys: &[String], noun: &str) -> Result<Exit, Failure> {
    let entries = bucket.entries()?;
    let is = |entry: &EntryInfo, key: &String| entry.key.as_str().starts_with(key.as_str());
    if let Some(unknown) = keys
        .iter()
        .find(|key| !entries.iter().any(|entry| is(entry, key)))
    {
        return Err(Failure::Usage {
            what: format!("no {noun} has a key that begins with `{unknown}`"),
        });
    }
    let chosen = |entry: &&EntryInfo| keys.is_empty() || keys.iter().any(|key| is(entry, key));
    let mut removed = RemovalSummary::default();
    for entry in entries.iter().filter(chosen) {
        removed.note(bucket.remove_unused(&entry.key)?, entry.size);
    }
    terminal::out(&removed.summary(noun));
    Ok(Exit::Passed)
}
