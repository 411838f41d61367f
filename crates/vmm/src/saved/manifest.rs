//! The manifest of a saved machine, `machine.json` in its folder.

use std::io;

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use crate::accel::Accel;
use crate::device::{DiskDevice, NicSlot};
use crate::qemu::Qemu;
use crate::spec::{InitrdPart, MachineSpec};

/// Names of the files in the folder.
pub(crate) const MANIFEST: &str = "machine.json";
pub(crate) const DEVICES: &str = "devices";
pub(crate) const CONSOLE: &str = "console";
pub(crate) const FIRMWARE: &str = "firmware";
pub(crate) const INITRD: &str = "initrd";
pub(crate) const RAM: &str = "ram";
pub(crate) const PAGES: &str = "pages";

/// The layout of the folder. 2: with NICs. 3: with disks.
const VERSION: u32 = 3;

/// Longest manifest that is read, bytes.
const LONGEST: u64 = 1 << 20;

/// What the machine is. It can only be restored into an equal one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineManifest {
    pub(crate) version: u32,
    /// RAM, bytes.
    pub memory: u64,
    /// vCPUs.
    pub cpus: u32,
    /// What ran its instructions.
    pub accel: Accel,
    /// The kernel's arguments.
    pub cmdline: String,
    /// The QEMU that saved it.
    pub qemu: String,
    /// The seed of its hardware random number generator.
    pub rng_seed: Option<u64>,
    /// How much of that stream the guest has read, bytes.
    pub rng_served: u64,
    /// The NICs that it had, plugged ones included, in order.
    pub nics: Vec<NicSlot>,
    /// The disks that it had, plugged ones included, in the order of their slots.
    pub disks: Vec<DiskDevice>,
    /// Where its BIOS is in its memory, if it has one.
    pub firmware_at: Option<u64>,
    /// Whether all of its RAM is in the folder; else it needs its base.
    pub whole: bool,
    /// RAM in the folder that is not zero, bytes: what saving wrote.
    pub ram_bytes: u64,
}

/// A saved machine, ready to be restored.
#[derive(Debug, Clone)]
pub struct SavedMachine {
    folder: Utf8PathBuf,
    /// The folder of RAM and initial RAM disk.
    whole: Utf8PathBuf,
    /// Its manifest.
    pub manifest: MachineManifest,
}

/// Why a folder is not a saved machine.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// A file of it cannot be read.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its manifest is not of this version.
    #[error("`{path}` is not a saved machine that this version can read: {why}")]
    Foreign {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file has the wrong size.
    #[error("`{path}` is damaged: {why}")]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl SavedError {
    /// Whether it is about what the folder holds, as in [`VmmError::is_of_saved_state`].
    ///
    /// [`VmmError::is_of_saved_state`]: crate::VmmError::is_of_saved_state
    pub fn is_of_saved_state(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => crate::error::is_of_content(source),
            Self::Foreign { .. } | Self::Damaged { .. } => true,
        }
    }
}

impl MachineManifest {
    pub(crate) fn of(spec: &MachineSpec, qemu: String, rng_served: u64) -> Self {
        Self {
            version: VERSION,
            memory: spec.memory,
            cpus: spec.cpus,
            accel: spec.accel,
            cmdline: spec.cmdline.clone(),
            qemu,
            rng_seed: spec.rng_seed,
            rng_served,
            nics: spec.nics.clone(),
            disks: spec.disks.clone(),
            firmware_at: None,
            whole: true,
            ram_bytes: 0,
        }
    }

    pub(crate) fn write(&self, folder: &Utf8Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        fs_err::write(folder.join(MANIFEST), text)
    }
}

impl SavedMachine {
    /// The machine in `folder`; one that is not whole has its base in `base`.
    ///
    /// # Errors
    /// When the folder holds none, or a part of it is missing.
    pub fn open(folder: &Utf8Path, base: Option<&Utf8Path>) -> Result<Self, SavedError> {
        let manifest = read_manifest(folder)?;
        let whole = match (manifest.whole, base) {
            (true, _) => folder,
            (false, Some(base)) => base,
            (false, None) => {
                return Err(SavedError::Foreign {
                    path: folder.join(MANIFEST),
                    why: "it needs a base that is not known".to_owned(),
                });
            }
        };
        let saved = Self {
            folder: folder.to_owned(),
            whole: whole.to_owned(),
            manifest,
        };
        let ram = saved.ram();
        let found = fs_err::metadata(&ram)
            .map_err(|source| SavedError::Unreadable {
                path: ram.clone(),
                source,
            })?
            .len();
        if found != saved.memory_bytes() {
            let why = format!("it has {found} bytes, not {}", saved.memory_bytes());
            return Err(SavedError::Damaged { path: ram, why });
        }
        Ok(saved)
    }

