//! The files that a machine starts from, opened before QEMU is started.

use std::fs::File;
use std::io;

use camino::Utf8PathBuf;

use super::s3::supports_s3;
use crate::error::VmmError;
use crate::initrd::{self, InitrdError};
use crate::saved::{GuestMemory, SavedMachine};
use crate::spec::MachineSpec;

/// What a machine starts from.
pub(super) struct Inputs {
    pub(super) initrd: Option<File>,
    pub(super) memory: GuestMemory,
    /// See [`supports_s3`].
    pub(super) supports_s3: bool,
    pub(super) saved: Option<SavedInputs>,
}

/// The parts of a saved machine, beside its RAM.
pub(super) struct SavedInputs {
    pub(super) devices: File,
    /// The firmware, and its guest-physical address.
    pub(super) firmware: Option<(u64, Vec<u8>)>,
    /// The pages that differ from the RAM file.
    pub(super) pages: Option<File>,
    /// What the saved machine had printed.
    pub(super) console: Vec<u8>,
    /// Bytes of the seeded random stream that the saved guest has read.
    pub(super) rng_served: u64,
}

impl Inputs {
    /// Opens them, on a thread that may block.
    pub(super) async fn open(
        spec: &MachineSpec,
        saved: Option<&SavedMachine>,
    ) -> Result<Self, VmmError> {
        let (for_thread, saved) = (spec.clone(), saved.cloned());
        let opened = tokio::task::spawn_blocking(move || open(&for_thread, saved.as_ref())).await;
        match opened {
            Ok(opened) => opened,
            Err(error) => Err(host_error(spec, "a thread", error.into())),
        }
    }
}

fn open(spec: &MachineSpec, saved: Option<&SavedMachine>) -> Result<Inputs, VmmError> {
    let unreadable = |path: Utf8PathBuf| {
        let machine = spec.name.clone();
        |source| VmmError::Unreadable {
            machine,
            path,
            source,
        }
    };
    File::open(&spec.kernel).map_err(unreadable(spec.kernel.clone()))?;
    let initrd = initrd::join(&spec.initrd).map_err(|error| match error {
        InitrdError::Part(path, error) => unreadable(path)(error),
        InitrdError::Host(error) => host_error(spec, "memory", error),
    })?;
    let memory = match saved {
        None => GuestMemory::empty(spec.memory_mib() << 20)
            .map_err(|error| host_error(spec, "memory", error))?,
        Some(saved) => GuestMemory::of_file(&saved.ram(), saved.memory_bytes())
            .map_err(unreadable(saved.ram()))?,
    };
    let saved = saved.map(|saved| {
        let devices = File::open(saved.devices()).map_err(unreadable(saved.devices()))?;
        let parts = || {
            let firmware = match saved.firmware() {
                Some((address, path)) => Some((address, fs_err::read(path)?)),
                None => None,
            };
            let pages = saved.pages().map(|pages| File::open(pages.as_std_path()));
            Ok((firmware, pages.transpose()?, saved.console()?))
        };
        let parts: io::Result<_> = parts();
        let (firmware, pages, console) = parts.map_err(|source| VmmError::Restore {
            machine: spec.name.clone(),
            source,
        })?;
        Ok::<_, VmmError>(SavedInputs {
            devices,
            firmware,
            pages,
            console,
            rng_served: saved.manifest.rng_served,
        })
    });
    Ok(Inputs {
        initrd,
        memory,
        supports_s3: supports_s3(&spec.kernel),
        saved: saved.transpose()?,
    })
}

/// The host refused `what`.
pub(super) fn host_error(spec: &MachineSpec, what: &'static str, source: io::Error) -> VmmError {
    VmmError::Host {
        machine: spec.name.clone(),
        what,
        source,
    }
}
