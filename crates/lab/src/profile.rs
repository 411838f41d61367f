//! The profile of a VM: the `[profiles.NAME]` of the configuration, checked and with absolute paths.

use crate::disk::DiskOptions;
use camino::Utf8PathBuf;
use provium_image::{GuestImage, ImageError, Images, RootPlacement};
use provium_vmm::{AccelChoice, CmdlineDefaults};
use std::time::Duration;

/// Guest memory where neither profile nor options say, bytes.
pub const DEFAULT_MEMORY: u64 = 256 * 1024 * 1024;

/// Smallest guest memory that a Linux kernel boots in, bytes.
pub const LEAST_MEMORY: u64 = 32 * 1024 * 1024;

/// A kind of machine that VMs are made from.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Its name in the configuration.
    pub name: String,
    /// Where kernel and root come from.
    pub source: GuestSource,
    /// The author's kernel command line.
    pub cmdline: String,
    /// What the harness puts before it.
    pub cmdline_defaults: CmdlineDefaults,
    /// Whether the agent is put in front of the initrd and made the first program.
    pub inject_agent: bool,
    /// Kernel modules that the agent loads, by name.
    pub modules: Vec<String>,
    /// Disks, attached before those of a VM's options.
    pub disks: Vec<DiskOptions>,
    /// Guest memory, bytes.
    pub memory: u64,
    /// vCPUs.
    pub cpus: u32,
    /// Which accelerator.
    pub accel: AccelChoice,
    /// Whether its guests can be woken from S3, for which their kernel must be a bzImage.
    pub s3: bool,
    /// Whether its boots may start from a template.
    pub warm_boot: bool,
    /// A shell command that succeeds when the guest is ready for tests; a boot runs it until then.
    pub ready: Option<String>,
    /// How long a boot may take until the agent answers, before the timeout multiplier.
    pub agent_boot_timeout: Duration,
    /// Why nothing can be booted from it, with the place in the configuration; `None` where nothing is
    /// known to be missing.
    pub unusable: Option<String>,
}

/// Where a guest's kernel and root come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestSource {
    /// The default guest, with these distribution packages.
    Default {
        /// Packages unpacked into it.
        packages: Vec<String>,
        /// Where the guest has a root with packages.
        placement: RootPlacement,
        /// A kernel to run it under, instead of its own.
        kernel: Option<Utf8PathBuf>,
        /// The modules of that kernel.
        modules_dir: Option<Utf8PathBuf>,
    },
    /// A kernel and, where it needs one, an initrd.
    Files {
        /// bzImage or ELF vmlinux.
        kernel: Utf8PathBuf,
        /// Initial RAM file system, any compression the kernel reads.
        initrd: Option<Utf8PathBuf>,
        /// The kernel's modules.
        modules_dir: Option<Utf8PathBuf>,
    },
    /// A root file system with a kernel and modules in it.
    Root {
        /// Its directory tree, or a tar archive of it.
        path: Utf8PathBuf,
        /// An initial RAM file system to boot instead of the tree.
        initrd: Option<Utf8PathBuf>,
        /// Where the guest has it.
        placement: RootPlacement,
    },
}

impl GuestSource {
    /// The image that it makes.
    ///
    /// # Errors
    /// If a file is missing or is not what it should be.
    pub async fn image(&self, images: &Images) -> Result<GuestImage, ImageError> {
        match self {
            Self::Default {
                packages,
                placement,
                kernel,
                modules_dir,
            } => {
                let guest = images.default_guest_with(packages, *placement).await?;
                match kernel {
                    Some(kernel) => {
                        let modules = modules_dir.as_deref();
                        images.under_kernel(guest, kernel, modules).await
                    }
                    None => Ok(guest),
                }
            }
            Self::Files {
                kernel,
                initrd,
                modules_dir,
            } => {
                let (initrd, modules) = (initrd.as_deref(), modules_dir.as_deref());
                images
                    .from_files_with_modules(kernel, initrd, modules)
                    .await
            }
            Self::Root {
                path,
                initrd,
                placement,
            } => images.from_root(path, initrd.as_deref(), *placement).await,
        }
    }

    /// Whether the kernel differs from the default guest's.
    pub fn has_own_kernel(&self) -> bool {
        !matches!(self, Self::Default { kernel: None, .. })
    }
}

impl Profile {
    /// What its guests boot from. What the cache does not have of it is made, and so are the images of its disks.
    ///
    /// # Errors
    /// What it is made of is missing, or cannot be used.
    pub async fn image(&self, images: &Images) -> Result<GuestImage, ImageError> {
        let image = self.source.image(images).await?;
        for disk in &self.disks {
            disk.source.prepare(images).await?;
        }
        Ok(image)
    }

    /// The profile `name` on the default guest, all else by default.
    pub fn default_guest(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            source: GuestSource::Default {
                packages: Vec::new(),
                placement: RootPlacement::Auto,
                kernel: None,
                modules_dir: None,
            },
            cmdline: "quiet".to_owned(),
            cmdline_defaults: CmdlineDefaults::Fast,
            inject_agent: true,
            modules: Vec::new(),
            disks: Vec::new(),
            memory: DEFAULT_MEMORY,
            cpus: 1,
            accel: AccelChoice::Auto,
            s3: false,
            warm_boot: true,
            ready: None,
            agent_boot_timeout: Duration::from_secs(30),
            unusable: None,
        }
    }

    /// The word of a kernel command line that would keep the agent from being the first program, where
    /// it has to be. What follows `--` is for the init.
    pub fn conflict_in<'a>(&self, cmdline: &'a str) -> Option<&'a str> {
        let words = cmdline.split_whitespace();
        let mut words = words.take_while(|word| *word != "--");
        words.find(|word| self.inject_agent && word.starts_with("rdinit="))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_of_ones_own_conflicts_with_the_injected_agent_only() {
        let mut profile = Profile::default_guest("p");
        assert_eq!(profile.conflict_in("quiet rdinit=/x y"), Some("rdinit=/x"));
        assert_eq!(profile.conflict_in("quiet -- rdinit=/x"), None);
        profile.inject_agent = false;
        assert_eq!(profile.conflict_in("rdinit=/x"), None);
    }
}
