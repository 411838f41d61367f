//! The content of a disk at a point of the log, and its hash.

use crate::geometry::Span;
use crate::layers::Layers;
use crate::overlay::{Address, BlockMap, Place, Run, Runs};
use crate::record::Record;
use std::collections::HashMap;
use std::io;

/// A content.
#[derive(Debug, Clone)]
pub(crate) struct CrashImage {
    pub(crate) map: BlockMap,
    /// The sum of the hashes of all blocks that were changed since the start of the log, less those that they had.
    pub(crate) hash: u128,
}

/// Makes contents. Blocks that have sectors of several writes are put together in slots of a file that all contents
/// share.
#[derive(Debug)]
pub(crate) struct ImageBuilder {
    pub(crate) layers: Layers,
    hashes: HashMap<(u64, Address), u128>,
    composed: HashMap<u128, Address>,
}

impl ImageBuilder {
    /// With the base and the files of a disk.
    pub(crate) fn new(layers: Layers) -> Self {
        Self {
            layers,
            hashes: HashMap::new(),
            composed: HashMap::new(),
        }
    }

    /// Applies the first sectors of a write.
    pub(crate) fn apply(
        &mut self,
        image: &mut CrashImage,
        record: &Record,
        sectors: u64,
    ) -> io::Result<()> {
        if sectors == 0 || record.span.count == 0 {
            return Ok(());
        }
        let is_torn = sectors < record.span.count;
        let span = Span {
            count: sectors,
            ..record.span
        };
        let first = span.first_block();
        let old = image.map.runs(first, span.blocks());
        let (mut new, _) = record.new.split(span.blocks());
        for block in span.edges(self.layers.sectors) {
            let below = image.map.get(block);
            if is_torn || record.old.get(block - first) != Some(below) {
                let above = new.get(block - first).unwrap_or(below);
                let address = self.compose(block, below, above, span)?;
                new = new.with(block - first, address);
            }
        }
        let lost = self.sum(first, &old)?;
        let gained = self.sum(first, &new)?;
        image.hash = image.hash.wrapping_sub(lost).wrapping_add(gained);
        image.map.set(first, &new);
        Ok(())
    }

    fn compose(
        &mut self,
        block: u64,
        below: Address,
        above: Address,
        span: Span,
    ) -> io::Result<Address> {
        let data = self.layers.read_composed(block, below, above, span)?;
        let hash = block_hash(block, &data);
        if let Some(&address) = self.composed.get(&hash) {
            return Ok(address);
        }
        let taken = self.layers.take(1)?;
        taken.write(0, &data)?;
        self.composed.insert(hash, taken.address());
        self.hashes.insert((block, taken.address()), hash);
        Ok(taken.address())
    }

    fn sum(&mut self, first: u64, runs: &Runs) -> io::Result<u128> {
        let mut sum = 0u128;
        let mut block = first;
        for Run { address, blocks } in runs.iter() {
            if address != Address::ZEROES && address != self.layers.zeroes() {
                for at in 0..blocks {
                    sum = sum.wrapping_add(self.hash(block + at, address.after(at))?);
                }
            }
            block += blocks;
        }
        Ok(sum)
    }

    fn hash(&mut self, block: u64, address: Address) -> io::Result<u128> {
        if address.place() == Place::Zeroes {
            return Ok(0);
        }
        if let Some(&hash) = self.hashes.get(&(block, address)) {
            return Ok(hash);
        }
        let hash = block_hash(block, &self.layers.read_block(block, address)?);
        self.hashes.insert((block, address), hash);
        Ok(hash)
    }
}

/// The hash of a block at its place; 0 for zeroes, so that a discarded range costs nothing.
fn block_hash(block: u64, data: &[u8]) -> u128 {
    if data.iter().all(|&byte| byte == 0) {
        return 0;
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update(&block.to_le_bytes()).update(data);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}
