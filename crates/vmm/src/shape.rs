//! What two machines must have in common for one to load the other's saved state.

use crate::arguments::{LaunchContext, arguments};
use crate::qemu::Qemu;
use crate::spec::MachineSpec;
use camino::Utf8PathBuf;

impl MachineSpec {
    /// All of the machine that a saved state depends on, except the contents of the kernel and of the initial
    /// RAM disk, and of the serials, sizes and contents of the disks: two machines of one shape can load each other's
    /// state.
    pub fn shape(&self, qemu: &Qemu) -> String {
        let mut disks = self.disks.clone();
        // The guest reads the serial of the process that it is in.
        disks.iter_mut().for_each(|disk| disk.serial.clear());
        let general = Self {
            name: String::new(),
            kernel: Utf8PathBuf::new(),
            // The guest's clock is set after each boot.
            initial_time_ns: None,
            disks,
            ..self.clone()
        };
        let mut words = vec![qemu.identity()];
        words.extend(self.rng_seed.map(|seed| format!("seed={seed}")));
        words.extend(arguments(&general, LaunchContext::default()));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accel::Accel;
    use crate::device::disk::tests::disk;
    use crate::device::{DiskDevice, NicSlot};
    use crate::spec::tests::spec;

    #[test]
    fn the_shape_is_all_but_name_and_time() {
        let qemu = Qemu::assumed("/nonexistent/qemu".into(), crate::OLDEST_QEMU);
        let shape = |change: fn(&mut MachineSpec)| {
            let mut spec = spec();
            change(&mut spec);
            spec.shape(&qemu)
        };
        let plain = shape(|_| ());
        assert_eq!(plain, shape(|spec| spec.name = "db".to_owned()));
        assert_eq!(plain, shape(|spec| spec.initial_time_ns = Some(5)));
        for change in [
            (|spec| spec.memory += 1 << 20) as fn(&mut MachineSpec),
            |spec| spec.cpus += 1,
            |spec| spec.cmdline.push('x'),
            |spec| spec.accel = Accel::Kvm,
            |spec| spec.rng_seed = Some(1),
            |spec| spec.nics.extend(NicSlot::new(0)),
            |spec| spec.disks.push(disk(0, "", false)),
        ] {
            assert_ne!(plain, shape(change));
        }
        let nics = |numbers: [usize; 2]| {
            let mut spec = spec();
            spec.nics
                .extend(numbers.into_iter().filter_map(NicSlot::new));
            spec.shape(&qemu)
        };
        assert_eq!(nics([0, 1]), nics([1, 0]));
        assert_ne!(nics([0, 1]), nics([0, 2]));
        let disks = |disks: Vec<DiskDevice>| {
            let spec = MachineSpec { disks, ..spec() };
            spec.shape(&qemu)
        };
        let (data, logs) = (disk(0, "data", false), disk(1, "logs", true));
        let both = disks(vec![data.clone(), logs.clone()]);
        assert_eq!(both, disks(vec![logs, data.clone()]));
        assert_eq!(both, disks(vec![data.clone(), disk(1, "other", true)]));
        assert_ne!(both, disks(vec![data.clone(), disk(1, "logs", false)]));
        assert_ne!(both, disks(vec![data, disk(2, "logs", true)]));
        assert_ne!(
            shape(|spec| spec.rng_seed = Some(1)),
            shape(|spec| spec.rng_seed = Some(2))
        );
    }
}
