//! An ext4 file system from a folder: `mke2fs -d`, and `debugfs` for what the folder cannot say.
//!
//! `mke2fs` takes owners and modes from the host's files. An ordinary user's files belong to that user, and a tree
//! may want owners that its files cannot have. So `mke2fs` runs in a user namespace whose root is the user, where
//! the host allows that, and `debugfs` changes each inode that still differs. Of modification times `mke2fs` takes the
//! lowest 32 bits of the seconds, so `debugfs` adds what is beyond.
//!
//! Features, UUID and hash seed are given here, and not taken from the host's `mke2fs.conf`, so that every host makes
//! the same file system, but for the access and change times of the files: `mke2fs` takes those from the host's.

use super::size::{BLOCK, Dimensions, INODE};
use super::tools::{DEADLINE, DEBUGFS, MKE2FS, run};
use crate::blocking::blocking;
use crate::error::ImageError;
use crate::images::write;
use crate::node::Kind;
use crate::tree::Tree;
use crate::walk::user;
use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Command, Exit, output};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;

/// The features of a file system of the distributions' `mke2fs`, but for the space that lets it grow a thousandfold.
const FEATURES: &str = "none,has_journal,ext_attr,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,\
     huge_file,dir_nlink,extra_isize,metadata_csum";

/// Numbers that `mke2fs` would draw.
const UUID: &str = "9d2c4f5e-7a31-4b86-9c0d-2e8f51a6b374";
const HASH_SEED: &str = "51a6b374-2e8f-4c0d-8b86-7a319d2c4f5e";

/// The times of what has none in the folder: seconds since 1970.
const TIME: &str = "1700000000";

/// The user and group, in a user namespace, of files whose owner has no number there.
const NOBODY: u32 = 65534;

/// What the tree wants besides what is in its nodes: attributes by path.
pub(super) type Attributes = BTreeMap<Vec<u8>, Vec<(String, Vec<u8>)>>;

/// The folder from which `mke2fs` reads, and what it is to become.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) folder: Utf8PathBuf,
    /// The nodes as the file system is to have them. Those of a kind that the folder lacks (devices) are added.
    pub(super) wanted: Tree,
    /// The nodes as they are in the folder, with the owners of the host.
    pub(super) found: Tree,
    pub(super) attributes: Attributes,
}

/// Makes the image `image` in `entry`, a folder for this alone.
///
/// # Errors
/// [`ImageError::NoTool`], or what a tool complains of.
pub(super) async fn make(
    source: Source,
    dimensions: Dimensions,
    entry: &Utf8Path,
    image: &Utf8Path,
) -> Result<(), ImageError> {
    let mke2fs = MKE2FS.path()?;
    let view = View::find().await;
    let file = fs_err::File::create(image).map_err(provium_store::StoreError::from)?;
    let sized = file.set_len(dimensions.size);
    sized.map_err(provium_store::StoreError::from)?;
    drop(file);
    let extended = format!(
        "hash_seed={HASH_SEED},lazy_itable_init=0,lazy_journal_init=0,root_owner=0:0,nodiscard"
    );
    let mut command = match view {
        View::Host => Command::new(mke2fs),
        View::Namespace => {
            let mut command = Command::new("unshare");
            command.args(["--map-root-user", "--", mke2fs.as_str()]);
            command
        }
    };
    command
        .args(["-q", "-F", "-t", "ext4", "-m", "0", "-U", UUID])
        .args(["-b", &BLOCK.to_string(), "-I", &INODE.to_string()])
        .args(["-N", &dimensions.inodes.to_string()])
        .args(["-J", &format!("size={}", dimensions.journal)])
        .args(["-O", FEATURES, "-E", &extended])
        .args(["-d", source.folder.as_str(), image.as_str()])
        .env("E2FSPROGS_FAKE_TIME", TIME)
        .env("SOURCE_DATE_EPOCH", TIME)
        // Of the host's configuration, nothing.
        .env("MKE2FS_CONFIG", "/dev/null");
    run(command).await?;

    let folder = entry.join("attributes");
    let changes = folder.clone();
    let script = blocking(move || script(&source, view, &changes)).await?;
    if !script.is_empty() {
        let path = entry.join("changes");
        // The superblock says when it was changed.
        let script = [format!("set_current_time @{TIME}\n").as_bytes(), &script].concat();
        write(&path, &script)?;
        let mut command = Command::new(DEBUGFS.path()?);
        command.args(["-w", "-f", path.as_str(), image.as_str()]);
        run_debugfs(command).await?;
        fs_err::remove_file(&path).map_err(provium_store::StoreError::from)?;
    }
    if folder.exists() {
        fs_err::remove_dir_all(&folder).map_err(provium_store::StoreError::from)?;
    }
    Ok(())
}

/// The owners of files as `mke2fs` sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Host,
    /// In a user namespace whose root is the user who runs this.
    Namespace,
}

impl View {
    async fn find() -> Self {
        if user() == (0, 0) {
            return Self::Host;
        }
        let mut probe = Command::new("unshare");
        probe.args(["--map-root-user", "--", "true"]);
        match output(probe, DEADLINE).await {
            Ok(output) if output.exit == Exit::Exited(0) => Self::Namespace,
            _ => Self::Host,
        }
    }

