//! The socket that clients connect to.

use camino::Utf8Path;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

/// The longest path of a Unix socket, bytes: `sun_path` has 108, and the last one is zero. See unix(7).
const LONGEST: usize = 107;

/// Listens at the path. One that is too long for an address is reached through a descriptor of its folder.
pub(super) fn bind(path: &Utf8Path) -> io::Result<UnixListener> {
    if path.as_str().len() <= LONGEST {
        return UnixListener::bind(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = File::open(folder)?;
    UnixListener::bind(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))
}
