//! The decision for an accelerator, and how fast it is.

use std::io;

use camino::Utf8Path;
use fs_err as fs;

use super::kept::{self, Subject, Trials};
use super::trial::Trial;
use super::verdict::{self, Verdict};
use super::{Accel, AccelChoice, probe};
use crate::error::VmmError;
use crate::qemu::Qemu;

const DEVICE: &str = "/dev/kvm";

/// Differs from boot to boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What runs the guests, and what was found out about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The accelerator.
    pub accel: Accel,
    /// Why it is this one, as a sentence's clause for `doctor`.
    pub why: String,
    /// How many times longer than a processor of 3.3 GHz itself a guest takes for its kernel's work:
    /// measured, from 1 on. Who waits for a guest multiplies time limits by it.
    pub slowdown: f64,
}

/// Which accelerator serves, why, and how fast it is. The first call after a boot of the host takes
/// about half a second where KVM is absent, a second where it works and ten where it crawls; later
/// ones read the trials from `cache_dir`.
///
/// # Errors
/// [`VmmError::KvmUnusable`] if KVM was demanded and does not work, [`VmmError::NoAccelerator`] if TCG
/// is left and does not work either: the errors say what happened.
pub async fn decide_accel(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
) -> Result<Decision, VmmError> {
    let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let subject = Subject::of(qemu, &boot_id);
    let known = kept::load(cache_dir, &subject);
    // One after the other: they are compared by time.
    let tcg = tried(qemu, Accel::Tcg, known.tcg.as_ref()).await;
    let refused = |why| Verdict { kvm: false, why };
    let (kvm, verdict) = match choice {
        AccelChoice::Tcg => (known.kvm.clone(), refused("TCG was asked for".to_owned())),
        AccelChoice::Auto | AccelChoice::Kvm => match device_fault(open_device()) {
            // Not kept: rights and modules change without a reboot.
            Some(why) => (known.kvm.clone(), refused(why)),
            None => {
                let kvm = tried(qemu, Accel::Kvm, known.kvm.as_ref()).await;
                let verdict = verdict::judge(&kvm, &tcg);
                (Some(kvm), verdict)
            }
        },
    };
    let trials = Trials {
        // What keeps everything from running may be mended before the next try.
        tcg: tcg.fault().is_none().then(|| tcg.clone()),
        kvm: kvm.clone(),
    };
    if trials != known {
        tracing::info!(?trials, "the accelerators were tried");
        kept::save(cache_dir, subject, &trials);
    }
    match (verdict.kvm, choice) {
        (true, _) => Ok(Decision {
            accel: Accel::Kvm,
            why: verdict.why,
            slowdown: kvm.map_or(1.0, |kvm| kvm.slowdown(Accel::Kvm)),
        }),
        (false, AccelChoice::Kvm) => Err(VmmError::KvmUnusable { why: verdict.why }),
        (false, _) => match tcg.fault() {
            Some(how) => Err(VmmError::NoAccelerator {
                why: verdict.why,
                how,
            }),
            None => Ok(Decision {
                accel: Accel::Tcg,
                why: verdict.why,
                slowdown: tcg.slowdown(Accel::Tcg),
            }),
        },
    }
}

/// How the trial under `accel` went, or goes.
async fn tried(qemu: &Qemu, accel: Accel, known: Option<&Trial>) -> Trial {
    match known {
        Some(trial) => trial.clone(),
        None => probe::run(qemu, accel).await,
    }
}

fn open_device() -> io::Result<()> {
    std::fs::File::options()
        .read(true)
        .write(true)
        .open(DEVICE)
        .map(drop)
}

fn device_fault(opened: io::Result<()>) -> Option<String> {
    let error = opened.err()?;
    Some(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "there is no `{DEVICE}` (no hardware virtualization here, or its kernel module is not \
             loaded)"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("you may not open `{DEVICE}` (`sudo usermod -aG kvm $USER`, then log in again)")
        }
        _ => format!("`{DEVICE}` cannot be opened: {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_device_that_cannot_be_opened_says_what_mends_it() {
        assert_eq!(device_fault(Ok(())), None);
        let fault = |kind: io::ErrorKind| device_fault(Err(kind.into())).unwrap();
        assert!(fault(io::ErrorKind::NotFound).starts_with("there is no `/dev/kvm`"));
        assert!(fault(io::ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
    }

    #[tokio::test]
    async fn where_nothing_runs_the_error_says_so_and_nothing_is_kept() {
        let qemu = Qemu::assumed("/nonexistent/qemu".into(), crate::qemu::OLDEST_QEMU);
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let error = decide_accel(&qemu, AccelChoice::Tcg, cache)
            .await
            .unwrap_err();
        assert!(matches!(error, VmmError::NoAccelerator { .. }), "{error}");
        let subject = Subject::of(&qemu, &fs::read_to_string(BOOT_ID).unwrap());
        assert_eq!(kept::load(cache, &subject), Trials::default());
    }

    #[tokio::test]
    async fn what_is_known_is_not_tried_again() {
        let qemu = Qemu::assumed("/nonexistent/qemu".into(), crate::qemu::OLDEST_QEMU);
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let subject = Subject::of(&qemu, &fs::read_to_string(BOOT_ID).unwrap());
        let trials = Trials {
            tcg: Some(Trial::Right {
                total: Duration::from_millis(500),
                work: Duration::from_millis(170),
            }),
            kvm: None,
        };
        kept::save(cache, subject, &trials);
        let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!((decision.accel, decision.slowdown), (Accel::Tcg, 3.9));
    }
}
