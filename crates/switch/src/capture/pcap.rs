//! The classic file format of libpcap, with times in nanoseconds (`pcap-savefile(5)`).
//!
//! | offset | bytes | file header |
//! |---|---|---|
//! | 0 | 4 | magic number 0xa1b23c4d: times in nanoseconds |
//! | 4 | 2 + 2 | version 2.4 |
//! | 8 | 4 + 4 | reserved |
//! | 16 | 4 | snapshot length |
//! | 20 | 4 | link type 1: Ethernet |
//!
//! Each frame follows its own header: seconds, nanoseconds, captured bytes, bytes on the wire, 4 bytes each.
//! All numbers are little-endian here; readers recognise the order by the magic number.

use std::io::{self, Write};
use std::time::Duration;

const MAGIC: u32 = 0xa1b2_3c4d;
const LINK_TYPE_ETHERNET: u32 = 1;
/// Bytes of a frame that are kept, at most: all of the longest frame.
pub const SNAPSHOT_LENGTH: u32 = 262_144;

/// Writes frames to a file.
#[derive(Debug)]
pub struct PcapWriter<W> {
    out: W,
}

impl<W: Write> PcapWriter<W> {
    /// Writes the file header.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn new(mut out: W) -> io::Result<Self> {
        let mut header = Vec::with_capacity(24);
        header.extend(MAGIC.to_le_bytes());
        header.extend(2_u16.to_le_bytes());
        header.extend(4_u16.to_le_bytes());
        header.extend([0; 8]);
        header.extend(SNAPSHOT_LENGTH.to_le_bytes());
        header.extend(LINK_TYPE_ETHERNET.to_le_bytes());
        out.write_all(&header)?;
        Ok(Self { out })
    }

    /// Writes a frame; `time`: since the epoch.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn write(&mut self, time: Duration, frame: &[u8]) -> io::Result<()> {
        // The format has 32 bits for seconds, which end in 2106.
        let seconds = u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let captured = length.min(SNAPSHOT_LENGTH);
        let fields = [seconds, time.subsec_nanos(), captured, length];
        for field in fields {
            self.out.write_all(&field.to_le_bytes())?;
        }
        self.out.write_all(&frame[..captured as usize])
    }

    /// Writes out what is buffered and returns the writer.
    ///
    /// # Errors
    /// Those of the writer.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format() {
        let mut writer = PcapWriter::new(Vec::new()).expect("a vector");
        writer
            .write(Duration::new(0x0102, 3), b"frame")
            .expect("a vector");
        let written = writer.finish().expect("a vector");
        let expected = [
            &b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0"[..],
            b"\x02\x01\0\0\x03\0\0\0\x05\0\0\0\x05\0\0\0frame",
        ];
        assert_eq!(written, expected.concat());
    }
}
