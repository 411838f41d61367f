//! Initial RAM file systems as people have them: archives, packed or not, one behind the other.
//!
//! They are unpacked on the host, once: inside a guest it would take time at each boot.

use crate::compress::Format;
use crate::cpio::{self, MAGIC, MAGIC_CRC};

/// Unpacked, it is not longer than this, bytes.
const MAX_UNPACKED_BYTES: usize = 4 << 30;

/// Archives start at multiples of this: the kernel asks for 4.
const BLOCK: usize = 512;

/// What to boot with.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Initrd {
    /// The file as it is.
    AsItIs,
    /// These archives, which were in it.
    Archives(Vec<u8>),
}

/// The kind of a file with this content, or why it is not an initial RAM file system.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Initrd, String> {
    let mut rest = bytes;
    let mut archives = Vec::new();
    let mut was_packed = false;
    loop {
        let zeros = rest.iter().take_while(|byte| **byte == 0).count();
        rest = &rest[zeros..];
        if rest.is_empty() {
            break;
        }
        if rest.starts_with(MAGIC) || rest.starts_with(MAGIC_CRC) {
            let length = cpio::archive_len(rest).map_err(|error| error.to_string())?;
            archives.extend_from_slice(&rest[..length]);
            rest = &rest[length..];
        } else {
            let Some(format) = Format::detect(rest) else {
                // The kernel warns about data after the last archive, and continues.
                if !archives.is_empty() {
                    return Ok(Initrd::AsItIs);
                }
                return Err("it is neither a cpio archive nor a packed one".to_owned());
            };
            if format == Format::Lzo {
                return Ok(Initrd::AsItIs);
            }
            let unpacked = format
                .unpack(&mut rest, MAX_UNPACKED_BYTES)
                .map_err(|error| error.to_string())?;
            let entries = cpio::read_entries(&mut std::io::Cursor::new(&unpacked), |_| ());
            entries.map_err(|error| format!("unpacked, {error}"))?;
            archives.extend_from_slice(&unpacked);
            was_packed = true;
        }
        archives.resize(archives.len().next_multiple_of(BLOCK), 0);
    }
    if archives.is_empty() {
        return Err("it is empty".to_owned());
    }
    Ok(if was_packed {
        Initrd::Archives(archives)
    } else {
        Initrd::AsItIs
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::{gzip_of, lz4_legacy_of};
    use crate::node::Node;
    use crate::tree::Tree;

    fn archive(name: &str) -> Vec<u8> {
        let mut tree = Tree::default();
        tree.put(name.as_bytes(), Node::file(0o644, name)).unwrap();
        tree.write_to(Vec::new()).unwrap()
    }

    #[test]
    fn microcode_before_a_packed_archive_stays() {
        let (early, main) = (archive("early"), archive("main"));
        for packed in [gzip_of(&main), lz4_legacy_of(&main)] {
            let whole = [&early[..], &packed, &[0; 5]].concat();
            let expected = Initrd::Archives([&early[..], &main].concat());
            assert_eq!(inspect(&whole), Ok(expected));
        }
        assert_eq!(inspect(&[early, main].concat()), Ok(Initrd::AsItIs));
        assert_eq!(inspect(b"\x89LZO\0"), Ok(Initrd::AsItIs));
    }

    #[test]
    fn damaged_files_are_refused_with_a_reason() {
        let packed = gzip_of(&archive("main"));
        for (bytes, why) in [
            (&b""[..], "empty"),
            (&[0; 512], "empty"),
            (b"text", "neither"),
            (&packed[..packed.len() / 2], ""),
            (&archive("main")[..100], "middle"),
            (&gzip_of(b"some text"), "unpacked, it does not start"),
        ] {
            let error = inspect(bytes).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
