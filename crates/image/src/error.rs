//! Errors of preparing an image.

use camino::Utf8PathBuf;
use provium_process::ProcessError;
use provium_store::StoreError;
use std::io;

/// Why an image cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The cache.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file that the user named, or one in a folder that the user named.
    #[error("cannot read `{path}`")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// The kernel's error.
        source: io::Error,
    },
    /// A file that should be a kernel.
    #[error("`{path}` is not a kernel that can be booted: {why}")]
    NotAKernel {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file that should be an initial RAM file system.
    #[error("`{path}` is not an initial RAM file system: {why}")]
    NotAnInitrd {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A root folder without a kernel.
    #[error("the root `{root}` does not contain a kernel; looked for {}", looked.join(", "))]
    NoKernel {
        /// The folder.
        root: Utf8PathBuf,
        /// What was looked for, relative to it.
        looked: Vec<String>,
    },
    /// A folder that should be there.
    #[error("`{path}` is not a folder")]
    NotAFolder {
        /// The path.
        path: Utf8PathBuf,
    },
    /// A folder that is written to while an image is made of it.
    #[error(
        "`{path}` has changed while a file system was made of it; write to it before, or copy it for the disk"
    )]
    FolderChanged {
        /// The folder.
        path: Utf8PathBuf,
    },
    /// A module that a profile names is not among the kernel's.
    #[error("kernel {release} has no module `{name}`")]
    UnknownModule {
        /// As the profile gives it.
        name: String,
        /// The kernel's release.
        release: String,
    },
    /// A module is requested for a kernel whose modules are not known.
    #[error(
        "cannot find module `{name}`: the modules of this kernel are not known; set `modules_dir` in \
         the profile, or a `root` that contains lib/modules, or build the module into the kernel"
    )]
    NoModules {
        /// As the profile gives it.
        name: String,
    },
    /// A module's file is not what it should be.
    #[error("module file `{path}` is damaged: {why}")]
    BadModule {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A path that a test or a package gives for a file in the guest.
    #[error("`{path}` cannot be a file in the guest: {why}")]
    BadPath {
        /// The path.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A tool cannot be run.
    #[error("cannot run a tool that makes images")]
    Tool(#[from] ProcessError),
    /// A tool ran and failed.
    #[error("`{command}` {how}: {said}")]
    ToolFailed {
        /// The command line.
        command: String,
        /// How it ended.
        how: String,
        /// The end of what it wrote.
        said: String,
    },
    /// A tool is not installed.
    #[error("`{program}`, which {purpose}, is not installed; install the package {package}")]
    NoTool {
        /// The tool.
        program: &'static str,
        /// What it does here.
        purpose: &'static str,
        /// What it comes with, as Debian calls it.
        package: &'static str,
    },
    /// A file or folder that should become a disk.
    #[error("`{path}` cannot be a disk: {why}")]
    NotADisk {
        /// The path.
        path: Utf8PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A file of a package mirror cannot be downloaded, or is not what the mirror's signed list says.
    #[error("cannot download `{url}`: {why}")]
    Fetch {
        /// The file.
        url: String,
        /// Why.
        why: String,
    },
    /// A mirror's list is not signed by the distribution, or that cannot be checked.
    #[error("cannot verify the signature of `{what}`: {why}")]
    Untrusted {
        /// The list.
        what: String,
        /// Why.
        why: String,
    },
    /// Packages cannot be downloaded.
    #[error("cannot download packages: {why}")]
    NoDownload {
        /// Why.
        why: String,
    },
    /// A package is not what it should be.
    #[error("cannot unpack package `{file}`: {why}")]
    BadPackage {
        /// Its file.
        file: String,
        /// What is wrong with it.
        why: String,
    },
    /// A name that no package can have.
    #[error("`{name}` is not a package's name")]
    BadPackageName {
        /// As the profile gives it.
        name: String,
    },
    /// The distribution has no kernel for the default guest.
    #[error("no kernel package was found among {tried}: {why}")]
    NoKernelPackage {
        /// The names, as people read a list.
        tried: String,
        /// Why.
        why: String,
    },
    /// Packages of a profile could not be fetched or unpacked.
    #[error(
        "cannot prepare the packages {packages}: {why}; check the names, and that a package mirror \
         is reachable"
    )]
    Packages {
        /// The names, as people read a list.
        packages: String,
        /// Why.
        why: String,
    },
    /// The default guest can be made neither by a download nor from this host's files.
    #[error(
        "cannot make the default guest: the download failed ({download}), and this host's own kernel \
         cannot be used ({host}); make a package mirror reachable and run `provium setup`, or set \
         `kernel` and `initrd` in the profile"
    )]
    NoDefaultGuest {
        /// Why the download failed.
        download: String,
        /// Why the host's own kernel cannot be used.
        host: String,
    },
    /// A bug of Provium.
    #[error("{what} (a bug in provium; please report it)")]
    Bug {
        /// What.
        what: String,
    },
}

impl ImageError {
    /// The whole chain of causes in one line.
    pub(crate) fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
