//! The programs that make images of disks.

use crate::error::ImageError;
use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Command, Exit, Output, output};
use std::time::Duration;

/// How long a program may take.
pub(super) const DEADLINE: Duration = Duration::from_secs(1800);

/// Where programs are that an ordinary user's `PATH` often lacks.
const SYSTEM_FOLDERS: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// A program of the host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tool {
    program: &'static str,
    purpose: &'static str,
    package: &'static str,
}

pub(super) const MKE2FS: Tool = Tool {
    program: "mke2fs",
    purpose: "makes file systems from folders",
    package: "e2fsprogs",
};

pub(super) const DEBUGFS: Tool = Tool {
    program: "debugfs",
    purpose: "sets the owners of files in file systems from folders",
    package: "e2fsprogs",
};

pub(super) const QEMU_IMG: Tool = Tool {
    program: "qemu-img",
    purpose: "converts qcow2 images",
    package: "qemu-utils",
};

/// The programs for images of disks that the host lacks, each as the error of a call that needs it.
pub fn missing_disk_tools() -> Vec<ImageError> {
    let tools = [MKE2FS, DEBUGFS, QEMU_IMG].into_iter();
    tools.filter_map(|tool| tool.path().err()).collect()
}

impl Tool {
    /// Its path, or its name if it is in `PATH`.
    ///
    /// # Errors
    /// [`ImageError::NoTool`] if it is not installed.
    pub(super) fn path(self) -> Result<Utf8PathBuf, ImageError> {
        if Command::new(self.program).resolve().is_ok() {
            return Ok(self.program.into());
        }
        let folders = SYSTEM_FOLDERS.iter();
        let mut paths = folders.map(|folder| Utf8Path::new(folder).join(self.program));
        paths.find(|path| path.is_file()).ok_or(ImageError::NoTool {
            program: self.program,
            purpose: self.purpose,
            package: self.package,
        })
    }
}

/// Runs a program to its end, with messages in English.
///
/// # Errors
/// [`ImageError::ToolFailed`] unless it exits with 0.
pub(super) async fn run(mut command: Command) -> Result<Output, ImageError> {
    command.env("LC_ALL", "C.UTF-8");
    let line = command.to_line();
    let output = output(command, DEADLINE).await?;
    if output.exit == Exit::Exited(0) {
        return Ok(output);
    }
    Err(ImageError::ToolFailed {
        command: line,
        how: output.exit.to_string(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}
