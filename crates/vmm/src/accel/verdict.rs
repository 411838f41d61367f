//! The verdict on KVM, and its file.
//!
//! The file is written whole and renamed into place, so that runs side by side cannot spoil it; what
//! is damaged, or about another boot or QEMU, is as good as absent.

use std::time::Duration;

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use crate::qemu::Qemu;

/// Raise it when the meaning of the file or the trial itself changes.
const FORMAT: u32 = 1;

/// Does KVM serve, and why so?
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    pub(super) kvm: bool,
    /// A clause for people, as in "KVM ran the trial guest in 0.2 s, TCG in 0.4 s".
    pub(super) why: String,
}

/// What a verdict is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Subject {
    format: u32,
    boot_id: String,
    qemu: Utf8PathBuf,
    version: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    subject: Subject,
    verdict: Verdict,
}

impl Subject {
    pub(super) fn of(qemu: &Qemu, boot_id: &str) -> Self {
        Self {
            format: FORMAT,
            boot_id: boot_id.trim().to_owned(),
            qemu: qemu.path.clone(),
            version: qemu.version.to_string(),
        }
    }
}

/// The file in the cache folder.
fn file(cache_dir: &Utf8Path) -> Utf8PathBuf {
    cache_dir.join("accel-v1.json")
}

/// The verdict on this very subject, if one is kept.
pub(super) fn load(cache_dir: &Utf8Path, subject: &Subject) -> Option<Verdict> {
    let kept: Kept = serde_json::from_slice(&fs::read(file(cache_dir)).ok()?).ok()?;
    (kept.subject == *subject).then_some(kept.verdict)
}

/// Keeps a verdict. A cache that cannot be written only costs the next run its time.
pub(super) fn save(cache_dir: &Utf8Path, subject: Subject, verdict: &Verdict) {
    let kept = Kept {
        subject,
        verdict: verdict.clone(),
    };
    let written = fs::create_dir_all(cache_dir).and_then(|()| {
        let mut temporary = tempfile::NamedTempFile::new_in(cache_dir)?;
        serde_json::to_writer(&mut temporary, &kept)?;
        temporary
            .persist(file(cache_dir))
            .map_err(|error| error.error)?;
        Ok(())
    });
    if let Err(error) = written {
        tracing::warn!(%error, "the verdict on KVM could not be kept");
    }
}

/// How one trial went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// The right result, after this time from the start of QEMU.
    Right(Duration),
    /// A wrong result.
    Wrong(String),
    /// No result within this time.
    Unfinished(Duration),
    /// QEMU ended: how.
    Ended(String),
}

/// KVM serves if it is right and no slower than TCG. If TCG itself failed there is nothing to
/// compare with, and a right KVM will do.
pub(super) fn judge(kvm: &Trial, tcg: &Trial) -> Verdict {
    let seconds = |time: &Duration| format!("{:.2} s", time.as_secs_f64());
    let (serves, why) = match (kvm, tcg) {
        (Trial::Right(kvm), Trial::Right(tcg)) if kvm > tcg => {
            let (kvm, tcg) = (seconds(kvm), seconds(tcg));
            (
                false,
                format!("KVM is slower here: it ran the trial guest in {kvm}, TCG in {tcg}"),
            )
        }
        (Trial::Right(kvm), Trial::Right(tcg)) => {
            let (kvm, tcg) = (seconds(kvm), seconds(tcg));
            (
                true,
                format!("KVM ran the trial guest in {kvm}, TCG in {tcg}"),
            )
        }
        (Trial::Right(kvm), _) => (true, format!("KVM ran the trial guest in {}", seconds(kvm))),
        (Trial::Wrong(result), _) => (
            false,
            format!("KVM computes wrongly here: the trial guest said `{result}`"),
        ),
        (Trial::Unfinished(time), Trial::Right(tcg)) => {
            let (time, tcg) = (seconds(time), seconds(tcg));
            let why = format!(
                "KVM crawls here: the trial guest, which TCG ran in {tcg}, was not done in {time}"
            );
            (false, why)
        }
        (Trial::Unfinished(time), _) => (
            false,
            format!(
                "KVM crawls here: the trial guest was not done in {}",
                seconds(time)
            ),
        ),
        (Trial::Ended(how), _) => (false, format!("KVM does not work here: {how}")),
    };
    Verdict { kvm: serves, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::qemu::OLDEST_QEMU;

    #[test]
    fn a_verdict_holds_for_its_boot_and_its_qemu() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap().join("new");
        let qemu = Qemu::assumed("qemu".into(), OLDEST_QEMU);
        let subject = Subject::of(&qemu, "boot-1\n");
        assert_eq!(load(&folder, &subject), None);
        let verdict = Verdict {
            kvm: true,
            why: "it ran".into(),
        };
        save(&folder, subject.clone(), &verdict);
        assert_eq!(load(&folder, &subject), Some(verdict));
        assert_eq!(load(&folder, &Subject::of(&qemu, "boot-2")), None);
        let other = Qemu::assumed("other".into(), OLDEST_QEMU);
        assert_eq!(load(&folder, &Subject::of(&other, "boot-1")), None);
        fs::write(file(&folder), "{").unwrap();
        assert_eq!(load(&folder, &subject), None, "a damaged file is none");
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "nothing else is left"
        );
    }

    #[test]
    fn kvm_has_to_be_right_and_faster() {
        let ms = Duration::from_millis;
        let verdicts = [
            (Trial::Right(ms(200)), Trial::Right(ms(400))),
            (Trial::Right(ms(500)), Trial::Right(ms(400))),
            (Trial::Right(ms(500)), Trial::Unfinished(ms(10_000))),
            (Trial::Wrong("0 done".into()), Trial::Right(ms(400))),
            (Trial::Unfinished(ms(10_000)), Trial::Right(ms(400))),
            (
                Trial::Ended("QEMU was killed by SIGABRT".into()),
                Trial::Right(ms(400)),
            ),
        ]
        .map(|(kvm, tcg)| judge(&kvm, &tcg))
        .map(|verdict| format!("{}: {}", verdict.kvm, verdict.why));
        insta::assert_snapshot!(verdicts.join("\n"));
    }
}
