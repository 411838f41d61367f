//! The initial RAM disk as one file without a name.
//!
//! The kernel unpacks any number of concatenated archives, each starting at a multiple of four
//! bytes; zeros between them are skipped. QEMU reads the file through `/proc/self/fd`, so nothing
//! has to be named, and nothing is left behind.

use std::fs::File;
use std::io::{self, Seek, Write};

use camino::Utf8PathBuf;
use rustix::fs::{MemfdFlags, memfd_create};

use crate::spec::InitrdPart;

/// Archives start at a multiple of this, bytes: the kernel needs 4, and `cpio` itself pads to 512.
const ALIGNMENT: u64 = 512;

/// Why the RAM disk cannot be made.
#[derive(Debug)]
pub(crate) enum InitrdError {
    /// No memory for it.
    Host(io::Error),
    /// A part that cannot be read.
    Part(Utf8PathBuf, io::Error),
}

/// Joins the parts; `None` if there are none.
pub(crate) fn join(parts: &[InitrdPart]) -> Result<Option<File>, InitrdError> {
    match parts {
        [] => return Ok(None),
        // As it is: all who boot from it share its pages.
        [InitrdPart::File(path)] => {
            let file = File::open(path);
            return file
                .map(Some)
                .map_err(|error| InitrdError::Part(path.clone(), error));
        }
        _ => {}
    }
    let memfd = memfd_create("provium-initrd", MemfdFlags::CLOEXEC);
    let mut joined = File::from(memfd.map_err(|error| InitrdError::Host(error.into()))?);
    for part in parts {
        match part {
            InitrdPart::Bytes(bytes) => joined.write_all(bytes).map_err(InitrdError::Host)?,
            InitrdPart::File(path) => {
                let failed = |error| InitrdError::Part(path.clone(), error);
                let mut source = File::open(path).map_err(failed)?;
                io::copy(&mut source, &mut joined).map_err(failed)?;
            }
        }
        pad(&mut joined).map_err(InitrdError::Host)?;
    }
    Ok(Some(joined))
}

fn pad(file: &mut File) -> io::Result<()> {
    let length = file.stream_position()?.next_multiple_of(ALIGNMENT);
    file.set_len(length)?;
    file.seek(io::SeekFrom::Start(length)).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn parts_are_joined_in_order_and_aligned() {
        let mut named = tempfile::NamedTempFile::new().unwrap();
        named.write_all(&[2; 513]).unwrap();
        let path = Utf8PathBuf::from_path_buf(named.path().to_owned()).unwrap();
        let parts = [InitrdPart::Bytes(vec![1; 3].into()), InitrdPart::File(path)];
        let mut joined = join(&parts).ok().flatten().unwrap();
        let mut bytes = Vec::new();
        joined.rewind().unwrap();
        joined.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.len(), 512 + 1024);
        assert_eq!((&bytes[..3], &bytes[3..512]), (&[1; 3][..], &[0; 509][..]));
        assert_eq!(
            (&bytes[512..1025], &bytes[1025..]),
            (&[2; 513][..], &[0; 511][..])
        );
    }

    #[test]
    fn a_part_that_is_missing_is_named() {
        let parts = [InitrdPart::File("/nonexistent/initrd".into())];
        assert!(
            matches!(join(&parts), Err(InitrdError::Part(path, _)) if path == "/nonexistent/initrd")
        );
        assert!(matches!(join(&[]), Ok(None)));
    }
}
