//! `provium disk list|clean`: the images of disks in the cache, made of folders, archives and images of other formats.

use super::entries::{SHOWN, list};
use super::remove::remove;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::lowargs::DiskCommand;
use crate::terminal::{ago, mebibytes, since_1970};
use provium_events::counted;
use provium_image::ImageSource;
use provium_store::{Bucket, Cache, EntryInfo};
use serde::Serialize;
use std::time::SystemTime;

#[derive(Serialize)]
struct ImageRow {
    key: String,
    kind: String,
    source: String,
    size_bytes: u64,
    /// Seconds since 1970; `None`: not known.
    made: Option<u64>,
    last_use: u64,
}

pub(super) fn run(command: DiskCommand) -> Result<Exit, Failure> {
    match command {
        DiskCommand::List { json, plain } => {
            let bucket = bucket(&Context::new(&plain)?)?;
            list(
                &bucket,
                json,
                |entry| row(&bucket, entry),
                |entries| table(&bucket, entries),
            )
        }
        DiskCommand::Clean { keys, plain } => {
            remove(&bucket(&Context::new(&plain)?)?, &keys, "image")
        }
    }
}

fn bucket(context: &Context) -> Result<Bucket, Failure> {
    Ok(ImageSource::images(&Cache::open(
        &context.config.cache_dir,
    )?)?)
}

fn source_of(bucket: &Bucket, entry: &EntryInfo) -> ImageSource {
    let mut source = ImageSource::read(&bucket.path().join(entry.key.as_str()));
    for text in [&mut source.kind, &mut source.path] {
        if text.is_empty() {
            "unknown".clone_into(text);
        }
    }
    source
}

/// When it was made: its description is never written again.
fn made(bucket: &Bucket, entry: &EntryInfo) -> Option<SystemTime> {
    let folder = bucket.path().join(entry.key.as_str());
    ImageSource::written(&folder)
}

fn table(bucket: &Bucket, entries: &[EntryInfo]) -> String {
    if entries.is_empty() {
        return "there are no images of disks; the first use of a folder, an archive or a qcow2 file as a disk makes \
                one\n"
            .to_owned();
    }
    let mut out = format!(
        "{:<SHOWN$}  {:<8} {:>10}  {:<12} {:<12} {}\n",
        "KEY", "KIND", "ON DISK", "MADE", "LAST USE", "SOURCE"
    );
    let mut total = 0;
    for entry in entries {
        let source = source_of(bucket, entry);
        total += entry.size;
        out.push_str(&format!(
            "{:<SHOWN$}  {:<8} {:>10}  {:<12} {:<12} {}\n",
            &entry.key.as_str()[..SHOWN],
            source.kind,
            mebibytes(entry.size),
            made(bucket, entry).map_or_else(|| "unknown".to_owned(), ago),
            ago(entry.used),
            source.path,
        ));
    }
    out.push_str(&format!(
        "{}, {} on disk\n",
        counted(entries.len() as u64, "image"),
        mebibytes(total)
    ));
    out
}

fn row(bucket: &Bucket, entry: &EntryInfo) -> ImageRow {
    let source = source_of(bucket, entry);
    ImageRow {
        key: entry.key.as_str().to_owned(),
        kind: source.kind,
        source: source.path,
        size_bytes: entry.size,
        made: made(bucket, entry).map(since_1970),
        last_use: since_1970(entry.used),
    }
}
