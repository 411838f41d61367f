//! An append-only log of bytes: in memory while it is short, then in a file without a name.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// How much is kept in memory, bytes. A quiet boot prints nothing, a verbose one 50 KiB; only consoles with
/// long output need a file.
const IN_MEMORY: usize = 1 << 20;

/// An append-only log.
#[derive(Debug)]
pub(crate) struct Spool {
    location: SpoolLocation,
    len: u64,
    memory_limit: usize,
}

#[derive(Debug)]
enum SpoolLocation {
    Memory(Vec<u8>),
    /// Removed from its folder when it was made.
    File(File),
}

impl Default for Spool {
    fn default() -> Self {
        Self::with_memory(IN_MEMORY)
    }
}

impl Spool {
    pub(crate) fn with_memory(memory_limit: usize) -> Self {
        Self {
            location: SpoolLocation::Memory(Vec::new()),
            len: 0,
            memory_limit,
        }
    }

    /// Bytes in it.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Adds `bytes` at the end, all or (on error) none.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let SpoolLocation::Memory(memory) = &mut self.location {
            if memory.len() + bytes.len() <= self.memory_limit {
                memory.extend_from_slice(bytes);
                self.len += bytes.len() as u64;
                return Ok(());
            }
            let file = tempfile::tempfile()?;
            file.write_all_at(memory, 0)?;
            self.location = SpoolLocation::File(file);
        }
        if let SpoolLocation::File(file) = &self.location {
            file.write_all_at(bytes, self.len)?;
        }
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Up to `most` bytes from `position` on; fewer only at the end.
    pub(crate) fn read(&self, position: u64, most: usize) -> io::Result<Vec<u8>> {
        let there = usize::try_from(self.len.saturating_sub(position)).unwrap_or(usize::MAX);
        let count = there.min(most);
        if count == 0 {
            return Ok(Vec::new());
        }
        match &self.location {
            SpoolLocation::Memory(memory) => {
                // `count` is not 0, so `position` is inside `memory`.
                let start = usize::try_from(position).unwrap_or(usize::MAX);
                Ok(memory.iter().skip(start).take(count).copied().collect())
            }
            SpoolLocation::File(file) => {
                let mut bytes = vec![0; count];
                file.read_exact_at(&mut bytes, position)?;
                Ok(bytes)
            }
        }
    }
}

#[cfg(test)]
impl Spool {
    /// From now on, no byte can be added.
    pub(super) fn fail_writes(&mut self) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        io::Write::write_all(&mut file, &self.read(0, usize::MAX).unwrap()).unwrap();
        self.location = SpoolLocation::File(File::open(file.path()).unwrap());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_the_same_in_memory_and_in_a_file() {
        for memory in [0, 10, 1 << 20] {
            let mut spool = Spool::with_memory(memory);
            for piece in [&b"one\r\n"[..], b"", b"\0\xfftwo", b"three"] {
                spool.append(piece).unwrap();
            }
            assert_eq!(spool.len(), 15);
            assert_eq!(spool.read(0, usize::MAX).unwrap(), b"one\r\n\0\xfftwothree");
            assert_eq!(spool.read(5, 2).unwrap(), b"\0\xff");
            assert_eq!(spool.read(10, 100).unwrap(), b"three");
            assert_eq!(
                (spool.read(15, 1).unwrap(), spool.read(99, 1).unwrap()),
                (vec![], vec![])
            );
        }
    }
}
