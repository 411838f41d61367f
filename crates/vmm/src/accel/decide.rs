//! Decides which accelerator is used.

use std::io;

use camino::Utf8Path;
use fs_err as fs;

use super::trial::Trial;
use super::trial_cache::{self, Subject, Trials};
use super::verdict::{self, ProbeResult};
use super::{Accel, AccelChoice, probe};
use crate::error::VmmError;
use crate::qemu::Qemu;

const DEVICE: &str = "/dev/kvm";

/// Differs from boot to boot of the host.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The accelerator that runs the guests, and how fast it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The accelerator.
    pub accel: Accel,
    /// Why it was chosen, as a clause for `doctor`.
    pub why: String,
    /// How many times longer the guest's kernel takes than on a processor of 3.3 GHz: measured, at least 1.
    /// Timeouts that wait for a guest are multiplied by it.
    pub slowdown: f64,
}

/// Decides which accelerator is used. The first call after a boot of the host takes
/// about half a second where KVM is absent, a second where it works and ten where it crawls; later
/// ones read the trials from `cache_dir`.
///
/// # Errors
/// [`VmmError::KvmUnusable`] if KVM was requested and does not work, [`VmmError::NoAccelerator`] if TCG
/// does not work either.
pub async fn decide_accel(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
) -> Result<Decision, VmmError> {
    let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let subject = Subject::of(qemu, &boot_id);
    let known = trial_cache::load(cache_dir, &subject);
    // One after the other, since their times are compared.
    let tcg = tried(qemu, Accel::Tcg, known.tcg.as_ref()).await;
    let refused = |why| ProbeResult { kvm: false, why };
    let (kvm, probe_result) = match choice {
        AccelChoice::Tcg => (known.kvm.clone(), refused("TCG was asked for".to_owned())),
        AccelChoice::Auto | AccelChoice::Kvm => match device_fault(open_device()) {
            // Not cached: permissions and modules change without a reboot.
            Some(why) => (known.kvm.clone(), refused(why)),
            None => {
                let kvm = tried(qemu, Accel::Kvm, known.kvm.as_ref()).await;
                let result = verdict::compare(&kvm, &tcg);
                (Some(kvm), result)
            }
        },
    };
    let trials = Trials {
        // A fault that keeps even TCG from running may be fixed before the next try.
        tcg: tcg.fault().is_none().then(|| tcg.clone()),
        kvm: kvm.clone(),
    };
    if trials != known {
        tracing::info!(?trials, "the accelerators were tried");
        trial_cache::save(cache_dir, subject, &trials);
    }
    match (probe_result.kvm, choice) {
        (true, _) => Ok(Decision {
            accel: Accel::Kvm,
            why: probe_result.why,
            slowdown: kvm.map_or(1.0, |kvm| kvm.slowdown(Accel::Kvm)),
        }),
        (false, AccelChoice::Kvm) => Err(VmmError::KvmUnusable {
            why: probe_result.why,
        }),
        (false, _) => match tcg.fault() {
            Some(how) => Err(VmmError::NoAccelerator {
                why: probe_result.why,
                how,
            }),
            None => Ok(Decision {
                accel: Accel::Tcg,
                why: probe_result.why,
                slowdown: tcg.slowdown(Accel::Tcg),
            }),
        },
    }
}

/// The result of the trial under `accel`, which is run unless it is known.
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
            "`{DEVICE}` does not exist (no hardware virtualization here, or its kernel module is not \
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
    fn a_device_that_cannot_be_opened_has_a_fix() {
        assert_eq!(device_fault(Ok(())), None);
        let fault = |kind: io::ErrorKind| device_fault(Err(kind.into())).unwrap();
        assert!(fault(io::ErrorKind::NotFound).starts_with("`/dev/kvm` does not exist"));
        assert!(fault(io::ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
    }

    #[tokio::test]
    async fn a_trial_that_cannot_run_is_an_error_and_is_not_cached() {
        let qemu = Qemu::assumed("/nonexistent/qemu".into(), crate::qemu::OLDEST_QEMU);
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let error = decide_accel(&qemu, AccelChoice::Tcg, cache)
            .await
            .unwrap_err();
        assert!(matches!(error, VmmError::NoAccelerator { .. }), "{error}");
        let subject = Subject::of(&qemu, &fs::read_to_string(BOOT_ID).unwrap());
        assert_eq!(trial_cache::load(cache, &subject), Trials::default());
    }

    #[tokio::test]
    async fn a_cached_trial_is_not_repeated() {
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
        trial_cache::save(cache, subject, &trials);
        let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!((decision.accel, decision.slowdown), (Accel::Tcg, 3.9));
    }
}
