//! The marked block in `/etc/hosts`.

use crate::failure;
use crate::roots;
use crate::sys::{Errno, Sys, fd, file};
use provium_protocol::WireError;
use provium_protocol::message::EntryType;
use provium_protocol::op::HostEntry;
use std::fmt::Write as _;
use std::os::fd::AsRawFd;

const FOLDER: &str = "/etc";
const PATH: &str = "/etc/hosts";
/// The lines around the block.
const BEGIN: &str = "# begin provium: the VMs on this VM's bridges";
const END: &str = "# end provium";
/// What a file has that did not exist before.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

/// Sets the block, or removes it if there are no entries. The rest of the file stays as it is.
pub(super) fn set(entries: &[HostEntry]) -> Result<(), WireError> {
    update(PATH, FOLDER, entries).map_err(|errno| failure::os(format!("updating {PATH}"), errno))
}

/// The first mistake in the entries: what would end a name or a line.
pub(super) fn check(entries: &[HostEntry]) -> Result<(), String> {
    for name in entries.iter().flat_map(|entry| &entry.names) {
        let is_bad = |byte: u8| byte <= b' ' || byte == b'#' || byte == 0x7f;
        if name.is_empty() || name.bytes().any(is_bad) {
            return Err(format!("`{name}` is not a host name"));
        }
    }
    Ok(())
}

fn update(path: &str, folder: &str, entries: &[HostEntry]) -> Sys<()> {
    let old = match file::open_str(path, libc::O_RDONLY) {
        Ok(old) => old,
        Err(Errno::NOENT) if entries.is_empty() => return Ok(()),
        Err(Errno::NOENT) => {
            let content = with_block(LOCALHOST.as_bytes(), entries);
            match file::make_dir(folder.as_bytes(), 0o755) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(errno),
            }
            // Where the file is a link to nowhere, its target is made.
            return overwrite(path.as_bytes(), &content);
        }
        Err(errno) => return Err(errno),
    };
    let content = fd::read_to_end(old.as_raw_fd())?;
    let wanted = with_block(&content, entries);
    if wanted == content {
        return Ok(());
    }
    let found = file::stat_fd(old.as_raw_fd())?;
    let is_link = file::path(path.as_bytes())
        .and_then(|path| file::stat_at(libc::AT_FDCWD, &path, libc::AT_SYMLINK_NOFOLLOW))
        .is_ok_and(|found| found.entry_type() == EntryType::Symlink);
    // The file itself, if the usual name is a link.
    let target = if is_link {
        let own_name = file::path(format!("self/fd/{}", old.as_raw_fd()).as_bytes())?;
        file::read_link_at(roots::PROC, &own_name)?
    } else {
        path.into()
    };
    let perm = found.to_message().perm;
    match replace(&target, perm, &wanted) {
        // A file that is a mount point of its own, or in a folder that cannot be written to.
        Err(Errno(libc::EBUSY | libc::EXDEV | libc::EACCES | libc::EPERM | libc::EROFS))
            if found.entry_type() == EntryType::File =>
        {
            overwrite(&target, &wanted)
        }
        other => other,
    }
}

/// Replaces a file in one step.
fn replace(path: &[u8], perm: u32, content: &[u8]) -> Sys<()> {
    let temporary = [path, b".provium"].concat();
    let _ = file::remove(&temporary);
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
    let new = file::open(&temporary, flags, perm)?;
    let written = fd::write_all(new.as_raw_fd(), content)
        .and_then(|()| file::chmod_fd(new.as_raw_fd(), perm))
        .and_then(|()| file::rename(&temporary, path));
    if written.is_err() {
        let _ = file::remove(&temporary);
    }
    written
}

fn overwrite(path: &[u8], content: &[u8]) -> Sys<()> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC;
    let file = file::open(path, flags, 0o644)?;
    fd::write_all(file.as_raw_fd(), content)
}

/// The content of a file with the block in the place of an older one, or at its end.
fn with_block(content: &[u8], entries: &[HostEntry]) -> Vec<u8> {
    let block = block(entries);
    if let Some((start, end)) = find_block(content) {
        return [&content[..start], block.as_bytes(), &content[end..]].concat();
    }
    if block.is_empty() {
        return content.to_vec();
    }
    let line_end: &[u8] = match content.last() {
        None | Some(b'\n') => b"",
        Some(_) => b"\n",
    };
    [content, line_end, block.as_bytes()].concat()
}

