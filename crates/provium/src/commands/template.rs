//! `provium template list|clean`: the boot templates in the cache.

use super::entries::{SHOWN, list};
use super::remove::remove;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::hiargs::Context;
use crate::lowargs::TemplateCommand;
use crate::terminal::{ago, mebibytes, since_1970};
use provium_events::counted;
use provium_store::{Bucket, Cache, EntryInfo};
use serde::{Deserialize, Serialize};

/// What a template says about itself. Read leniently: it is for people.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TemplateMeta {
    profile: String,
    memory_bytes: u64,
    cpus: u32,
}

#[derive(Serialize)]
struct TemplateRow {
    key: String,
    profile: String,
    memory_bytes: u64,
    cpus: u32,
    size_bytes: u64,
    /// Seconds since 1970.
    last_use: u64,
}

pub(super) fn run(command: TemplateCommand) -> Result<Exit, Failure> {
    match command {
        TemplateCommand::List { json, plain } => {
            let bucket = bucket(&Context::new(&plain)?)?;
            list(
                &bucket,
                json,
                |entry| row(&bucket, entry),
                |entries| table(&bucket, entries),
            )
        }
        TemplateCommand::Clean { keys, plain } => {
            remove(&bucket(&Context::new(&plain)?)?, &keys, "template")
        }
    }
}

fn bucket(context: &Context) -> Result<Bucket, Failure> {
    Ok(Cache::open(&context.config.cache_dir)?.bucket("templates", 1)?)
}

fn about(bucket: &Bucket, entry: &EntryInfo) -> TemplateMeta {
    let path = bucket.path().join(entry.key.as_str()).join("about.json");
    let read = std::fs::read(path).ok();
    read.and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}

fn table(bucket: &Bucket, entries: &[EntryInfo]) -> String {
    if entries.is_empty() {
        return "there are no boot templates; the first boot of each kind makes one\n".to_owned();
    }
    let mut out = format!(
        "{:<SHOWN$}  {:<20} {:>10} {:>5} {:>10}  {}\n",
        "KEY", "PROFILE", "MEMORY", "CPUS", "ON DISK", "LAST USE"
    );
    let mut total = 0;
    for entry in entries {
        let about = about(bucket, entry);
        total += entry.size;
        out.push_str(&format!(
            "{:<SHOWN$}  {:<20} {:>10} {:>5} {:>10}  {}\n",
            &entry.key.as_str()[..SHOWN],
            about.profile,
            mebibytes(about.memory_bytes),
            about.cpus,
            mebibytes(entry.size),
            ago(entry.used),
        ));
    }
    out.push_str(&format!(
        "{}, {} on disk\n",
        counted(entries.len() as u64, "template"),
        mebibytes(total)
    ));
    out
}

fn row(bucket: &Bucket, entry: &EntryInfo) -> TemplateRow {
    let about = about(bucket, entry);
    TemplateRow {
        key: entry.key.as_str().to_owned(),
        profile: about.profile,
        memory_bytes: about.memory_bytes,
        cpus: about.cpus,
        size_bytes: entry.size,
        last_use: since_1970(entry.used),
    }
}
