//! The compressions that kernels, initial RAM file systems and modules come in.
//!
//! Every output is bounded by its caller. LZO is recognised but not unpacked: no kept library reads
//! it, and a kernel packed so can unpack itself.

use flate2::bufread::GzDecoder;
use std::io::{self, Read};

/// First bytes of each format, as the kernel knows them (lib/decompress.c).
const MAGICS: [(&[u8], Format); 8] = [
    (&[0x1f, 0x8b], Format::Gzip),
    (&[0x1f, 0x9e], Format::Gzip),
    (b"BZh", Format::Bzip2),
    (&[0x5d, 0x00, 0x00], Format::Lzma),
    (b"\xfd7zXZ\0", Format::Xz),
    (&[0x02, 0x21, 0x4c, 0x18], Format::Lz4Legacy),
    (&[0x28, 0xb5, 0x2f, 0xfd], Format::Zstd),
    (&[0x89, b'L', b'Z', b'O'], Format::Lzo),
];

/// What a block of the legacy LZ4 format unpacks to at most, bytes.
const LZ4_BLOCK: usize = 8 << 20;

/// Largest window of a zstd frame: what `zstd --ultra -22` needs, and more than a module's or a
/// kernel's content ever has.
const ZSTD_WINDOW_LOG: u32 = 28;

/// What an LZMA or XZ stream may ask for, KiB.
const LZMA_MEMORY: u32 = 256 << 10;

/// How some bytes are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) enum Format {
    Gzip,
    Bzip2,
    Lzma,
    Xz,
    Lz4Legacy,
    Zstd,
    Lzo,
}

impl Format {
    /// The format that starts like this, if it is one.
    pub(crate) fn detect(bytes: &[u8]) -> Option<Self> {
        MAGICS
            .iter()
            .find(|(magic, _)| bytes.starts_with(magic))
            .map(|(_, format)| *format)
    }

    /// The format of a file of that name; `None` when it has no ending of the kind.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        Some(match name.rsplit_once('.')?.1 {
            "gz" => Self::Gzip,
            "xz" => Self::Xz,
            "zst" => Self::Zstd,
            _ => return None,
        })
    }

    /// Unpacks one stream from the start of `input`, and leaves `input` behind it (LZMA: its library
    /// reads ahead, so `input` may be further).
    ///
    /// # Errors
    /// If the stream is damaged or ends early, if it is longer than `limit`, or if it is LZO.
    pub(crate) fn unpack(self, input: &mut &[u8], limit: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => bounded(GzDecoder::new(input), limit),
            Self::Bzip2 => bounded(bzip2::bufread::BzDecoder::new(input), limit),
            Self::Lzma => bounded(
                lzma_rust2::LzmaReader::new_mem_limit(input, LZMA_MEMORY, None)?,
                limit,
            ),
            Self::Xz => bounded(
                lzma_rust2::XzReader::new_mem_limit(input, false, LZMA_MEMORY),
                limit,
            ),
            Self::Lz4Legacy => lz4_legacy(input, limit),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?.single_frame();
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                bounded(decoder, limit)
            }
            Self::Lzo => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "LZO compression is not supported; gzip, xz, lz4 and zstd are",
            )),
        }
    }

    /// A stream of what the stream `input` unpacks to.
    pub(crate) fn reader<'a>(self, input: impl io::BufRead + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(GzDecoder::new(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::BzDecoder::new(input)),
            Self::Lzma => Box::new(lzma_rust2::LzmaReader::new_mem_limit(
                input,
                LZMA_MEMORY,
                None,
            )?),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(
                input,
                true,
                LZMA_MEMORY,
            )),
            Self::Zstd => {
                let mut decoder = zstd::Decoder::with_buffer(input)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Lz4Legacy | Self::Lzo => {
                let what = "this compression is not read as a stream";
                return Err(io::Error::new(io::ErrorKind::Unsupported, what));
            }
        })
    }
}

