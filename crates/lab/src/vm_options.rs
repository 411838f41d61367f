//! The options of a VM, at its creation and at each boot.

use crate::disk::DiskOptions;
use crate::profile::Profile;
use provium_image::BootFile;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The choices; `None` where the author made none. They are kept with snapshots, so that a VM that is
/// made from one can be booted as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
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
    #[serde(with = "kept_files")]
    pub files: Option<Vec<BootFile>>,
    /// Its disks, after those of the profile.
    pub disks: Option<Vec<DiskOptions>>,
    /// How long the boot may take until the agent answers.
    pub agent_timeout: Option<Duration>,
    /// Never from a boot template.
    pub cold: Option<bool>,
    /// What happens when the guest's kernel panics.
    pub on_panic: Option<OnPanic>,
}

/// What a VM does when the kernel of its guest panics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnPanic {
    /// It is dead, and its console is kept.
    #[default]
    Stop,
    /// It boots again: the kernel resets the machine, or the host does.
    Reboot,
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
            disks: self.disks.or_else(|| base.disks.clone()),
            agent_timeout: self.agent_timeout.or(base.agent_timeout),
            cold: self.cold.or(base.cold),
            on_panic: self.on_panic.or(base.on_panic),
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

/// Files in JSON: their content as hexadecimal digits, since it may be any bytes.
mod kept_files {
    use super::BootFile;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::fmt::Write as _;

    #[derive(Serialize, Deserialize)]
    struct StoredBootFile {
        path: String,
        content: String,
        perm: u32,
    }

    pub(super) fn serialize<S: Serializer>(
        files: &Option<Vec<BootFile>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let kept = files.as_ref().map(|files| {
            let kept = files.iter().map(|file| StoredBootFile {
                path: file.path.clone(),
                content: to_hex(&file.content),
                perm: file.perm,
            });
            kept.collect::<Vec<_>>()
        });
        kept.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Vec<BootFile>>, D::Error> {
        let kept = Option::<Vec<StoredBootFile>>::deserialize(deserializer)?;
        let Some(kept) = kept else { return Ok(None) };
        let files = kept.into_iter().map(|file| {
            let content = from_hex(&file.content);
            Ok(BootFile {
                path: file.path,
                content: content.ok_or_else(|| D::Error::custom("content is not hexadecimal"))?,
                perm: file.perm,
            })
        });
        files.collect::<Result<Vec<_>, _>>().map(Some)
    }

    fn to_hex(bytes: &[u8]) -> String {
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    fn from_hex(text: &str) -> Option<Vec<u8>> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let bytes = pairs
            .iter()
            .map(|[high, low]| u8::try_from(digit(*high)? * 16 + digit(*low)?).ok());
        bytes.collect::<Option<_>>().filter(|_| rest.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restored_vm_has_what_the_snapshot_has() {
        let options = VmOptions {
            memory: Some(1 << 28),
            kernel_cmdline_append: Some("a=1".to_owned()),
            initial_time_ns: Some(-1),
            rng_seed: Some(u64::MAX),
            files: Some(vec![BootFile {
                path: "/x".to_owned(),
                content: vec![0, 255, 16],
                perm: 0o644,
            }]),
            agent_timeout: Some(Duration::from_millis(1500)),
            on_panic: Some(OnPanic::Reboot),
            ..VmOptions::default()
        };
        let text = serde_json::to_string(&options).unwrap();
        assert!(text.contains("00ff10"), "{text}");
        assert_eq!(serde_json::from_str::<VmOptions>(&text).unwrap(), options);
        let none = serde_json::from_str::<VmOptions>("{}").unwrap();
        assert_eq!(none, VmOptions::default());
        assert!(serde_json::from_str::<VmOptions>(&text.replace("00ff10", "00ff1")).is_err());
        assert!(serde_json::from_str::<VmOptions>(&text.replace("00ff10", "00fx10")).is_err());
    }

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
