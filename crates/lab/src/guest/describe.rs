//! Calls and paths as messages show them: as the test's author wrote them.

use provium_protocol::op::Op;

/// An operation as the call of a test, such as `chmod("/etc", 0o755)`.
pub(crate) fn describe(op: &Op) -> String {
    match op {
        Op::ReadFile { path, .. } => with_path("read_file", path),
        Op::WriteFile { path, .. } => with_path("write_file", path),
        Op::Stat { path } => with_path("stat", path),
        Op::ListDir { path } => with_path("listdir", path),
        Op::MakeDir { path, .. } => with_path("mkdir", path),
        Op::Unlink { path } => with_path("unlink", path),
        Op::Rename { from, to } => format!("rename({}, {})", quoted(from), quoted(to)),
        Op::Chmod { path, perm } => format!("chmod({}, {perm:#o})", quoted(path)),
        Op::Symlink { target, path } => format!("symlink({}, {})", quoted(target), quoted(path)),
        Op::ReadLink { path } => with_path("readlink", path),
        Op::Syscall(syscall) => format!("syscall({})", syscall.nr),
        _ => "a request".to_owned(),
    }
}

/// `name("path")`.
pub(crate) fn with_path(name: &str, path: &[u8]) -> String {
    format!("{name}({})", quoted(path))
}

/// Bytes as text in quotes.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(bytes))
}
