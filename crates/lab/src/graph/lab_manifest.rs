//! The manifest of the snapshot of a lab: its VMs, its bridges, and where in the folder each VM is saved.

use crate::disk::SavedVmDisk;
use crate::network::SavedBridge;
use crate::save::SavedNic;
use crate::snapshot::folder::LAB_SIGN;
use crate::vm_options::VmOptions;
use camino::Utf8Path;
use serde::{Deserialize, Serialize};
use std::io;

/// Its file.
const MANIFEST: &str = LAB_SIGN;

/// The layout of that file. 2: with all options of the VMs. 3: with bridges and NICs.
/// 4: with the disks of VMs that are off.
const VERSION: u32 = 4;

/// Longest file that is read, bytes: VMs may have been given files of any size.
const LONGEST: u64 = 256 << 20;

/// What a saved lab was.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LabManifest {
    version: u32,
    pub(super) vms: Vec<VmEntry>,
    pub(super) bridges: Vec<BridgeEntry>,
}

/// A bridge of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BridgeEntry {
    /// The sub-labs on the way to it, outermost first.
    pub(super) labs: Vec<String>,
    pub(super) saved: SavedBridge,
}

/// A VM of the lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct VmEntry {
    /// The sub-labs on the way to it, outermost first.
    pub(super) labs: Vec<String>,
    pub(super) name: String,
    pub(super) profile: String,
    /// The part of the folder that has it; `None`: it was not booted.
    pub(super) folder: Option<String>,
    /// What it is made with, where it is not there: as it was created, or, if it was on, booted.
    pub(super) options: VmOptions,
    /// Its NICs, in the order of their attachment.
    pub(super) nics: Vec<SavedNic>,
    /// If it was off: its disks, in the order of their attachment.
    pub(super) disks: Vec<SavedVmDisk>,
    /// The part of the folder that has their files.
    pub(super) disks_folder: String,
}

impl LabManifest {
    pub(super) fn new(vms: Vec<VmEntry>, bridges: Vec<BridgeEntry>) -> Self {
        Self {
            version: VERSION,
            vms,
            bridges,
        }
    }

    pub(super) fn write(&self, folder: &Utf8Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        fs_err::write(folder.join(MANIFEST), text)
    }

    /// # Errors
    /// If there is none, it has another version, or it names parts outside of the folder.
    pub(super) fn read(folder: &Utf8Path) -> io::Result<Self> {
        let file = folder.join(MANIFEST);
        if fs_err::metadata(&file)?.len() > LONGEST {
            return Err(io::Error::other(format!("`{file}` is too long")));
        }
        let text = fs_err::read(&file)?;
        let manifest: Self = serde_json::from_slice(&text).map_err(io::Error::other)?;
        if manifest.version != VERSION {
            let why = format!("`{file}` has version {}", manifest.version);
            return Err(io::Error::other(why));
        }
        let mut parts = (manifest.vms.iter()).filter_map(|entry| entry.folder.as_deref());
        if let Some(part) = parts.find(|part| Utf8Path::new(part).file_name() != Some(part)) {
            let why = format!("`{file}` names `{part}`, which is not within its folder");
            return Err(io::Error::other(why));
        }
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_if_it_is_of_this_version_and_names_parts_of_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let vm = VmEntry {
            labs: vec!["inner".to_owned()],
            name: "web".to_owned(),
            profile: "default".to_owned(),
            folder: Some("vm-0".to_owned()),
            options: VmOptions::default(),
            nics: Vec::new(),
            disks: Vec::new(),
            disks_folder: "disks-0".to_owned(),
        };
        LabManifest::new(vec![vm], Vec::new())
            .write(folder)
            .unwrap();
        let read = LabManifest::read(folder).unwrap();
        assert_eq!(read.vms[0].name, "web");
        assert_eq!(read.vms[0].folder.as_deref(), Some("vm-0"));
        let text = fs_err::read_to_string(folder.join(MANIFEST)).unwrap();
        for (bad, why) in [
            (
                text.replace("\"version\": 4", "\"version\": 3"),
                "version 3",
            ),
            (text.replace("vm-0", "../vm-0"), "not within its folder"),
            (
                text.replace("\"web\"", "\"web\", \"x\": 1"),
                "unknown field",
            ),
            (text[..40].to_owned(), "EOF"),
        ] {
            fs_err::write(folder.join(MANIFEST), bad).unwrap();
            let error = LabManifest::read(folder).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        fs_err::remove_file(folder.join(MANIFEST)).unwrap();
        LabManifest::read(folder).unwrap_err();
    }
}