/// Everything that `reader` gives, if that is not more than `limit`.
pub(crate) fn bounded(reader: impl Read, limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    reader.take(limit as u64 + 1).read_to_end(&mut out)?;
    if out.len() > limit {
        Err(too_long(limit))
    } else {
        Ok(out)
    }
}

/// The format of `lz4 -l`: after the magic number, blocks with their packed length before each. It
/// has no end mark; another magic number, a length that no block can have, or a padding of zeros
/// ends it, as for the kernel.
fn lz4_legacy(input: &mut &[u8], limit: usize) -> io::Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut block = vec![0; LZ4_BLOCK];
    *input = input.get(4..).unwrap_or_default();
    while let Some((length, rest)) = input.split_first_chunk() {
        let length = u32::from_le_bytes(*length) as usize;
        if length == 0 || length > lz4_flex::block::get_maximum_output_size(LZ4_BLOCK) {
            break;
        }
        let packed = rest.get(..length).ok_or(io::ErrorKind::UnexpectedEof)?;
        let unpacked = lz4_flex::block::decompress_into(packed, &mut block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if out.len() + unpacked > limit {
            return Err(too_long(limit));
        }
        out.extend_from_slice(&block[..unpacked]);
        *input = &rest[length..];
    }
    Ok(out)
}

fn too_long(limit: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("it unpacks to more than {limit} bytes"),
    )
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write as _;

    pub(crate) fn lz4_legacy_of(content: &[u8]) -> Vec<u8> {
        let mut out = vec![0x02, 0x21, 0x4c, 0x18];
        for block in content.chunks(LZ4_BLOCK) {
            let packed = lz4_flex::block::compress(block);
            out.extend(u32::try_from(packed.len()).unwrap().to_le_bytes());
            out.extend(packed);
        }
        out
    }

    pub(crate) fn gzip_of(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn bzip2_of(content: &[u8]) -> Vec<u8> {
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    /// `printf 'hello\n' | xz --check=crc32 --x86 --lzma2`, as kernels are packed.
    const XZ: &[u8] = include_bytes!("../tests/data/hello.xz");
    /// `printf 'hello\n' | xz --format=lzma`.
    const LZMA: &[u8] = include_bytes!("../tests/data/hello.lzma");

    #[test]
    fn every_format_is_recognised_and_unpacked_to_its_own_end() {
        let long: Vec<u8> = (0..9_000_000_u32).map(|n| (n / 3) as u8).collect();
        let cases: [(Format, Vec<u8>, &[u8]); 6] = [
            (Format::Gzip, gzip_of(&long), &long),
            (Format::Bzip2, bzip2_of(&long[..1000]), &long[..1000]),
            (Format::Zstd, zstd::encode_all(&long[..], 1).unwrap(), &long),
            (Format::Lz4Legacy, lz4_legacy_of(&long), &long),
            (Format::Xz, XZ.to_vec(), b"hello\n"),
            (Format::Lzma, LZMA.to_vec(), b"hello\n"),
        ];
        for (format, mut packed, content) in cases {
            assert_eq!(Format::detect(&packed), Some(format));
            let length = packed.len();
            packed.extend([0; 9]);
            let mut input = &packed[..];
            let unpacked = format.unpack(&mut input, long.len()).unwrap();
            assert!(unpacked == content, "{format:?}");
            if format != Format::Lzma {
                assert_eq!(packed.len() - input.len(), length, "{format:?}");
            }

            let error = format
                .unpack(&mut &packed[..], content.len() - 1)
                .unwrap_err();
            assert!(
                error.to_string().contains("more than"),
                "{format:?}: {error}"
            );
            assert!(
                format
                    .unpack(&mut &packed[..length / 2], long.len())
                    .is_err(),
                "{format:?}"
            );
        }
    }

    #[test]
    fn lzo_says_so() {
        let packed = b"\x89LZO\0\r\n\x1a\n";
        assert_eq!(Format::detect(packed), Some(Format::Lzo));
        let error = Format::Lzo.unpack(&mut &packed[..], 10).unwrap_err();
        assert!(error.to_string().contains("LZO"));
    }
}
