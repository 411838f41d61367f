//! Distinguishes damage of saved VMs from errors of the host.

use crate::disk::VolumeError;
use crate::save::manifest::SavedVmError;
use crate::save::restore::RestoreError;

/// Whether an error is about the saved VM itself: it is damaged, or not this version's. What the host
/// lacks, a QEMU that was killed or a guest that is slow does not damage the saved VM.
pub(crate) fn is_damage(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<RestoreError>() {
            return error.is_of_saved_state();
        }
        if let Some(error) = error.downcast_ref::<VolumeError>() {
            return error.is_of_saved_state();
        }
        if let Some(error) = error.downcast_ref::<SavedVmError>() {
            return match error {
                SavedVmError::Foreign { .. } => true,
                SavedVmError::Unreadable { source, .. } => provium_vmm::is_of_content(source),
                SavedVmError::Machine(error) => error.is_of_saved_state(),
            };
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_disk::DiskError;
    use std::io;

    #[test]
    fn a_disk_whose_image_has_changed_is_damage() {
        let damaged = DiskError::Damaged {
            folder: "/cache/disk-0".into(),
            reason: "its image has changed".to_owned(),
        };
        assert!(is_damage(&VolumeError::from(damaged)));
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!is_damage(&VolumeError::from(full)));
    }
}
