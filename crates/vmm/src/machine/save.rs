//! Saves a paused machine. It can be resumed afterwards.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::handle::Machine;
use crate::error::VmmError;
use crate::saved::firmware::{self, FirmwareLocation};
use crate::saved::{
    CONSOLE, DEVICES, FIRMWARE, GuestMemory, INITRD, MachineManifest, PAGE, PAGES, PagesWriter, RAM,
};

/// How much of a machine's RAM is saved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveForm {
    /// All of it. Costs as much as the guest uses; machines restored from it share that memory.
    Whole,
    /// All of it, for any number of other machines: of the console, only what this machine has printed.
    Template,
    /// The pages that differ from the saved machine that this one was restored from. Costs as much as the
    /// guest has written since; each machine restored from it has its own copy of these pages. A machine
    /// that was booted is saved whole.
    OnBase,
}

impl Machine {
    /// Saves the machine, which must be [paused](Machine::pause), into `folder`, which is created if it
    /// does not exist. The folder is complete when it holds `machine.json`. Nothing is synced.
    ///
    /// # Errors
    /// [`VmmError::Save`] when the files cannot be written; [`VmmError::Control`] when QEMU refuses. The
    /// machine is unchanged.
    ///
    /// A save whose future is dropped stops soon, and removes the folder.
    pub async fn save(
        &self,
        folder: &Utf8Path,
        form: SaveForm,
    ) -> Result<MachineManifest, VmmError> {
        let failed = |source| VmmError::Save {
            machine: self.spec.name.clone(),
            folder: folder.to_owned(),
            source,
        };
        let created = folder.to_owned();
        let created = tokio::task::spawn_blocking(move || {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(created)
        });
        created
            .await
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(failed)?;
        let devices = folder.join(DEVICES);
        // With `live`, QEMU would take its disks for another process's from now on.
        let settled = (self.nics.settled().await, self.disks.settled().await);
        let arguments = json!({"filename": devices.as_str(), "live": false});
        self.control
            .query("xen-save-devices-state", arguments)
            .await?;
        let console_start = match form {
            SaveForm::Template => self.console_start,
            SaveForm::Whole | SaveForm::OnBase => 0,
        };
        let console = self.console.read_settled_from(console_start);
        let console = console.map_err(|error| failed(io::Error::other(error)))?;
        let mut manifest = MachineManifest::of(
            &self.spec,
            self.version.to_string(),
            self.rng_served.load(Ordering::Relaxed),
        );
        (manifest.nics, manifest.disks) = self.attached().await?;
        drop(settled);
        let firmware = self.firmware().await?;
        manifest.firmware_at = firmware.map(|(location, _)| location.address);
        manifest.whole = form != SaveForm::OnBase || !self.has_base;
        let parts = SaveJob {
            folder: folder.to_owned(),
            console,
            pid: self.pid,
            firmware,
            memory: self.memory.try_clone().map_err(failed)?,
            has_base: self.has_base,
            initrd: match &self.initrd {
                Some(initrd) => Some(initrd.try_clone().map_err(failed)?),
                None => None,
            },
            manifest,
            cancelled: Arc::default(),
        };
        let cancel = CancelOnDrop(Arc::clone(&parts.cancelled));
        let written = tokio::task::spawn_blocking(move || parts.write_or_remove()).await;
        drop(cancel);
        written
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(failed)
    }
}

impl Machine {
    async fn firmware(&self) -> Result<Option<(FirmwareLocation, u64)>, VmmError> {
        let found = async {
            let client = self.control.client();
            let Some(location) = FirmwareLocation::find(client).await? else {
                return Ok(None);
            };
            let at = firmware::host_address(client, location.address).await?;
            Ok(at.map(|at| (location, at)))
        };
        found.await.map_err(|source| VmmError::Control {
            machine: self.spec.name.clone(),
            source,
        })
    }
}

