//! What QEMU's process inherits: as little as it needs, since it is the process that a hostile guest
//! attacks.
//!
//! - Only search paths and locale variables of the environment, so no secret of the caller.
//! - No capabilities, if QEMU runs as root, unless it has to open a file of another user.
//! - QEMU's own seccomp filter is enabled by an argument; see [`SANDBOX`](crate::arguments::SANDBOX).

use provium_process::Command;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The variables that are passed on.
const PASSED_ON: [&str; 8] = [
    "PATH",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    // A QEMU outside of the system's folders finds its libraries and modules through these.
    "LD_LIBRARY_PATH",
    "QEMU_MODULE_DIR",
];

/// What QEMU has to do with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// Confines `command`, which opens `files` by their names.
pub(crate) fn confine<'a>(
    command: &mut Command,
    files: impl IntoIterator<Item = (&'a Path, Access)>,
) {
    small_environment(command);
    let user = rustix::process::geteuid().as_raw();
    if files
        .into_iter()
        .all(|(file, access)| opens(file, access, user))
    {
        command.without_capabilities();
    }
}

/// Passes only the variables that QEMU needs.
pub(crate) fn small_environment(command: &mut Command) {
    command.env_clear();
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}

/// Whether `user` can open a file by the permission bits alone, without the capabilities by which root
/// opens everything. Groups are ignored, so the answer may be no although the user can open it.
fn opens(file: &Path, access: Access, user: u32) -> bool {
    // A name may be a link: its target counts.
    let Ok(file) = file.canonicalize() else {
        return false;
    };
    let may = |path: &Path, bit: u32| {
        path.metadata().is_ok_and(|metadata| {
            let owners = metadata.uid() == user && metadata.mode() & (bit << 6) != 0;
            owners || metadata.mode() & bit != 0
        })
    };
    let bit = match access {
        Access::Read => 0o4,
        Access::Write => 0o6,
    };
    let all = |bits: u32| {
        [0o4, 0o2, 0o1]
            .iter()
            .all(|bit| bits & bit == 0 || may(&file, *bit))
    };
    all(bit) && file.ancestors().skip(1).all(|folder| may(folder, 0o1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn without_capabilities_the_bits_decide() {
        let dir = tempfile::tempdir_in("/")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let file = dir.path().join("kernel");
        std::fs::write(&file, "").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let owner = file.metadata().unwrap().uid();
        let other = owner + 1;
        mode(dir.path(), 0o755);
        mode(&file, 0o644);
        assert!(opens(&file, Access::Read, owner) && opens(&file, Access::Read, other));
        assert!(opens(&file, Access::Write, owner) && !opens(&file, Access::Write, other));
        mode(&file, 0o400);
        assert!(opens(&file, Access::Read, owner) && !opens(&file, Access::Read, other));
        mode(&file, 0o644);
        mode(dir.path(), 0o700);
        assert!(opens(&file, Access::Read, owner) && !opens(&file, Access::Read, other));
        assert!(!opens(&dir.path().join("gone"), Access::Read, owner));
    }
}
