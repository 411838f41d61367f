//! Calls, paths and bytes as messages show them.

use provium_events::printable::text_of;
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

/// A run of one unprintable byte is shown with its length if it is this long.
const LONG_RUN: usize = 16;

/// Bytes as text in quotes; those that are not UTF-8 as `\xNN`.
pub(crate) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for chunk in bytes.utf8_chunks() {
        let valid = format!("{:?}", chunk.valid());
        text.push_str(&valid[1..valid.len() - 1]);
        text.push_str(&text_of(chunk.invalid()));
    }
    text.push('"');
    text
}

/// What a guest has written, as text; a long run of an unprintable byte as `\x00 (512 times)`.
pub(crate) fn readable(bytes: &[u8]) -> String {
    let mut text = String::new();
    let (mut plain, mut at) = (0, 0);
    for run in bytes.chunk_by(|one, other| one == other) {
        let start = at;
        at += run.len();
        let is_printed = !run[0].is_ascii_control() && run[0].is_ascii();
        if run.len() >= LONG_RUN && !is_printed && run[0] != b'\n' {
            text.push_str(&text_of(&bytes[plain..start]));
            text.push_str(&format!("\\x{:02x} ({} times)", run[0], run.len()));
            plain = at;
        }
    }
    text.push_str(&text_of(&bytes[plain..]));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_outside_utf8_are_shown() {
        assert_eq!(quoted(b"/a\xff\"\n\xc3\xa9"), r#""/a\xff\"\né""#);
        assert_eq!(quoted(b""), r#""""#);
    }

    #[test]
    fn long_runs_are_counted() {
        let mut bytes = b"abc\n".to_vec();
        bytes.extend([0; 512]);
        bytes.extend(b"\xffend");
        assert_eq!(readable(&bytes), "abc\n\\x00 (512 times)\\xffend");
        assert_eq!(readable(&[0; 3]), "\0\0\0", "a report escapes it");
        assert_eq!(readable(&[b'-'; 40]), "-".repeat(40));
    }
}
