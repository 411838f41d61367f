//! The manifest of a saved VM, `vm.json` in its folder, and the folders whose RAM VMs share.

use crate::disk::SavedVmDisk;
use crate::vm_options::VmOptions;
use camino::{Utf8Path, Utf8PathBuf};
use provium_guest::ChannelCheckpoint;
use provium_image::AGENT_BUILD;
use provium_store::{CacheEntry, Seal, StagingFolder};
use provium_vmm::{NicSlot, Processor, SavedError, SavedMachine};
use serde::{Deserialize, Serialize};
use std::io;
use std::sync::Arc;

/// The name of the file in the folder.
const MANIFEST: &str = "vm.json";

/// The layout of that file. 2: with the options that the VM was booted with. 3: with its NICs. 4: with its disks. 5:
/// with the processor.
pub(crate) const VERSION: u32 = 5;

/// Longest file that is read, bytes: a cut holds a line for each open call, and a boot may have been
/// given files of any size.
const LONGEST: u64 = 256 << 20;

/// Describes the VM, beside its machine.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VmManifest {
    version: u32,
    /// The build of its agent.
    agent: String,
    /// Its name.
    pub(crate) name: String,
    /// The profile it was made from.
    pub(crate) profile: String,
    /// The image it was booted from.
    pub(crate) image: String,
    /// The processor that it ran on, whose frequency its kernel knows.
    pub(crate) processor: Processor,
    /// The options that it was booted with; `None`: it is a template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) options: Option<VmOptions>,
    /// Its NICs, in the order of their attachment.
    pub(crate) nics: Vec<SavedNic>,
    /// Its disks, in the order of their attachment; a template has only the root disk.
    pub(crate) disks: Vec<SavedVmDisk>,
    /// The host's half of the agent's channel.
    pub(crate) cut: ChannelCheckpoint,
}

/// A NIC of a saved VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedNic {
    /// The name of the bridge that it is attached to.
    pub(crate) bridge: String,
    /// The guest calls it `eth` and this number.
    pub(crate) index: usize,
    /// Its place in the machine; `None`: the VM was off.
    pub(crate) slot: Option<NicSlot>,
    /// Whether its link is connected.
    pub(crate) is_connected: bool,
}

/// The guest that is saved.
pub(crate) struct SavedGuest<'a> {
    /// The name of its VM.
    pub(crate) name: &'a str,
    /// The profile it was made from.
    pub(crate) profile: &'a str,
    /// The image it was booted from.
    pub(crate) image: &'a str,
    /// The host's processor.
    pub(crate) processor: &'a Processor,
}

impl VmManifest {
    pub(crate) fn new(
        guest: &SavedGuest<'_>,
        options: Option<VmOptions>,
        nics: Vec<SavedNic>,
        disks: Vec<SavedVmDisk>,
        cut: ChannelCheckpoint,
    ) -> Self {
        Self {
            version: VERSION,
            agent: AGENT_BUILD.to_owned(),
            name: guest.name.to_owned(),
            profile: guest.profile.to_owned(),
            image: guest.image.to_owned(),
            processor: guest.processor.clone(),
            options,
            nics,
            disks,
            cut,
        }
    }

    pub(crate) fn write(&self, folder: &Utf8Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        fs_err::write(folder.join(MANIFEST), text)
    }

    fn read(folder: &Utf8Path) -> Result<Self, SavedVmError> {
        #[derive(Deserialize)]
        struct Header {
            version: u32,
            agent: String,
        }
        let path = folder.join(MANIFEST);
        let foreign = |why: String| SavedVmError::Foreign {
            path: path.clone(),
            why,
        };
        let unreadable = |source: io::Error| SavedVmError::Unreadable {
            path: path.clone(),
            source,
        };
        if fs_err::metadata(&path).map_err(unreadable)?.len() > LONGEST {
            return Err(foreign("it is too long".to_owned()));
        }
        let text = fs_err::read(&path).map_err(unreadable)?;
        let invalid = |error: serde_json::Error| foreign(error.to_string());
        let header: Header = serde_json::from_slice(&text).map_err(invalid)?;
        if header.version != VERSION {
            return Err(foreign(format!("it has version {}", header.version)));
        }
        if header.agent != AGENT_BUILD {
            return Err(foreign(
                "it was made by another build of Provium".to_owned(),
            ));
        }
        serde_json::from_slice(&text).map_err(invalid)
    }
}

