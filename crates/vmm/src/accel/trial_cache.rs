//! The results of trials, in a file of the cache folder.
//!
//! The file is written completely and renamed into place, so that parallel runs cannot damage it. A file that
//! is damaged, or of another boot or QEMU, is ignored.

use camino::{Utf8Path, Utf8PathBuf};
use fs_err as fs;
use serde::{Deserialize, Serialize};

use super::measurement::Measurement;
use crate::qemu::Qemu;

/// Raise it when the meaning of the file or the trial itself changes.
const FORMAT: u32 = 5;

/// The host's boot and the QEMU that trials are valid for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct TrialHost {
    format: u32,
    boot_id: String,
    qemu: Utf8PathBuf,
    version: String,
}

/// The results of the trials that were run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trials {
    pub(super) tcg: Option<Measurement>,
    pub(super) kvm: Option<Measurement>,
    /// The frequency of the host's time stamp counter, kHz.
    pub(super) tsc_khz: Option<u32>,
}

#[derive(Serialize, Deserialize)]
struct CacheFile {
    subject: TrialHost,
    trials: Trials,
}

impl TrialHost {
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
    cache_dir.join("accel-v5.json")
}

/// The cached trials of `subject`.
pub(super) fn load(cache_dir: &Utf8Path, subject: &TrialHost) -> Trials {
    let text = fs::read(file(cache_dir)).ok();
    let content = text.and_then(|text| serde_json::from_slice::<CacheFile>(&text).ok());
    content
        .filter(|content| content.subject == *subject)
        .map_or_else(Trials::default, |content| content.trials)
}

/// Writes the trials. If that fails, the next run repeats them.
pub(super) fn save(cache_dir: &Utf8Path, subject: TrialHost, trials: &Trials) {
    let content = CacheFile {
        subject,
        trials: trials.clone(),
    };
    let written = fs::create_dir_all(cache_dir).and_then(|()| {
        let mut temporary = tempfile::NamedTempFile::new_in(cache_dir)?;
        serde_json::to_writer(&mut temporary, &content)?;
        temporary
            .persist(file(cache_dir))
            .map_err(|error| error.error)?;
        Ok(())
    });
    if let Err(error) = written {
        tracing::warn!(%error, "cannot cache the trials of the accelerators");
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::Trial;
    use super::*;
    use crate::qemu::OLDEST_QEMU;
    use std::time::Duration;

    #[test]
    fn trials_hold_for_their_boot_and_their_qemu() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap().join("new");
        let qemu = Qemu::assumed("qemu".into(), OLDEST_QEMU);
        let subject = TrialHost::of(&qemu, "boot-1\n");
        let none = Trials::default();
        assert_eq!(load(&folder, &subject), none);
        let trials = Trials {
            tcg: Some(Measurement::new(Trial::Right {
                total: Duration::from_millis(433),
                work: Duration::from_millis(321),
            })),
            kvm: Some(Measurement::new(Trial::Ended(
                "QEMU was killed by SIGABRT".into(),
            ))),
            tsc_khz: Some(2_596_000),
        };
        save(&folder, subject.clone(), &trials);
        assert_eq!(load(&folder, &subject), trials);
        assert_eq!(load(&folder, &TrialHost::of(&qemu, "boot-2")), none);
        let other = Qemu::assumed("other".into(), OLDEST_QEMU);
        assert_eq!(load(&folder, &TrialHost::of(&other, "boot-1")), none);
        fs::write(file(&folder), "{").unwrap();
        assert_eq!(load(&folder, &subject), none, "a damaged file is ignored");
        assert_eq!(
            fs::read_dir(&folder).unwrap().count(),
            1,
            "nothing else is left"
        );
    }
}
