//! What a test may choose about a VM, at its creation and again at each boot.

use crate::profile::Profile;
use provium_image::BootFile;
use std::time::Duration;

/// The choices; `None` where the author made none.
#[derive(Debug, Clone, Default)]
pub struct VmOptions {
    /// Guest memory, bytes.
    pub memory: Option<u64>,
    /// vCPUs.
    pub cpus: Option<u32>,
    /// Replaces the profile's command line.
    pub kernel_cmdline: Option<String>,
    /// Is put behind the command line.
    pub kernel_cmdline_append: Option<String>,
    /// Fixes the stream of the guest's `/dev/hwrng`.
    pub rng_seed: Option<u64>,
    /// CLOCK_REALTIME at boot, nanoseconds since 1970.
    pub initial_time_ns: Option<i64>,
    /// Files that are there before init runs.
    pub files: Option<Vec<BootFile>>,
    /// How long the boot may take until the agent answers.
    pub agent_timeout: Option<Duration>,
    /// Never from a boot template.
    pub cold: Option<bool>,
}

impl VmOptions {
    /// These choices, and `base` where there are none.
    #[must_use]
    pub fn over(self, base: &Self) -> Self {
        Self {
            memory: self.memory.or(base.memory),
            cpus: self.cpus.or(base.cpus),
            kernel_cmdline: self.kernel_cmdline.or_else(|| base.kernel_cmdline.clone()),
            kernel_cmdline_append: self
                .kernel_cmdline_append
                .or_else(|| base.kernel_cmdline_append.clone()),
            rng_seed: self.rng_seed.or(base.rng_seed),
            initial_time_ns: self.initial_time_ns.or(base.initial_time_ns),
            files: self.files.or_else(|| base.files.clone()),
            agent_timeout: self.agent_timeout.or(base.agent_timeout),
            cold: self.cold.or(base.cold),
        }
    }

    pub(crate) fn memory(&self, profile: &Profile) -> u64 {
        self.memory.unwrap_or(profile.memory)
    }

    pub(crate) fn cpus(&self, profile: &Profile) -> u32 {
        self.cpus.unwrap_or(profile.cpus)
    }

    /// The author's part of the command line.
    pub(crate) fn cmdline(&self, profile: &Profile) -> String {
        let base = self.kernel_cmdline.as_deref().unwrap_or(&profile.cmdline);
        let append = self.kernel_cmdline_append.as_deref().unwrap_or_default();
        format!("{base} {append}")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_wins_key_by_key() {
        let base = VmOptions {
            memory: Some(1),
            cpus: Some(2),
            ..VmOptions::default()
        };
        let boot = VmOptions {
            memory: Some(3),
            cold: Some(true),
            ..VmOptions::default()
        };
        let both = boot.over(&base);
        assert_eq!(
            (both.memory, both.cpus, both.cold),
            (Some(3), Some(2), Some(true))
        );
    }

    #[test]
    fn the_command_line_is_replaced_then_added_to() {
        let profile = Profile {
            cmdline: "quiet  splash".to_owned(),
            ..Profile::default_guest("p")
        };
        let options = |line: Option<&str>, append: Option<&str>| VmOptions {
            kernel_cmdline: line.map(str::to_owned),
            kernel_cmdline_append: append.map(str::to_owned),
            ..VmOptions::default()
        };
        assert_eq!(
            options(None, Some("a=1")).cmdline(&profile),
            "quiet splash a=1"
        );
        assert_eq!(options(Some("b"), Some("a=1")).cmdline(&profile), "b a=1");
    }
}
