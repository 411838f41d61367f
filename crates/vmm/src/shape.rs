//! What two machines must have in common for one to load the other's saved state.

use crate::arguments::{LaunchContext, arguments};
use crate::qemu::Qemu;
use crate::spec::MachineSpec;
use camino::Utf8PathBuf;

impl MachineSpec {
    /// All of the machine that a saved state depends on, except the contents of the kernel and of the initial
    /// RAM disk: two machines of one shape can load each other's state.
    pub fn shape(&self, qemu: &Qemu) -> String {
        let general = Self {
            name: String::new(),
            kernel: Utf8PathBuf::new(),
            // The guest's clock is set after each boot.
            initial_time_ns: None,
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
    use crate::nic::NicSlot;
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
        assert_ne!(
            shape(|spec| spec.rng_seed = Some(1)),
            shape(|spec| spec.rng_seed = Some(2))
        );
    }
}