fn block(entries: &[HostEntry]) -> String {
    if entries.is_empty() {
        return String::new();
    }
    let mut block = format!("{BEGIN}\n");
    for HostEntry { address, names } in entries {
        let _ = writeln!(block, "{address}\t{}", names.join(" "));
    }
    let _ = writeln!(block, "{END}");
    block
}

/// Where the block is, with its marks: from the last line that begins one and has an end behind it.
fn find_block(content: &[u8]) -> Option<(usize, usize)> {
    let (mut start, mut found, mut at) = (None, None, 0);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let end = at + line.len();
        if text == BEGIN.as_bytes() {
            start = Some(at);
        } else if text == END.as_bytes()
            && let Some(start) = start.take()
        {
            found = Some((start, end));
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
    use std::path::PathBuf;

    fn entry(last: u8, names: &[&str]) -> HostEntry {
        HostEntry {
            address: [10, 0, 0, last].into(),
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    const BLOCK: &str = "# begin provium: the VMs on this VM's bridges\n\
        10.0.0.2\tb.lan b\n\
        # end provium\n";

    fn changed(content: &str, entries: &[HostEntry]) -> String {
        String::from_utf8(with_block(content.as_bytes(), entries)).unwrap()
    }

    #[test]
    fn only_the_block_changes() {
        let entries = [entry(2, &["b.lan", "b"])];
        let added = changed("127.0.0.1 localhost\n", &entries);
        assert_eq!(added, format!("127.0.0.1 localhost\n{BLOCK}"));
        assert_eq!(changed(&added, &entries), added);
        // Lines before and behind it stay.
        let around = format!("\t1.2.3.4 x\n{BLOCK}5.6.7.8 y");
        let other = changed(&around, &[entry(3, &["c"])]);
        assert_eq!(other, around.replace("10.0.0.2\tb.lan b", "10.0.0.3\tc"));
        assert_eq!(changed(&around, &[]), "\t1.2.3.4 x\n5.6.7.8 y");
        assert_eq!(changed("x", &[]), "x");
        assert_eq!(changed("x", &entries), format!("x\n{BLOCK}"));
        assert_eq!(changed("", &entries), BLOCK);
    }

    #[test]
    fn a_block_without_an_end_is_not_ours() {
        let entries = [entry(2, &["b.lan", "b"])];
        let torn = format!("{BEGIN}\n1.2.3.4 x\n");
        let added = changed(&torn, &entries);
        assert_eq!(added, format!("{torn}{BLOCK}"));
        assert_eq!(changed(&added, &entries), added);
        assert_eq!(changed(&added, &[]), torn);
        assert_eq!(changed(&format!("{END}\n"), &[]), format!("{END}\n"));
    }

    #[test]
    fn names_that_would_end_a_line_are_refused() {
        assert_eq!(check(&[entry(2, &["b.lan"])]), Ok(()));
        for name in ["", "a b", "a\nb", "a#b"] {
            assert!(check(&[entry(2, &[name])]).is_err(), "{name:?}");
        }
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            // The file's own name is looked up there.
            let _ = roots::install_usual();
            Self(path)
        }

        fn path(&self, name: &str) -> String {
            self.0.join(name).to_str().unwrap().to_owned()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_missing_file_is_made_and_an_unchanged_one_is_not_touched() {
        let folder = Folder::new("provium-hosts-made");
        let (etc, path) = (folder.path("etc"), folder.path("etc/hosts"));
        let entries = [entry(2, &["b.lan", "b"])];
        update(&path, &etc, &[]).unwrap();
        assert!(!fs::exists(&etc).unwrap());
        update(&path, &etc, &entries).unwrap();
        let expected = format!("{LOCALHOST}{BLOCK}");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        let inode = fs::metadata(&path).unwrap().ino();
        update(&path, &etc, &entries).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().ino(), inode);
    }

    #[test]
    fn a_link_stays_a_link_and_permissions_stay() {
        let folder = Folder::new("provium-hosts-link");
        let (path, target) = (folder.path("hosts"), folder.path("real"));
        fs::write(&target, "x\n").unwrap();
        fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real", &path).unwrap();
        update(&path, &folder.path(""), &[entry(2, &["b.lan", "b"])]).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), format!("x\n{BLOCK}"));
        assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
        assert_eq!(fs::metadata(&target).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 2);
    }
}