/// Tells the thread that writes to stop.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The parts that a thread writes.
struct SaveJob {
    folder: Utf8PathBuf,
    console: Vec<u8>,
    pid: u32,
    /// Where it is in the guest's memory, and in QEMU's.
    firmware: Option<(FirmwareLocation, u64)>,
    memory: GuestMemory,
    has_base: bool,
    initrd: Option<File>,
    manifest: MachineManifest,
    cancelled: Arc<AtomicBool>,
}

impl SaveJob {
    fn write_or_remove(self) -> io::Result<MachineManifest> {
        let (folder, cancelled) = (self.folder.clone(), Arc::clone(&self.cancelled));
        let written = self.write();
        if cancelled.load(Ordering::Relaxed) {
            // The owner of the folder removes it, too, perhaps at this moment.
            while let Err(error) = std::fs::remove_dir_all(&folder)
                && error.kind() == io::ErrorKind::DirectoryNotEmpty
            {}
        }
        written
    }

    /// An error once the result is not needed any more.
    fn check_wanted(&self) -> io::Result<()> {
        match self.cancelled.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    fn write(mut self) -> io::Result<MachineManifest> {
        fs_err::write(self.folder.join(CONSOLE), &self.console)?;
        self.manifest.ram_bytes = if self.manifest.whole {
            if let Some((location, at)) = self.firmware {
                let bytes = firmware::read(self.pid, at, location.length)?;
                fs_err::write(self.folder.join(FIRMWARE), bytes)?;
            }
            if let Some(initrd) = &self.initrd {
                self.copy_sparse(initrd, &self.create(INITRD)?)?;
            }
            self.write_ram()?
        } else {
            self.write_pages()?
        };
        // Last, so that a folder that has a manifest is complete.
        self.manifest.write(&self.folder)?;
        Ok(self.manifest)
    }

    /// All of RAM: the base's, if there is one, and what differs.
    fn write_ram(&self) -> io::Result<u64> {
        let ram = self.create(RAM)?;
        ram.set_len(self.memory.pages() * PAGE)?;
        let mut bytes = if self.has_base {
            self.copy_sparse(self.memory.file(), &ram)?
        } else {
            0
        };
        let over_zeros = !self.has_base;
        self.memory.each_written(self.pid, |first, piece| {
            self.check_wanted()?;
            // Over an empty file, pages of zeros can stay holes.
            for (index, page) in piece.chunks(PAGE as usize).enumerate() {
                if over_zeros && page.iter().all(|byte| *byte == 0) {
                    continue;
                }
                ram.write_all_at(page, (first + index as u64) * PAGE)?;
                bytes += page.len() as u64;
            }
            Ok(())
        })?;
        Ok(bytes)
    }

    fn write_pages(&self) -> io::Result<u64> {
        let file = BufWriter::with_capacity(1 << 20, self.create(PAGES)?);
        let mut pages = PagesWriter::new(file)?;
        let mut bytes = 0;
        self.memory.each_written(self.pid, |first, piece| {
            self.check_wanted()?;
            bytes += piece.len() as u64;
            pages.run(first, piece)
        })?;
        pages.finish()?.flush()?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        self.check_wanted()?;
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(name))
    }

    /// Copies the data and keeps the holes; returns the number of bytes copied.
    fn copy_sparse(&self, from: &File, to: &File) -> io::Result<u64> {
        use rustix::fs::{SeekFrom, seek};
        let length = from.metadata()?.len();
        to.set_len(length)?;
        let (mut at, mut copied) = (0, 0);
        let mut buffer = vec![0; 1 << 20];
        while at < length {
            self.check_wanted()?;
            let data = match seek(from, SeekFrom::Data(at)) {
                Ok(data) => data,
                Err(rustix::io::Errno::NXIO) => break,
                Err(error) => return Err(error.into()),
            };
            let hole = seek(from, SeekFrom::Hole(data))?;
            at = data;
            while at < hole {
                let count = (hole - at).min(buffer.len() as u64);
                let piece = &mut buffer[..count as usize];
                from.read_exact_at(piece, at)?;
                to.write_all_at(piece, at)?;
                at += count;
                copied += count;
            }
        }
        Ok(copied)
    }
}
