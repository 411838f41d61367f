//! Writing a machine down that stands still. It can go on afterwards.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::sync::atomic::Ordering;

use camino::{Utf8Path, Utf8PathBuf};
use serde_json::json;

use super::handle::Machine;
use crate::error::VmmError;
use crate::saved::firmware::{self, FirmwarePlace};
use crate::saved::{
    CONSOLE, DEVICES, FIRMWARE, GuestMemory, INITRD, MachineFacts, PAGE, PAGES, PagesWriter, RAM,
};

/// How much of a machine's RAM is written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SaveForm {
    /// All of it. Costs what the guest uses; machines restored from it share all of that.
    Whole,
    /// What differs from the saved machine that this one was restored from. Costs what the guest has
    /// written since; each machine restored from it has a copy of that. A machine that was booted is
    /// saved whole.
    OnBase,
}

impl Machine {
    /// Writes the machine, which must be [paused](Machine::pause), into `folder`, which is made if it
    /// is not there. The folder is complete when `machine.json` is in it. Nothing is synced.
    ///
    /// # Errors
    /// [`VmmError::Save`] when the host cannot; QEMU's words otherwise. The machine is as it was.
    pub async fn save(&self, folder: &Utf8Path, form: SaveForm) -> Result<MachineFacts, VmmError> {
        let failed = |source| VmmError::Save {
            machine: self.spec.name.clone(),
            folder: folder.to_owned(),
            source,
        };
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(failed)?;
        let devices = folder.join(DEVICES);
        // `live`: else QEMU takes its disks for another process's from now on.
        let with = json!({"filename": devices.as_str(), "live": false});
        self.command_with("xen-save-devices-state", with).await?;
        let console = self.console.read_settled();
        let console = console.map_err(|error| failed(io::Error::other(error)))?;
        let mut facts = MachineFacts::of(
            &self.spec,
            self.version.to_string(),
            self.rng_served.load(Ordering::Relaxed),
        );
        let firmware = self.firmware().await?;
        facts.firmware_at = firmware.map(|(place, _)| place.address);
        facts.whole = form == SaveForm::Whole || !self.has_base;
        let parts = Parts {
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
            facts,
        };
        let written = tokio::task::spawn_blocking(move || parts.write()).await;
        written
            .unwrap_or_else(|error| Err(error.into()))
            .map_err(failed)
    }
}

impl Machine {
    async fn firmware(&self) -> Result<Option<(FirmwarePlace, u64)>, VmmError> {
        let found = async {
            let Some(place) = FirmwarePlace::ask(&self.client).await? else {
                return Ok(None);
            };
            let at = firmware::host_address(&self.client, place.address).await?;
            Ok(at.map(|at| (place, at)))
        };
        found.await.map_err(|source| VmmError::Control {
            machine: self.spec.name.clone(),
            source,
        })
    }
}

/// What is written.
struct Parts {
    folder: Utf8PathBuf,
    console: Vec<u8>,
    pid: u32,
    /// Where it is for the guest, and in QEMU.
    firmware: Option<(FirmwarePlace, u64)>,
    memory: GuestMemory,
    has_base: bool,
    initrd: Option<File>,
    facts: MachineFacts,
}

impl Parts {
    fn write(mut self) -> io::Result<MachineFacts> {
        fs_err::write(self.folder.join(CONSOLE), &self.console)?;
        self.facts.ram_bytes = if self.facts.whole {
            if let Some((place, at)) = self.firmware {
                let bytes = firmware::read(self.pid, at, place.length)?;
                fs_err::write(self.folder.join(FIRMWARE), bytes)?;
            }
            if let Some(initrd) = &self.initrd {
                copy_sparse(initrd, &self.create(INITRD)?)?;
            }
            self.write_ram()?
        } else {
            self.write_pages()?
        };
        // Last, so that a folder with facts is a whole one.
        self.facts.write(&self.folder)?;
        Ok(self.facts)
    }

    /// All of RAM: the base's, if there is one, and what differs.
    fn write_ram(&self) -> io::Result<u64> {
        let ram = self.create(RAM)?;
        ram.set_len(self.memory.pages() * PAGE)?;
        let mut bytes = if self.has_base {
            copy_sparse(self.memory.file(), &ram)?
        } else {
            0
        };
        let over_zeros = !self.has_base;
        self.memory.each_written(self.pid, |first, piece| {
            // Where there is nothing below, pages of zeros need no place.
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
            bytes += piece.len() as u64;
            pages.run(first, piece)
        })?;
        pages.finish()?.flush()?;
        Ok(bytes)
    }

    fn create(&self, name: &str) -> io::Result<File> {
        use std::os::unix::fs::OpenOptionsExt as _;
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(self.folder.join(name))
    }
}

/// Copies what is data; `to` gets the same length. The number of bytes that were copied.
fn copy_sparse(from: &File, to: &File) -> io::Result<u64> {
    use rustix::fs::{SeekFrom, seek};
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let (mut at, mut copied) = (0, 0);
    let mut buffer = vec![0; 1 << 20];
    while at < length {
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
