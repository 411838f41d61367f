//! The decision for an accelerator.

use std::io;

use camino::Utf8Path;
use fs_err as fs;

use super::verdict::{self, Subject, Verdict};
use super::{Accel, AccelChoice, probe};
use crate::error::VmmError;
use crate::qemu::Qemu;

const DEVICE: &str = "/dev/kvm";

/// Which accelerator serves, and why, as a sentence's clause for `doctor`. The first call after a
/// boot of the host takes up to about a second where KVM works and ten where it crawls; later ones
/// read the verdict from `cache_dir`.
///
/// # Errors
/// [`VmmError::KvmUnusable`] if KVM was demanded and does not work: the error says what happened.
pub async fn decide_accel(
    qemu: &Qemu,
    choice: AccelChoice,
    cache_dir: &Utf8Path,
) -> Result<(Accel, String), VmmError> {
    if choice == AccelChoice::Tcg {
        return Ok((Accel::Tcg, "TCG was asked for".to_owned()));
    }
    let Verdict { kvm, why } = match device_fault(open_device()) {
        // Not kept: rights and modules change without a reboot.
        Some(why) => Verdict { kvm: false, why },
        None => tried(qemu, cache_dir).await,
    };
    match (kvm, choice) {
        (true, _) => Ok((Accel::Kvm, why)),
        (false, AccelChoice::Kvm) => Err(VmmError::KvmUnusable { why }),
        (false, _) => Ok((Accel::Tcg, why)),
    }
}

async fn tried(qemu: &Qemu, cache_dir: &Utf8Path) -> Verdict {
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let subject = Subject::of(qemu, &boot_id);
    if let Some(verdict) = verdict::load(cache_dir, &subject) {
        return verdict;
    }
    // One after the other: they are compared by time.
    let tcg = probe::run(qemu, Accel::Tcg).await;
    let kvm = probe::run(qemu, Accel::Kvm).await;
    let verdict = verdict::judge(&kvm, &tcg);
    tracing::info!(?kvm, ?tcg, why = verdict.why, "KVM was tried");
    verdict::save(cache_dir, subject, &verdict);
    verdict
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

    #[test]
    fn a_device_that_cannot_be_opened_says_what_mends_it() {
        assert_eq!(device_fault(Ok(())), None);
        let fault = |kind: io::ErrorKind| device_fault(Err(kind.into())).unwrap();
        assert!(fault(io::ErrorKind::NotFound).starts_with("there is no `/dev/kvm`"));
        assert!(fault(io::ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
    }

    #[tokio::test]
    async fn tcg_needs_no_trial() {
        let qemu = Qemu::assumed("none".into(), crate::qemu::OLDEST_QEMU);
        let decided = decide_accel(&qemu, AccelChoice::Tcg, "/nonexistent".into())
            .await
            .unwrap();
        assert_eq!(decided.0, Accel::Tcg);
    }
}