    /// The same machine, which must be whole, after its folder was moved to `folder`.
    pub fn moved_to(&self, folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
            whole: folder.to_owned(),
            manifest: self.manifest.clone(),
        }
    }

    /// Its folder.
    pub fn folder(&self) -> &Utf8Path {
        &self.folder
    }

    /// The folder that others can take as their base: its own, or its base's.
    pub fn base(&self) -> &Utf8Path {
        &self.whole
    }

    /// Saved state can be loaded by the QEMU that saved it, and by no other.
    pub(crate) fn check_version(&self, qemu: &Qemu) -> io::Result<()> {
        let version = qemu.version.to_string();
        if self.manifest.qemu == version {
            return Ok(());
        }
        Err(io::Error::other(format!(
            "it was saved by QEMU {}, and this is {version}",
            self.manifest.qemu
        )))
    }

    /// What the guest had printed.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn console(&self) -> io::Result<Vec<u8>> {
        fs_err::read(self.folder.join(CONSOLE))
    }

    /// The machine to restore it into, with its kernel, which is not kept here.
    pub fn spec(&self, name: String, kernel: Utf8PathBuf) -> MachineSpec {
        let initrd = self.whole.join(INITRD);
        let initrd = initrd.exists().then_some(InitrdPart::File(initrd));
        MachineSpec {
            name,
            kernel,
            initrd: initrd.into_iter().collect(),
            cmdline: self.manifest.cmdline.clone(),
            memory: self.manifest.memory,
            cpus: self.manifest.cpus,
            accel: self.manifest.accel,
            rng_seed: self.manifest.rng_seed,
            initial_time_ns: None,
            nics: self.manifest.nics.clone(),
            disks: self.manifest.disks.clone(),
        }
    }

    pub(crate) fn ram(&self) -> Utf8PathBuf {
        self.whole.join(RAM)
    }

    pub(crate) fn devices(&self) -> Utf8PathBuf {
        self.folder.join(DEVICES)
    }

    /// The BIOS, and where in the guest's memory it is.
    pub(crate) fn firmware(&self) -> Option<(u64, Utf8PathBuf)> {
        let address = self.manifest.firmware_at?;
        Some((address, self.whole.join(FIRMWARE)))
    }

    /// The pages that differ from the base's; `None` of a whole one.
    pub(crate) fn pages(&self) -> Option<Utf8PathBuf> {
        (!self.manifest.whole).then(|| self.folder.join(PAGES))
    }

    /// RAM as QEMU is given it: whole MiB.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.manifest.memory.div_ceil(1 << 20) << 20
    }
}

fn read_manifest(folder: &Utf8Path) -> Result<MachineManifest, SavedError> {
    #[derive(Deserialize)]
    struct Header {
        version: u32,
    }
    let path = folder.join(MANIFEST);
    let unreadable = |source| SavedError::Unreadable {
        path: path.clone(),
        source,
    };
    let foreign = |why: String| SavedError::Foreign {
        path: path.clone(),
        why,
    };
    if fs_err::metadata(&path).map_err(unreadable)?.len() > LONGEST {
        return Err(foreign("it is too long".to_owned()));
    }
    let text = fs_err::read(&path).map_err(unreadable)?;
    let header: Header =
        serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))?;
    if header.version != VERSION {
        return Err(foreign(format!("it has version {}", header.version)));
    }
    serde_json::from_slice(&text).map_err(|error| foreign(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::disk::tests::disk;

    fn manifest() -> MachineManifest {
        MachineManifest {
            version: VERSION,
            memory: 2 << 20,
            cpus: 1,
            accel: Accel::Tcg,
            cmdline: "quiet".to_owned(),
            qemu: "7.2.0".to_owned(),
            rng_seed: Some(7),
            rng_served: 32,
            nics: NicSlot::new(1).into_iter().collect(),
            disks: vec![disk(0, "data", true)],
            firmware_at: Some(0xfffc_0000),
            whole: true,
            ram_bytes: 4096,
        }
    }

    /// The file format: a change needs a new version.
    #[test]
    fn golden() {
        let text = serde_json::to_string(&manifest()).unwrap();
        insta::assert_snapshot!(text, @r#"{"version":3,"memory":2097152,"cpus":1,"accel":"tcg","cmdline":"quiet","qemu":"7.2.0","rng_seed":7,"rng_served":32,"nics":[1],"disks":[{"slot":0,"serial":"data","read_only":true}],"firmware_at":4294705152,"whole":true,"ram_bytes":4096}"#);
    }

    #[test]
    fn a_folder_without_a_saved_machine_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let why = |folder| SavedMachine::open(folder, None).unwrap_err().to_string();
        assert!(why(folder).contains("machine.json` cannot be read"));
        for (text, expected) in [
            ("{", "EOF"),
            (r#"{"version":4,"more":1}"#, "it has version 4"),
            (r#"{"version":3}"#, "missing field"),
        ] {
            fs_err::write(folder.join(MANIFEST), text).unwrap();
            assert!(why(folder).contains(expected), "{}", why(folder));
        }
        manifest().write(folder).unwrap();
        assert!(why(folder).contains("ram` cannot be read"));
        fs_err::write(folder.join(RAM), "short").unwrap();
        assert!(why(folder).contains("5 bytes, not 2097152"));
        let delta = MachineManifest {
            whole: false,
            ..manifest()
        };
        delta.write(folder).unwrap();
        assert!(why(folder).contains("base that is not known"));
    }
}