/// Why a folder is not a VM that can be restored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SavedVmError {
    /// Its manifest is not of this version.
    #[error("`{path}` is not a saved VM that this version can read: {why}")]
    Foreign {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file of it cannot be read.
    #[error("`{path}` cannot be read")]
    Unreadable {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its machine cannot be used.
    #[error(transparent)]
    Machine(#[from] SavedError),
}

/// A folder whose RAM machines share, kept as long as any of them runs.
#[derive(Debug)]
pub(crate) struct Base {
    folder: Utf8PathBuf,
    owner: BaseOwner,
}

/// Who keeps a base from being removed.
#[derive(Debug)]
enum BaseOwner {
    Entry(#[expect(dead_code, reason = "held, not looked at")] Arc<CacheEntry>),
    Draft(#[expect(dead_code, reason = "held, not looked at")] Arc<StagingFolder>),
    /// Its author, who may remove or replace it at any time.
    Author(Option<Seal>),
}

impl Base {
    /// An entry of the cache.
    pub(crate) fn entry(entry: CacheEntry) -> Self {
        let folder = entry.path().to_owned();
        Self::part_of(Arc::new(entry), &folder)
    }

    /// A folder within an entry of the cache.
    pub(crate) fn part_of(entry: Arc<CacheEntry>, folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
            owner: BaseOwner::Entry(entry),
        }
    }

    /// A folder of the cache, or a part of it, that is removed with its last user.
    pub(crate) fn draft(draft: Arc<StagingFolder>, folder: &Utf8Path) -> Self {
        Self {
            folder: folder.to_owned(),
            owner: BaseOwner::Draft(draft),
        }
    }

    /// Whether it exists as long as this does.
    pub(crate) fn is_kept(&self) -> bool {
        !matches!(self.owner, BaseOwner::Author(_))
    }

    /// A folder that its author owns; without a seal it is still being filled.
    pub(crate) fn of_author(folder: &Utf8Path, seal: Option<Seal>) -> Self {
        Self {
            folder: folder.to_owned(),
            owner: BaseOwner::Author(seal),
        }
    }
}

/// A saved VM.
#[derive(Debug, Clone)]
pub(crate) struct SavedVm {
    pub(crate) machine: SavedMachine,
    pub(crate) manifest: VmManifest,
    /// Whose RAM its machines share: its own folder, or another.
    pub(crate) base: Arc<Base>,
}

impl SavedVm {
    /// Its seal, if its folder is an author's, who may replace it.
    pub(crate) fn seal(&self) -> Option<&Seal> {
        match &self.base.owner {
            BaseOwner::Author(seal) => seal.as_ref(),
            BaseOwner::Entry(_) | BaseOwner::Draft(_) => None,
        }
    }

    /// Its folder.
    pub(crate) fn folder(&self) -> &Utf8Path {
        self.machine.folder()
    }

    /// Whether its folder still holds it, and not another VM that was saved there later.
    pub(crate) fn is_current(&self) -> bool {
        self.seal().is_none_or(Seal::is_current)
    }

    /// Why it cannot run on the processor `here`: its kernel would count that one's cycles with the frequency of the
    /// one it was saved on, so that all its clocks would be wrong.
    pub(crate) fn refuses(&self, here: &Processor) -> Option<String> {
        let (saved, accel) = (&self.manifest.processor, self.machine.manifest.accel);
        if saved.serves(here, accel) {
            return None;
        }
        let (saved, here) = (saved.identity(accel), here.identity(accel));
        Some(format!(
            "was taken on another processor ({saved}; this host's: {here}), and the guest's clocks would be wrong here; \
             take it again on this host"
        ))
    }

    /// Whether it is the state of a guest right after its boot, which no test has used.
    pub(crate) fn is_template(&self) -> bool {
        self.manifest.options.is_none()
    }

    /// The same, which must be whole, after its folder was sealed and moved to `folder`.
    pub(crate) fn moved_to(&self, folder: &Utf8Path, seal: Seal) -> Self {
        Self {
            machine: self.machine.moved_to(folder),
            manifest: self.manifest.clone(),
            base: Arc::new(Base::of_author(folder, Some(seal))),
        }
    }

    /// The whole VM in that folder.
    pub(crate) fn whole(base: Base) -> Result<Self, SavedVmError> {
        let manifest = VmManifest::read(&base.folder)?;
        let machine = SavedMachine::open(&base.folder, None)?;
        Ok(Self {
            machine,
            manifest,
            base: Arc::new(base),
        })
    }

    /// The VM in the folder `own`, which may need the base that its maker ran on.
    pub(crate) fn on_base(own: Base, base: Option<&Arc<Base>>) -> Result<Self, SavedVmError> {
        let Some(base) = base else {
            return Self::whole(own);
        };
        let manifest = VmManifest::read(&own.folder)?;
        let machine = SavedMachine::open(&own.folder, Some(&base.folder))?;
        let base = if machine.manifest.whole {
            Arc::new(own)
        } else {
            Arc::clone(base)
        };
        Ok(Self {
            machine,
            manifest,
            base,
        })
    }
}
