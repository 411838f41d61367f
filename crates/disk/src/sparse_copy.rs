//! Copies of sparse files.

use rustix::fs::SeekFrom;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Copies what a file has to the same places of another one, without its holes, and gives that the same length. Where
/// the file system can, both share the data.
pub(crate) fn copy_sparse(from: &File, to: &File) -> io::Result<()> {
    let length = from.metadata()?.len();
    to.set_len(length)?;
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut at = 0;
    while let Some((start, end)) = next_data(from, at, length)? {
        copy_range(from, to, start, end)?;
        at = end;
    }
    Ok(())
}

/// The next range at or after a place that is not a hole. A file system without holes has one range.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
        Ok(start) => start,
        Err(rustix::io::Errno::NXIO) => return Ok(None),
        Err(rustix::io::Errno::INVAL) => return Ok(Some((at, length))),
        Err(error) => return Err(error.into()),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start)).unwrap_or(length);
    Ok(Some((start, end.min(length))))
}

fn copy_range(from: &File, to: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read_at, mut write_at) = (start, start);
    while read_at < end {
        let count = usize::try_from(end - read_at)
            .unwrap_or(usize::MAX)
            .min(1 << 30);
        match rustix::fs::copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), count)
        {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            // Between two file systems, or one that cannot.
            Err(_) => return copy_by_hand(from, to, read_at, end),
        }
    }
    Ok(())
}

fn copy_by_hand(from: &File, to: &File, mut at: u64, end: u64) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while at < end {
        let want = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = match from.read_at(&mut buffer[..want], at) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn a_copy_has_the_same_bytes_and_holes() {
        let from = tempfile::tempfile().unwrap();
        from.set_len(64 << 20).unwrap();
        from.write_all_at(b"begin", 0).unwrap();
        from.write_all_at(b"middle", 33 << 20).unwrap();
        let to = tempfile::tempfile().unwrap();
        copy_sparse(&from, &to).unwrap();
        let mut bytes = [0; 8];
        to.read_exact_at(&mut bytes, 33 << 20).unwrap();
        assert_eq!(&bytes, b"middle\0\0");
        assert_eq!(to.metadata().unwrap().len(), 64 << 20);
        assert!(
            to.metadata().unwrap().blocks() < 1024,
            "the copy has no holes"
        );
    }

    #[test]
    fn copying_by_hand_gives_the_same() {
        let from = tempfile::tempfile().unwrap();
        let data: Vec<u8> = (0..3_000_000u32).map(|at| at as u8).collect();
        from.write_all_at(&data, 0).unwrap();
        let to = tempfile::tempfile().unwrap();
        copy_by_hand(&from, &to, 0, 3_000_000).unwrap();
        let mut copied = vec![0; 3_000_000];
        to.read_exact_at(&mut copied, 0).unwrap();
        assert_eq!(copied, data);
    }
}
