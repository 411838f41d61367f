//! The QEMU of this host: where it is, which it is.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use provium_process::{Command, Stdio, output};
use provium_qmp::Version;

use crate::arguments::SANDBOX;
use crate::confinement::small_environment;
use crate::error::VmmError;

/// The oldest QEMU that has all features that are used (`-netdev` in JSON is the newest).
pub const OLDEST_QEMU: Version = Version {
    major: 7,
    minor: 2,
    micro: 0,
};

/// The program's usual name.
const PROGRAM: &str = "qemu-system-x86_64";

/// `--version` needs some 30 ms; a busy host more.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);

/// The start of a QEMU without a machine.
const SANDBOX_DEADLINE: Duration = Duration::from_secs(20);

/// A QEMU of a suitable version.
#[derive(Clone, Debug)]
pub struct Qemu {
    /// The program, as it was given or found.
    pub path: Utf8PathBuf,
    /// Its version.
    pub version: Version,
    /// Cleared when this build turns out to have no seccomp.
    sandbox: Arc<AtomicBool>,
}

impl Qemu {
    /// Finds QEMU, at `path` or else on `PATH`, and asks for its version.
    ///
    /// # Errors
    /// [`VmmError::Process`] if there is none, [`VmmError::NotQemu`] or [`VmmError::TooOld`] if it is not
    /// suitable.
    pub async fn find(path: Option<&Utf8Path>) -> Result<Self, VmmError> {
        let path = path.map_or_else(|| PROGRAM.into(), Utf8Path::to_owned);
        let mut command = Command::new(path.as_str());
        command.arg("--version");
        small_environment(&mut command);
        let said = output(command, VERSION_DEADLINE).await?;
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let Some(version) = parse_version(&said) else {
            let said = said.lines().next().unwrap_or_default().to_owned();
            return Err(VmmError::NotQemu { path, said });
        };
        if version < OLDEST_QEMU {
            return Err(VmmError::TooOld {
                path,
                version,
                oldest: OLDEST_QEMU,
            });
        }
        Ok(Self::assumed(path, version))
    }

    /// Identifies it among others: the version, and size and time of the program's file.
    pub fn identity(&self) -> String {
        use std::os::unix::fs::MetadataExt as _;
        let program = Command::new(self.path.as_str()).resolve();
        let file = program.ok().and_then(|path| path.metadata().ok());
        let (size, time) = file.map_or((0, 0), |file| (file.size(), file.mtime()));
        format!("qemu {} {size} {time}", self.version)
    }

    /// One whose version is known.
    pub(crate) fn assumed(path: Utf8PathBuf, version: Version) -> Self {
        Self {
            path,
            version,
            sandbox: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Starts it once, without a machine, to see whether it can confine itself by seccomp: why not, if
    /// it cannot.
    pub async fn try_sandbox(&self) -> Result<(), String> {
        /// QMP (`docs/interop/qmp-spec`): commands that end QEMU once it is ready.
        const END: &[u8] = b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}";
        let commands = std::io::pipe().and_then(|(reader, mut writer)| {
            writer.write_all(END)?;
            Ok(reader)
        });
        let commands = commands.map_err(|error| error.to_string())?;
        let mut command = Command::new(self.path.as_str());
        command
            .args(["-nodefaults", "-no-user-config", "-display", "none"])
            .args(["-machine", "none", "-S", "-sandbox", SANDBOX])
            .args(["-qmp", "stdio"])
            .stdin(Stdio::Fd(commands.into()));
        small_environment(&mut command);
        let ended = output(command, SANDBOX_DEADLINE).await;
        let ended = ended.map_err(|error| error.to_string())?;
        if ended.exit.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        self.learn(&said);
        Err(said.trim().to_owned())
    }

    /// Whether it can map a file privately and writable that it opens read-only (`rom=off`, since 8.2). An older
    /// one opens the file for writing, although nothing is ever written to it.
    pub(crate) fn maps_read_only(&self) -> bool {
        (self.version.major, self.version.minor) >= (8, 2)
    }

    /// Can it confine itself by seccomp? True until a start has shown otherwise.
    pub fn has_sandbox(&self) -> bool {
        self.sandbox.load(Ordering::Relaxed)
    }

    /// Learns from what a failed start wrote; true if another start is worth it.
    pub(crate) fn learn(&self, stderr: &str) -> bool {
        let lacks = stderr.contains("seccomp is not compiled") || stderr.contains("-sandbox");
        lacks && self.sandbox.swap(false, Ordering::Relaxed)
    }
}

/// From `QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)`.
fn parse_version(said: &str) -> Option<Version> {
    let rest = said.strip_prefix("QEMU emulator version ")?;
    let digits = rest
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .next()?;
    let mut numbers = digits.split('.').map(|number| number.parse().ok());
    let (major, minor) = (numbers.next()??, numbers.next()??);
    Some(Version {
        major,
        minor,
        micro: numbers.next().flatten().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        let version = |text| parse_version(text).map(|version| version.to_string());
        let debian = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright";
        assert_eq!(version(debian).as_deref(), Some("7.2.22"));
        assert_eq!(
            version("QEMU emulator version 10.0.0-rc1").as_deref(),
            Some("10.0.0")
        );
        assert_eq!(
            version("QEMU emulator version 9.1").as_deref(),
            Some("9.1.0")
        );
        assert_eq!(version("xen-qemu 4.17"), None);
    }

    #[test]
    fn read_only_files_are_mapped_from_8_2_on() {
        let maps = |text| {
            let version = parse_version(text).unwrap();
            Qemu::assumed("qemu".into(), version).maps_read_only()
        };
        assert!(!maps("QEMU emulator version 7.2.22"));
        assert!(!maps("QEMU emulator version 8.1.5"));
        assert!(maps("QEMU emulator version 8.2.0"));
        assert!(maps("QEMU emulator version 10.0.2"));
    }

    #[test]
    fn a_build_without_seccomp_is_tried_once_more() {
        let qemu = Qemu::assumed("qemu".into(), OLDEST_QEMU);
        assert!(!qemu.learn("could not open kernel"));
        assert!(qemu.learn("seccomp is not compiled into this build of QEMU"));
        assert!(!qemu.has_sandbox());
        assert!(!qemu.learn("seccomp is not compiled into this build of QEMU"));
    }

    #[tokio::test]
    async fn a_build_without_seccomp_is_found_out_without_a_machine() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(dir.path().join("qemu")).unwrap();
        let refuses = "#!/bin/sh\necho \"qemu: -sandbox support is not enabled\" >&2; exit 1\n";
        for (script, can) in [(refuses, false), ("#!/bin/sh\nread commands\n:\n", true)] {
            std::fs::write(&path, script).unwrap();
            let executable = std::fs::Permissions::from_mode(0o755);
            std::fs::set_permissions(&path, executable).unwrap();
            let qemu = Qemu::assumed(path.clone(), OLDEST_QEMU);
            let tried = qemu.try_sandbox().await;
            assert_eq!((tried.is_ok(), qemu.has_sandbox()), (can, can), "{tried:?}");
        }
    }

    #[tokio::test]
    async fn another_program_is_not_accepted() {
        let error = Qemu::find(Some("/bin/echo".into())).await.unwrap_err();
        assert!(matches!(error, VmmError::NotQemu { .. }), "{error}");
        let error = Qemu::find(Some("provium-no-qemu".into()))
            .await
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "`provium-no-qemu` is not installed or not on PATH"
        );
    }
}
