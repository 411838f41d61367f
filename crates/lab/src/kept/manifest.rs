//! `kept.json`: which test failed, and the state of its VMs.

use crate::host_time::now_ns;
use camino::Utf8Path;
use provium_store::{Key, KeyBuilder, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::io;

/// The name of the file in its entry.
const MANIFEST: &str = "kept.json";

/// The layout of that file.
const VERSION: u32 = 1;

/// A VM of a failed test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeptVm {
    /// Its name.
    pub name: String,
    /// Its profile.
    pub profile: String,
    /// The part of the entry that belongs to it: a folder, or a file with its console.
    pub(crate) part: String,
    /// What is kept of it.
    pub state: KeptState,
}

/// What is kept of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeptState {
    /// The whole VM: it can be entered.
    Saved,
    /// Its console.
    Console {
        /// Why it was not saved: it was dead, or its agent did not answer.
        why: String,
    },
}

/// What an entry says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptManifest {
    version: u32,
    /// The test's file, as reports name it.
    pub(crate) file: String,
    /// The test's name.
    pub(crate) test: String,
    /// Why it failed.
    pub(crate) reason: String,
    /// When it was kept, nanoseconds since 1970.
    pub(crate) kept_ns: i64,
    pub(crate) vms: Vec<KeptVm>,
}

impl KeptManifest {
    /// Of a test that has failed now.
    pub(crate) fn new(file: &str, test: &str, reason: &str, vms: Vec<KeptVm>) -> Self {
        Self {
            version: VERSION,
            file: file.to_owned(),
            test: test.to_owned(),
            reason: reason.to_owned(),
            kept_ns: now_ns(),
            vms,
        }
    }

    /// The key of its entry, which no other failure has.
    pub(crate) fn key(&self) -> Key {
        KeyBuilder::new("kept")
            .with("file", &self.file)
            .with("test", &self.test)
            .with("kept", self.kept_ns.to_le_bytes())
            .with("process", std::process::id().to_le_bytes())
            .finish()
    }

    pub(crate) fn write(&self, folder: &Utf8Path) -> io::Result<()> {
        write_json(&folder.join(MANIFEST), self)
    }

    /// The manifest of an entry; `None` if it is not of this version, or damaged.
    pub(crate) fn read(folder: &Utf8Path) -> Option<Self> {
        let manifest: Self = read_json(&folder.join(MANIFEST))?;
        let is_part = |vm: &KeptVm| Utf8Path::new(&vm.part).file_name() == Some(&vm.part);
        let is_usable = manifest.version == VERSION && manifest.vms.iter().all(is_part);
        is_usable.then_some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pinned: what another version of the harness has written must be read, or refused.
    #[test]
    fn the_file_is_the_one_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let vm = |name: &str, part: &str, state| KeptVm {
            name: name.to_owned(),
            profile: "default".to_owned(),
            part: part.to_owned(),
            state,
        };
        let why = "it is dead".to_owned();
        let vms = vec![
            vm("web", "vm-0", KeptState::Saved),
            vm("db", "vm-1", KeptState::Console { why }),
        ];
        let mut manifest = KeptManifest::new("a.test.lua", "works", "1 ~= 2", vms);
        manifest.kept_ns = 7;
        manifest.write(folder).unwrap();
        let text = fs_err::read_to_string(folder.join(MANIFEST)).unwrap();
        let expected = r#"{
  "version": 1,
  "file": "a.test.lua",
  "test": "works",
  "reason": "1 ~= 2",
  "kept_ns": 7,
  "vms": [
    {
      "name": "web",
      "profile": "default",
      "part": "vm-0",
      "state": "saved"
    },
    {
      "name": "db",
      "profile": "default",
      "part": "vm-1",
      "state": {
        "console": {
          "why": "it is dead"
        }
      }
    }
  ]
}"#;
        assert_eq!(text, expected);
        assert_eq!(KeptManifest::read(folder), Some(manifest.clone()));
        let key = manifest.key();
        manifest.kept_ns = 8;
        assert_ne!(manifest.key(), key);
        for bad in [
            text.replace("\"version\": 1", "\"version\": 2"),
            text.replace("vm-1", "../vm-1"),
            text[..40].to_owned(),
            String::new(),
        ] {
            fs_err::write(folder.join(MANIFEST), bad).unwrap();
            assert_eq!(KeptManifest::read(folder), None);
        }
    }
}
