//! The file of pages that differ from a base.
//!
//! ```text
//! "PVMPAGES" | u32 version | u32 page size | { u64 first page | u64 count | count pages }* | u64::MAX
//! ```
//!
//! All numbers are little-endian. Runs are in ascending order and do not touch RAM past its end; the
//! reader holds a file to that, as it may be damaged.

use std::io::{self, Read, Write};

use super::memory::PAGE;

const MAGIC: &[u8; 8] = b"PVMPAGES";
const VERSION: u32 = 1;
const END: u64 = u64::MAX;

/// Writes runs of pages.
pub(crate) struct PagesWriter<W: Write>(W);

impl<W: Write> PagesWriter<W> {
    pub(crate) fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        // A page's size fits: it is 4096.
        out.write_all(&(PAGE as u32).to_le_bytes())?;
        Ok(Self(out))
    }

    /// A run of whole pages, the first being page number `first`.
    pub(crate) fn run(&mut self, first: u64, bytes: &[u8]) -> io::Result<()> {
        let count = bytes.len() as u64 / PAGE;
        self.0.write_all(&first.to_le_bytes())?;
        self.0.write_all(&count.to_le_bytes())?;
        self.0.write_all(bytes)
    }

    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.0.write_all(&END.to_le_bytes())?;
        self.0.flush()?;
        Ok(self.0)
    }
}

/// Reads what [`PagesWriter`] wrote.
pub(crate) struct PagesReader<R: Read> {
    input: R,
    /// Pages of the RAM that it is for.
    limit: u64,
    next: u64,
    buffer: Vec<u8>,
}

/// Longest piece that is given at once, pages.
const PIECE: u64 = 256;

impl<R: Read> PagesReader<R> {
    /// Of a machine with so many pages of RAM.
    pub(crate) fn new(mut input: R, limit: u64) -> io::Result<Self> {
        let mut head = [0; 16];
        input.read_exact(&mut head)?;
        let mut expected = MAGIC.to_vec();
        expected.extend(VERSION.to_le_bytes());
        expected.extend((PAGE as u32).to_le_bytes());
        if head[..] != expected[..] {
            return Err(damaged("it does not begin like a file of pages"));
        }
        Ok(Self {
            input,
            limit,
            next: 0,
            buffer: Vec::new(),
        })
    }

    /// Gives all pages, in pieces, to `take`: the first page's number, and the bytes.
    pub(crate) fn each(
        mut self,
        mut take: impl FnMut(u64, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        loop {
            let first = self.number()?;
            if first == END {
                return Ok(());
            }
            let count = self.number()?;
            let end = first.checked_add(count).filter(|end| *end <= self.limit);
            let Some(end) = end.filter(|_| first >= self.next && count > 0) else {
                return Err(damaged("its runs are out of order or past the end of RAM"));
            };
            self.next = end;
            let mut page = first;
            while page < end {
                let pages = (end - page).min(PIECE);
                self.buffer.resize((pages * PAGE) as usize, 0);
                self.input.read_exact(&mut self.buffer)?;
                take(page, &self.buffer)?;
                page += pages;
            }
        }
    }

    fn number(&mut self) -> io::Result<u64> {
        let mut bytes = [0; 8];
        self.input.read_exact(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(runs: &[(u64, u64)]) -> Vec<u8> {
        let mut writer = PagesWriter::new(Vec::new()).unwrap();
        for &(first, count) in runs {
            writer
                .run(first, &vec![first as u8; (count * PAGE) as usize])
                .unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8], limit: u64) -> io::Result<Vec<(u64, usize, u8)>> {
        let mut found = Vec::new();
        PagesReader::new(bytes, limit)?.each(|page, bytes| {
            found.push((page, bytes.len(), bytes[0]));
            Ok(())
        })?;
        Ok(found)
    }

    #[test]
    fn runs_come_back_in_pieces() {
        let bytes = written(&[(1, 2), (9, PIECE + 1)]);
        let found = read(&bytes, 1000).unwrap();
        assert_eq!(
            found,
            [
                (1, 8192, 1),
                (9, (PIECE * PAGE) as usize, 9),
                (9 + PIECE, 4096, 9)
            ]
        );
        assert_eq!(read(&written(&[]), 0).unwrap(), []);
    }

    /// The file format: a change needs a new version.
    #[test]
    fn golden() {
        let bytes = written(&[(3, 1)]);
        assert_eq!(&bytes[..16], b"PVMPAGES\x01\0\0\0\0\x10\0\0");
        assert_eq!(&bytes[16..32], b"\x03\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0");
        assert_eq!(&bytes[32 + 4096..], [0xff; 8]);
    }

    #[test]
    fn damage_is_seen() {
        let good = written(&[(1, 1), (4, 2)]);
        for end in 0..good.len() {
            assert!(read(&good[..end], 10).is_err(), "cut at {end}");
        }
        assert!(read(&good, 5).is_err(), "past the end of RAM");
        assert!(read(&written(&[(4, 1), (4, 1)]), 10).is_err(), "twice");
        assert!(read(&written(&[(u64::MAX - 1, 1)]), 10).is_err());
        assert!(read(&written(&[(1, 0)]), 10).is_err(), "empty");
    }
}
