//! The layers with the content of a disk: a base, and the overlay above it.

use crate::base::BaseLayer;
use crate::geometry::{BLOCK, SECTOR, Span, to_usize};
use crate::overlay::{Address, BlockMap, Place, Run, Runs, SlotFile, Slots, block_buffer};
use camino::Utf8PathBuf;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The content of a disk. `state` knows which part of it is durable, and the content before.
#[derive(Debug)]
pub(crate) struct Layers {
    pub(crate) sectors: u64,
    pub(crate) base: BaseLayer,
    /// The folder for files of the overlay.
    pub(crate) scratch: Utf8PathBuf,
    /// All files of the overlay. All but the last are sealed.
    pub(crate) files: Vec<Arc<SlotFile>>,
    /// The slots of the last file; none if that is sealed as well.
    pub(crate) slots: Option<Slots>,
    pub(crate) map: BlockMap,
}

/// Slots that a write has taken and fills.
pub(crate) struct TakenSlots {
    file: Arc<SlotFile>,
    id: u16,
    slot: u64,
    blocks: u64,
}

impl TakenSlots {
    /// Writes data, `skip` bytes after the start of the first slot.
    pub(crate) fn write(&self, skip: u64, data: &[u8]) -> io::Result<()> {
        self.file.write(self.slot, skip, data)
    }

    /// Where the first block is.
    pub(crate) fn address(&self) -> Address {
        Address::slot(self.id, self.slot)
    }

    /// Where the blocks are.
    pub(crate) fn runs(&self) -> Runs {
        Runs::one(self.address(), self.blocks)
    }
}

impl Layers {
    /// Layers with the content of the base.
    pub(crate) fn new(sectors: u64, base: BaseLayer, scratch: Utf8PathBuf) -> Self {
        Self {
            sectors,
            base,
            scratch,
            files: Vec::new(),
            slots: None,
            map: BlockMap::default(),
        }
    }

    /// Reads bytes; the range is within the disk.
    pub(crate) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let first = offset / BLOCK;
        let end = (offset + buffer.len() as u64).div_ceil(BLOCK);
        let mut skip = offset % BLOCK;
        let mut block = first;
        let mut rest = buffer;
        for run in self.map.runs_in(first, end - first) {
            let length = (run.blocks * BLOCK - skip).min(rest.len() as u64);
            let (part, after) = rest.split_at_mut(to_usize(length));
            self.read_run(run.address, block, skip, part)?;
            rest = after;
            block += run.blocks;
            skip = 0;
        }
        Ok(())
    }

    fn read_run(&self, address: Address, block: u64, skip: u64, part: &mut [u8]) -> io::Result<()> {
        match address.place() {
            Place::Base => self.base.read(block * BLOCK + skip, part),
            Place::Zeroes => {
                part.fill(0);
                Ok(())
            }
            Place::Slot { file, slot } => match self.files.get(usize::from(file)) {
                Some(file) => file.read(slot, skip, part),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
        }
    }

    /// A block as it is, or was, at an address.
    pub(crate) fn read_block(&self, block: u64, address: Address) -> io::Result<[u8; 4096]> {
        let mut buffer = block_buffer();
        self.read_run(address, block, 0, &mut buffer)?;
        Ok(buffer)
    }

    /// The address of blocks that are zeroes.
    pub(crate) fn zeroes(&self) -> Address {
        match self.base {
            BaseLayer::Zeroes => Address::BASE,
            BaseLayer::Image(_) | BaseLayer::InPlace(_) => Address::ZEROES,
        }
    }

    /// Takes slots that follow each other, for the caller to fill.
    pub(crate) fn take(&mut self, blocks: u64) -> io::Result<TakenSlots> {
        if self.slots.is_none() {
            self.files.push(Arc::new(SlotFile::create(&self.scratch)?));
            self.slots = Some(Slots::default());
        }
        let (Some(slots), Some(file)) = (&mut self.slots, self.files.last()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        Ok(TakenSlots {
            file: Arc::clone(file),
            id: u16::try_from(self.files.len() - 1).map_err(io::Error::other)?,
            slot: slots.take(blocks),
            blocks,
        })
    }

    /// Whether slots were taken from the file that is still being written to.
    pub(crate) fn is_current(&self, taken: &TakenSlots) -> bool {
        self.slots.is_some()
            && (self.files.last()).is_some_and(|file| Arc::ptr_eq(file, &taken.file))
    }

    /// Frees what was taken, after a failure.
    pub(crate) fn give_back(&mut self, taken: &TakenSlots) {
        if self.is_current(taken) {
            self.release(&taken.runs(), false);
        }
    }

    /// Frees the slots that nothing refers to any more. Those of sealed files are not reused.
    pub(crate) fn release(&mut self, runs: &Runs, punch: bool) {
        let Some(slots) = &mut self.slots else { return };
        let current = self.files.len() - 1;
        for run in runs.iter() {
            if let Place::Slot { file, slot } = run.address.place()
                && usize::from(file) == current
            {
                slots.free(slot, run.blocks);
                if punch && let Some(file) = self.files.last() {
                    file.punch(slot, run.blocks);
                }
            }
        }
    }

    /// A block: the sectors of a span from one address, the rest from another one.
    pub(crate) fn read_composed(
        &self,
        block: u64,
        below: Address,
        above: Address,
        span: Span,
    ) -> io::Result<[u8; 4096]> {
        let mut data = self.read_block(block, below)?;
        let covered = span.within(block);
        data[covered.clone()].copy_from_slice(&self.read_block(block, above)?[covered]);
        Ok(data)
    }

    /// Writes a block to a new slot: the sectors of a span from one address, the rest from another one.
    pub(crate) fn compose(
        &mut self,
        block: u64,
        below: Address,
        above: Address,
        span: Span,
    ) -> io::Result<Address> {
        let data = self.read_composed(block, below, above, span)?;
        let taken = self.take(1)?;
        match taken.write(0, &data) {
            Ok(()) => Ok(taken.address()),
            Err(error) => {
                self.give_back(&taken);
                Err(error)
            }
        }
    }

    /// Copies a run to the same place of an image.
    pub(crate) fn copy_to(&self, image: &File, first: u64, run: Run) -> io::Result<()> {
        let mut buffer = vec![0; to_usize((run.blocks * BLOCK).min(1 << 20))];
        let (mut at, end) = (
            first * BLOCK,
            ((first + run.blocks) * BLOCK).min(self.sectors * SECTOR),
        );
        while at < end {
            let part = &mut buffer[..to_usize((end - at).min(1 << 20))];
            let address = run.address.after(at / BLOCK - first);
            self.read_run(address, at / BLOCK, 0, part)?;
            image.write_all_at(part, at)?;
            at += part.len() as u64;
        }
        Ok(())
    }
}
