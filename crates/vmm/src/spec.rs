//! What machine is wanted. Nothing here says how, or where, it runs.

use std::collections::BTreeSet;
use std::sync::Arc;

use camino::Utf8PathBuf;

use crate::accel::Accel;
use crate::device::{DiskDevice, NicSlot};

/// Name of the virtio-serial port that leads to the agent; the same as the protocol crate's, which
/// this crate does not see.
pub const AGENT_PORT: &str = "org.provium.agent.0";

/// The agent as the kernel starts it; the same as the protocol crate's path, which this crate does
/// not see.
pub const AGENT_INIT: &str = "/.provium/agent";

/// A machine as it is wanted.
#[derive(Clone, Debug)]
pub struct MachineSpec {
    /// For messages and for the host's process list.
    pub name: String,
    /// The kernel: an ELF `vmlinux` with a PVH note, or a bzImage. A guest that is to wake from S3
    /// needs a bzImage: at every reset, and waking is one, QEMU loads an ELF image again over the kernel
    /// that sleeps. A bzImage boots 0.23 s slower.
    pub kernel: Utf8PathBuf,
    /// Parts of the initial RAM disk, joined in order.
    pub initrd: Vec<InitrdPart>,
    /// The kernel's arguments, complete.
    pub cmdline: String,
    /// RAM, bytes; rounded up to whole MiB.
    pub memory: u64,
    /// vCPUs, from 1 on.
    pub cpus: u32,
    /// What runs the guest's instructions.
    pub accel: Accel,
    /// Fixes the stream that the guest's hardware random number generator gives.
    pub rng_seed: Option<u64>,
    /// What the clock shows at the start, nanoseconds since the Unix epoch; the host's time if none
    /// is given. The machine has a clock of whole seconds: the rest is the agent's part.
    pub initial_time_ns: Option<i64>,
    /// The NICs that are there at launch. [`Machine::plug_nic`] adds others.
    ///
    /// [`Machine::plug_nic`]: crate::Machine::plug_nic
    pub nics: Vec<NicSlot>,
    /// The disks that are there at launch, with placeholders until [`Machine::insert_disk`]. [`Machine::plug_disk`]
    /// adds others.
    ///
    /// [`Machine::insert_disk`]: crate::Machine::insert_disk
    /// [`Machine::plug_disk`]: crate::Machine::plug_disk
    pub disks: Vec<DiskDevice>,
}

/// A part of an initial RAM disk.
#[derive(Clone, Debug)]
pub enum InitrdPart {
    /// These bytes.
    Bytes(Arc<[u8]>),
    /// What this file holds.
    File(Utf8PathBuf),
}

impl MachineSpec {
    /// RAM in whole MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        self.memory.div_ceil(1 << 20)
    }

    /// What no QEMU would accept, found before one is started.
    pub(crate) fn fault(&self) -> Option<String> {
        if self.memory_mib() < 4 {
            return Some(format!("{} bytes of memory are too few", self.memory));
        }
        if self.cpus == 0 {
            return Some("a machine needs a vCPU".to_owned());
        }
        // The kernel takes what fits into its buffer (2048 on x86) and drops the rest unheard.
        if self.cmdline.len() > 2047 {
            let len = self.cmdline.len();
            return Some(format!(
                "the kernel takes 2047 bytes of arguments, not {len}"
            ));
        }
        if self.cmdline.contains('\0') || self.name.contains('\0') {
            return Some("its name and arguments cannot hold a NUL byte".to_owned());
        }
        if let Some(slot) = repeated(self.nics.iter().copied()) {
            return Some(format!("two NICs cannot be in slot {}", slot.index()));
        }
        if let Some(slot) = repeated(self.disks.iter().map(|disk| disk.slot)) {
            return Some(format!("two disks cannot be in slot {}", slot.index()));
        }
        self.disks.iter().find_map(DiskDevice::fault)
    }
}

/// The first element that has been there before.
fn repeated<T: Ord + Copy>(elements: impl IntoIterator<Item = T>) -> Option<T> {
    let mut seen = BTreeSet::new();
    elements.into_iter().find(|element| !seen.insert(*element))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::device::disk::tests::disk;

    /// A small machine, for tests of what is made from a description.
    pub(crate) fn spec() -> MachineSpec {
        MachineSpec {
            name: "web".to_owned(),
            kernel: "/images/vmlinux".into(),
            initrd: Vec::new(),
            cmdline: "console=ttyS0 quiet".to_owned(),
            memory: 256 << 20,
            cpus: 1,
            accel: Accel::Tcg,
            rng_seed: None,
            initial_time_ns: None,
            nics: Vec::new(),
            disks: Vec::new(),
        }
    }

    #[test]
    fn a_slot_holds_one_nic() {
        let nics = |numbers: &[usize]| MachineSpec {
            nics: numbers.iter().copied().filter_map(NicSlot::new).collect(),
            ..spec()
        };
        assert_eq!(nics(&[0, 2, 1]).fault(), None);
        let why = nics(&[0, 2, 1, 2]).fault();
        assert_eq!(why.as_deref(), Some("two NICs cannot be in slot 2"));
    }
    #[test]
    fn a_slot_holds_one_disk() {
        let disks = |disks: Vec<DiskDevice>| MachineSpec { disks, ..spec() }.fault();
        assert_eq!(disks(vec![disk(0, "a", false), disk(1, "a", true)]), None);
        let why = disks(vec![disk(3, "a", false), disk(3, "b", false)]);
        assert_eq!(why.as_deref(), Some("two disks cannot be in slot 3"));
        assert!(disks(vec![disk(3, "a/b", false)]).is_some());
    }
}