    fn owners(self, (uid, gid): (u32, u32)) -> (u32, u32) {
        let (own, group) = user();
        let seen = |id, own| if id == own { 0 } else { NOBODY };
        match self {
            Self::Host => (uid, gid),
            Self::Namespace => (seen(uid, own), seen(gid, group)),
        }
    }
}

/// Commands for `debugfs` that make the file system what the tree says. The values of attributes are put into files
/// in `folder`.
fn script(source: &Source, view: View, folder: &Utf8Path) -> Result<Vec<u8>, ImageError> {
    let mut script = Vec::new();
    let mut line = |parts: &[&[u8]]| {
        script.extend_from_slice(&parts.concat());
        script.push(b'\n');
    };
    for (path, node) in source.wanted.iter() {
        // `mke2fs` gives the root folder a mode of its own.
        let is_root = path == b".";
        let found = source.found.get(path).filter(|_| !is_root);
        let there = found.map(|found| (view.owners((found.uid, found.gid)), found.perm));
        let time = found.and_then(|_| time_extra(&source.folder, path));
        if there == Some(((node.uid, node.gid), node.perm)) && time.is_none() {
            continue;
        }
        let target = absolute(if is_root { b"" } else { path })?;
        if let Kind::Device {
            block,
            major,
            minor,
        } = node.kind
            && found.is_none()
        {
            // It takes a name, not a path.
            let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
                Some(at) => (&path[..at], &path[at + 1..]),
                None => (&b""[..], path),
            };
            let kind = if block { "b" } else { "c" };
            let numbers = format!(" {kind} {major} {minor}");
            line(&[b"cd ", &absolute(above)?]);
            line(&[b"mknod ", &quoted(name)?, numbers.as_bytes()]);
            line(&[b"cd /"]);
        }
        let mut set = |field: &str, value: String| {
            line(&[
                b"sif ",
                &target,
                b" ",
                field.as_bytes(),
                b" ",
                value.as_bytes(),
            ]);
        };
        if there.map(|((uid, _), _)| uid) != Some(node.uid) {
            set("uid", node.uid.to_string());
        }
        if there.map(|((_, gid), _)| gid) != Some(node.gid) {
            set("gid", node.gid.to_string());
        }
        let has_mode = !matches!(node.kind, Kind::Symlink(_));
        if has_mode && there.map(|(_, perm)| perm) != Some(node.perm) {
            set("mode", format!("0{:o}", node.kind.file_type() | node.perm));
        }
        if let Some(extra) = time {
            set("mtime_extra", extra.to_string());
        }
    }
    let mut number = 0;
    for (path, attributes) in &source.attributes {
        let target = absolute(path)?;
        for (name, value) in attributes {
            fs_err::create_dir_all(folder).map_err(provium_store::StoreError::from)?;
            let file = folder.join(number.to_string());
            number += 1;
            write(&file, value)?;
            let file = quoted(file.as_str().as_bytes())?;
            let name = format!(" {name}");
            line(&[b"ea_set -f ", &file, b" ", &target, name.as_bytes()]);
        }
    }
    Ok(script)
}

/// The field `i_mtime_extra` of a file's inode: two bits that extend the seconds, and the nanoseconds above them.
/// `None`: it is 0, or the file system cannot hold the time, or `debugfs` the name.
fn time_extra(folder: &Utf8Path, path: &[u8]) -> Option<u32> {
    let file = folder.as_std_path().join(OsStr::from_bytes(path));
    let metadata = file.symlink_metadata().ok()?;
    let since_lowest = metadata.mtime().checked_sub(i64::from(i32::MIN))?;
    let epoch = u32::try_from(since_lowest >> 32).ok()?;
    let nanoseconds = u32::try_from(metadata.mtime_nsec()).ok()?;
    let extra = nanoseconds << 2 | epoch;
    (epoch < 4 && extra != 0 && !path.contains(&b'\n')).then_some(extra)
}

/// A path of the tree as an argument in a line for `debugfs`.
fn absolute(path: &[u8]) -> Result<Vec<u8>, ImageError> {
    quoted(&[b"/", path].concat())
}

/// An argument in a line for `debugfs`.
fn quoted(argument: &[u8]) -> Result<Vec<u8>, ImageError> {
    if argument.contains(&b'\n') {
        return Err(ImageError::BadPath {
            path: String::from_utf8_lossy(argument).into_owned(),
            why: "its name has a line break, and its owner or mode has to be changed",
        });
    }
    let mut quoted = vec![b'"'];
    for byte in argument {
        if *byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    Ok(quoted)
}

/// Its exit status does not show whether its commands failed: what it writes to stderr, below its version, does.
async fn run_debugfs(command: Command) -> Result<(), ImageError> {
    let line = command.to_line();
    let output = run(command).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = errors
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.starts_with("debugfs 1."))
        .collect();
    if said.is_empty() {
        return Ok(());
    }
    Err(ImageError::ToolFailed {
        command: line,
        how: output.exit.to_string(),
        said: said[..said.len().min(5)].join("; "),
    })
}
