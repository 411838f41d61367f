//! The disks that a VM must have when it boots.
//!
//! | where a disk comes from | how long its content exists |
//! |---|---|
//! | the guest's root | until the next boot |
//! | profile and options | as long as the VM; another list at a boot replaces them |
//! | `attach_disk` | until it is detached |

use crate::disk::{DiskId, DiskOptions, DiskOrigin, VmDisk};
use crate::error::LabError;
use crate::vm::state::VmCore;
use crate::vm_options::VmOptions;
use provium_image::{GuestImage, ROOT_DISK};
use provium_vmm::DiskSlot;

/// Most disks of a VM, but for that of its root, which has a place of its own.
pub(super) const MOST_DISKS: usize = DiskSlot::COUNT - 1;

/// A disk that a VM must have.
struct WantedDisk {
    id: DiskId,
    options: DiskOptions,
    origin: DiskOrigin,
}

/// Makes sure that it has the disks that its profile and these options name. They are served to no machine yet.
pub(crate) async fn declare_disks(
    vm: &VmCore,
    call: &str,
    options: &VmOptions,
) -> Result<(), LabError> {
    let list = wanted_disks(vm, call, options)?;
    replace_disks(vm, call, list, None).await
}

/// The disks of a boot with these options, each with its place in the machine.
pub(crate) async fn disks_for_boot(
    vm: &VmCore,
    options: &VmOptions,
    image: &GuestImage,
) -> Result<Vec<VmDisk>, LabError> {
    let call = "boot()";
    let list = wanted_disks(vm, call, options)?;
    replace_disks(vm, call, list, Some(image)).await?;
    let mut disks = vm.disks.list();
    for (number, disk) in disks.iter_mut().enumerate() {
        disk.slot = DiskSlot::new(number);
        disk.volume.disk().power_on();
    }
    Ok(disks)
}

async fn replace_disks(
    vm: &VmCore,
    call: &str,
    wanted: Vec<WantedDisk>,
    image: Option<&GuestImage>,
) -> Result<(), LabError> {
    let (content, current) = (vm.disk_content(), vm.disks.list());
    let mut disks = Vec::new();
    if let Some(root) = image.and_then(|image| image.root_disk.as_ref()) {
        let id = DiskId::by_name(ROOT_DISK);
        let volume = content.open_root(root);
        let volume = volume.map_err(|error| content.error(call, &id, error))?;
        let options = DiskOptions::template(root.path.clone());
        disks.push(VmDisk::new(id, options, DiskOrigin::Root, volume));
    }
    for WantedDisk {
        id,
        options,
        origin,
    } in wanted
    {
        let kept = current
            .iter()
            .find(|disk| disk.id == id && disk.options == options);
        let volume = match kept {
            Some(disk) => disk.volume.clone(),
            None => content
                .open(&id, &options)
                .await
                .map_err(|error| content.error(call, &id, error))?,
        };
        disks.push(VmDisk::new(id, options, origin, volume));
    }
    vm.disks.set(disks);
    Ok(())
}

/// The disks that it must have, except for the root disk: those of the profile, of the options, and those that
/// are attached to it.
fn wanted_disks(vm: &VmCore, call: &str, options: &VmOptions) -> Result<Vec<WantedDisk>, LabError> {
    let invalid = |why: String| LabError::invalid(vm.subject(), call, why);
    let declared = vm.profile.disks.iter();
    let declared = declared.chain(options.disks.iter().flatten());
    let mut wanted: Vec<WantedDisk> = Vec::new();
    for (place, options) in declared.enumerate() {
        let id = match &options.id {
            Some(id) => DiskId::new(id).map_err(invalid)?,
            None => DiskId::by_place(place),
        };
        wanted.push(WantedDisk {
            id,
            options: options.clone(),
            origin: DiskOrigin::Declared,
        });
    }
    let attached = vm.disks.list().into_iter();
    let attached = attached.filter(|disk| disk.origin == DiskOrigin::Attached);
    wanted.extend(attached.map(|disk| WantedDisk {
        id: disk.id,
        options: disk.options,
        origin: disk.origin,
    }));
    for (place, disk) in wanted.iter().enumerate() {
        if wanted[..place].iter().any(|other| other.id == disk.id) {
            return Err(invalid(format!(
                "two disks have the id `{}`; give one of them another `id`",
                disk.id
            )));
        }
    }
    if wanted.len() > MOST_DISKS {
        return Err(invalid(format!(
            "it would have {} disks, and a machine has slots for {MOST_DISKS}; remove some",
            wanted.len()
        )));
    }
    Ok(wanted)
}
