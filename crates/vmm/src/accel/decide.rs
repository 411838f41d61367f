//! Decides which accelerator is used.

use std::io;

use camino::Utf8Path;
use fs_err as fs;

use super::measurement::Measurement;
use super::trial_cache::{self, TrialHost, Trials};
use super::verdict::{self, ProbeResult};
use super::{Accel, AccelChoice, Processor, probe};
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
    /// The host's processor.
    pub processor: Processor,
}

/// Whether accelerators are tried that were tried before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Retry {
    /// If the result looks as if the host was busy.
    IfDoubtful,
    /// Once more in any case.
    Always,
}

/// Decides which accelerator is used. The first call after a boot of the host takes
/// about half a second where KVM is absent, a second where it works and ten where it crawls; later
/// ones read the trials from `cache_dir`, and repeat one that a busy host has disturbed.
///
/// # Errors
/// [`VmmError::KvmUnusable`] if KVM was requested and does not work, [`VmmError::NoAccelerator`] if TCG
/// does not work either.
pub async fn decide_accel(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
) -> Result<Decision, VmmError> {
    decide(qemu, choice, cache_dir, Retry::IfDoubtful).await
}

/// As [`decide_accel`], but tries the accelerators once more even if nothing looks disturbed, and keeps the
/// better result. Does not make `cache_dir`.
///
/// # Errors
/// As [`decide_accel`].
pub async fn measure_accel(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
) -> Result<Decision, VmmError> {
    decide(qemu, choice, cache_dir, Retry::Always).await
}

async fn decide(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
    retry: Retry,
) -> Result<Decision, VmmError> {
    let boot_id = fs::read_to_string(BOOT_ID).unwrap_or_default();
    let subject = TrialHost::of(qemu, &boot_id);
    let known = trial_cache::load(cache_dir, &subject);
    let processor = Processor::of_host(known.tsc_khz).await;
    // One after the other, since their times are compared.
    let measured_tcg = tried(qemu, Accel::Tcg, known.tcg.as_ref(), retry).await;
    let tcg = &measured_tcg.trial;
    let refused = |why| ProbeResult { kvm: false, why };
    let (kvm, probe_result) = match choice {
        AccelChoice::Tcg => (known.kvm.clone(), refused("TCG was asked for".to_owned())),
        AccelChoice::Auto | AccelChoice::Kvm => match device_fault(open_device()) {
            // Not cached: permissions and modules change without a reboot.
            Some(why) => (known.kvm.clone(), refused(why)),
            None => {
                let kvm = tried(qemu, Accel::Kvm, known.kvm.as_ref(), retry).await;
                let result = verdict::compare(&kvm.trial, tcg);
                (Some(kvm), result)
            }
        },
    };
    let trials = Trials {
        // A fault that keeps even TCG from running may be fixed before the next try.
        tcg: tcg.fault().is_none().then(|| measured_tcg.clone()),
        kvm: kvm.clone(),
        tsc_khz: processor.tsc_khz,
    };
    if trials != known && (retry == Retry::IfDoubtful || cache_dir.is_dir()) {
        tracing::info!(?trials, "the accelerators were tried");
        trial_cache::save(cache_dir, subject, &trials);
    }
    match (probe_result.kvm, choice) {
        (true, _) => Ok(Decision {
            accel: Accel::Kvm,
            why: probe_result.why,
            slowdown: kvm.map_or(1.0, |kvm| kvm.trial.slowdown(Accel::Kvm)),
            processor,
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
                processor,
            }),
        },
    }
}

/// The best of the known trials under `accel` and of those that are made now.
async fn tried(
    qemu: &Qemu,
    accel: Accel,
    known: Option<&Measurement>,
    retry: Retry,
) -> Measurement {
    let (mut measured, mut made) = match known {
        Some(known) => (known.clone(), 0),
        None => (Measurement::new(probe::run(qemu, accel).await), 1),
    };
    while measured.wants_another(accel, made) || (retry == Retry::Always && made == 0) {
        measured.add(probe::run(qemu, accel).await);
        made += 1;
    }
    measured
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
    use super::super::trial::Trial;
    use super::*;
    use crate::tiny;
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
        let subject = TrialHost::of(&qemu, &fs::read_to_string(BOOT_ID).unwrap());
        assert_eq!(trial_cache::load(cache, &subject).tcg, None);
    }

    fn right(total: u64, work: u64) -> Measurement {
        Measurement::new(Trial::Right {
            total: Duration::from_millis(total),
            work: Duration::from_millis(work),
        })
    }

    /// A cache in which TCG was tried with that result.
    fn cache_with(qemu: &Qemu, tcg: Measurement) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let subject = TrialHost::of(qemu, &fs::read_to_string(BOOT_ID).unwrap());
        let trials = Trials {
            tcg: Some(tcg),
            ..Trials::default()
        };
        trial_cache::save(cache, subject, &trials);
        folder
    }

    #[tokio::test]
    async fn a_cached_trial_is_not_repeated() {
        let qemu = Qemu::assumed("/nonexistent/qemu".into(), crate::qemu::OLDEST_QEMU);
        let folder = cache_with(&qemu, right(500, 170));
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!((decision.accel, decision.slowdown), (Accel::Tcg, 3.9));
    }

    /// Stands in for QEMU: prints what the trial guest prints, at once.
    fn quick_qemu(folder: &Utf8Path) -> Qemu {
        use std::os::unix::fs::PermissionsExt as _;
        let path = folder.join("qemu");
        let output = format!("{}{}", tiny::STARTED, tiny::finished(probe::ROUNDS));
        let output = output.replace('\n', "\\n");
        fs::write(&path, format!("#!/bin/sh\nprintf '{output}'\n")).unwrap();
        fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Qemu::assumed(path, crate::qemu::OLDEST_QEMU)
    }

    #[tokio::test]
    async fn a_trial_of_a_busy_minute_is_not_kept() {
        let programs = tempfile::tempdir().unwrap();
        let qemu = quick_qemu(Utf8Path::from_path(programs.path()).unwrap());
        let folder = cache_with(&qemu, right(3000, 580));
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        for _ in 0..2 {
            let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
            assert_eq!(decision.slowdown, 1.0, "13.3 before");
        }
        // Nothing looks wrong with this one, but it can be better.
        let folder = cache_with(&qemu, right(400, 200));
        let cache = Utf8Path::from_path(folder.path()).unwrap();
        let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!(decision.slowdown, 4.6);
        let decision = measure_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!(decision.slowdown, 1.0);
        let decision = decide_accel(&qemu, AccelChoice::Tcg, cache).await.unwrap();
        assert_eq!(decision.slowdown, 1.0, "it is kept");

        let absent = cache.join("absent");
        measure_accel(&qemu, AccelChoice::Tcg, &absent)
            .await
            .unwrap();
        assert!(!absent.exists());
    }
}
