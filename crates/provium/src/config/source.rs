//! Where a profile's guest has its kernel and its root from.

use super::error::ConfigError;
use super::profile::{FileKind, ProfileConfig, one_of};
use super::section::Section;
use camino::Utf8Path;
use provium_image::RootPlacement;
use provium_lab::GuestSource;

/// The ends of the names of archives.
const ARCHIVES: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2"];

impl ProfileConfig {
    /// Where kernel and root come from.
    pub(super) fn source(
        &mut self,
        name: &str,
        section: &Section<'_>,
    ) -> Result<GuestSource, ConfigError> {
        let given: Vec<&str> = ["guest", "kernel", "root"]
            .into_iter()
            .filter(|key| section.key_span(key).is_some())
            .collect();
        // The user space of the built-in guest runs under any kernel.
        if let ([_, second, ..], false) = (&given[..], given == ["guest", "kernel"]) {
            let what = format!(
                "a profile has one of `guest`, `kernel` and `root`, or `guest` and `kernel`, and `{name}` has {}",
                given
                    .iter()
                    .map(|key| format!("`{key}`"))
                    .collect::<Vec<_>>()
                    .join(" and ")
            );
            return Err(section.error(section.key_span(second).unwrap_or(0..0), what));
        }
        let has = |key: &str| section.key_span(key).is_some();
        let not_with = |key: &str, is_possible: bool, needs: &str| match section.key_span(key) {
            Some(span) if !is_possible => {
                Err(section.error(span, format!("`{key}` needs {needs}")))
            }
            _ => Ok(()),
        };
        let user_space = one_of(section, "guest", &["default", "none"])?;
        if let (Some("none"), Some(span), false) =
            (user_space, section.key_span("guest"), has("kernel"))
        {
            let what = "`guest = \"none\"` needs `kernel`".to_owned();
            return Err(section.error(span, what));
        }
        // A kernel alone gets the user space of the built-in guest, unless it brings its own agent.
        let is_default = match user_space {
            Some(user_space) => user_space == "default",
            None if has("kernel") => !has("initrd") && self.profile.inject_agent,
            None => !has("root"),
        };
        not_with(
            "packages",
            is_default,
            "the user space of the built-in guest: `guest = \"default\"`",
        )?;
        let takes_initrd = !has("guest") && !given.is_empty();
        not_with(
            "initrd",
            takes_initrd,
            "`kernel` or `root`, without `guest`",
        )?;
        not_with("modules_dir", has("kernel"), "`kernel`")?;
        not_with(
            "root_on",
            has("root") || has("packages"),
            "`root` or `packages`",
        )?;

        let kernel = self.named(section, "kernel", FileKind::File)?;
        let root = self.named(section, "root", FileKind::Tree)?;
        let initrd = self.named(section, "initrd", FileKind::File)?;
        let modules_dir = self.named(section, "modules_dir", FileKind::Folder)?;
        Ok(match (kernel, root) {
            (Some(kernel), None) if !is_default => GuestSource::Files {
                kernel,
                initrd,
                modules_dir,
            },
            (_, Some(path)) => {
                let placement = self.root_placement(section, &path)?;
                GuestSource::Root {
                    path,
                    initrd,
                    placement,
                }
            }
            (kernel, None) => GuestSource::Default {
                packages: packages(section)?,
                placement: self.packages_placement(section, kernel.is_some())?,
                kernel,
                modules_dir,
            },
        })
    }

    /// Where the guest has the root at `root`. The agent mounts the disk, so without the agent the root is in memory;
    /// and an archive is not unpacked into memory.
    fn root_placement(
        &self,
        section: &Section<'_>,
        root: &Utf8Path,
    ) -> Result<RootPlacement, ConfigError> {
        let chosen = one_of(section, "root_on", &["auto", "memory", "disk"])?;
        let span = |key: &str| section.key_span(key).unwrap_or(0..0);
        let refused = |key: &str, what: String| Err(section.error(span(key), what));
        // What a build command makes is called as what it will be.
        let is_called_so = || ARCHIVES.iter().any(|end| root.as_str().ends_with(end));
        let is_archive = root.is_file() || (!root.is_dir() && is_called_so());
        for (key, is_given) in [
            ("initrd", section.key_span("initrd").is_some()),
            ("inject_agent", !self.profile.inject_agent),
        ] {
            let why = "a root on a disk is mounted by the agent as the first program";
            match chosen {
                Some("disk") if is_given => {
                    return refused(key, format!("`{key}` excludes `root_on = \"disk\"`: {why}"));
                }
                _ if is_given && is_archive => {
                    return refused(key, format!("`{key}` excludes an archive as `root`: {why}"));
                }
                _ => (),
            }
        }
        match chosen {
            Some("memory") if is_archive => {
                let what = "`root_on = \"memory\"` needs a directory as `root`, not an archive";
                refused("root_on", what.to_owned())
            }
            Some("memory") => Ok(RootPlacement::Memory),
            Some("disk") => Ok(RootPlacement::Disk),
            _ if !self.profile.inject_agent => Ok(RootPlacement::Memory),
            _ => Ok(RootPlacement::Auto),
        }
    }

    /// Where the built-in guest has its root, if it has packages. Another kernel may lack the drivers of the disk.
    fn packages_placement(
        &self,
        section: &Section<'_>,
        has_own_kernel: bool,
    ) -> Result<RootPlacement, ConfigError> {
        let is_possible = !has_own_kernel && self.profile.inject_agent;
        match one_of(section, "root_on", &["auto", "memory", "disk"])? {
            Some("disk") => Ok(RootPlacement::Disk),
            Some("memory") => Ok(RootPlacement::Memory),
            _ if is_possible => Ok(RootPlacement::Auto),
            _ => Ok(RootPlacement::Memory),
        }
    }
}

/// Packages for the built-in guest.
fn packages(section: &Section<'_>) -> Result<Vec<String>, ConfigError> {
    let packages = section.strings("packages")?.unwrap_or_default();
    for (package, span) in &packages {
        // Debian policy, 5.6.1; what begins with a dash would be an option of the tool.
        let sound = |c: char| c.is_ascii_alphanumeric() || "+-.:".contains(c);
        let first = package.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !first || !package.chars().all(sound) {
            let what = format!("`{package}` is not the name of a package");
            return Err(section.error(span.clone(), what));
        }
    }
    Ok(packages.into_iter().map(|(name, _)| name).collect())
}
