//! What machines are made with on this host: QEMU, an accelerator, images.

use crate::build::{self, BuildOutputs, BuiltProfiles};
use crate::config::{Config, ProfileConfig};
use crate::failure::Failure;
use crate::hiargs::{MachineSettings, from_start};
use crate::terminal::{self, Stream};
use camino::Utf8Path;
use provium_events::{Notice, NoticeSubject, Sink, counted};
use provium_image::{ImageError, Images, Progress};
use provium_lab::{Host, Profile};
use provium_report::notice_line;
use provium_runner::TestFile;
use provium_store::Cache;
use provium_vmm::{AccelChoice, Qemu, decide_accel};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Names another QEMU than the one on `PATH`.
pub(crate) const QEMU_VARIABLE: &str = "PROVIUM_QEMU";

/// Prints reports on images, for commands that have no run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PrintedProgress;

impl Progress for PrintedProgress {
    fn step(&self, text: &str) {
        terminal::error(&notice_line(&Notice::info(NoticeSubject::Image, text)));
    }

    fn shows_amounts(&self) -> bool {
        terminal::size(Stream::Error).is_some()
    }

    fn amount(&self, done: u64, total: u64) {
        if self.shows_amounts() {
            let lines = match done < total {
                true => vec![format!("provium: {}", amount(done, total))],
                false => Vec::new(),
            };
            terminal::draw(Stream::Error, &lines);
        }
    }

    fn warning(&self, text: &str) {
        terminal::error(&notice_line(&Notice::warning(NoticeSubject::Image, text)));
    }
}

/// Such as `12.3 of 40.1 MiB (30 %)`.
fn amount(done: u64, total: u64) -> String {
    let tenths = |bytes: u64| {
        let tenths = (u128::from(bytes) * 10) >> 20;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    let percent = u128::from(done) * 100 / u128::from(total.max(1));
    format!("{} of {} MiB ({percent} %)", tenths(done), tenths(total))
}

/// Reports on the images of a run: printed until the run starts, and sent as events afterwards. The first event of a
/// run is its start.
#[derive(Debug)]
pub(crate) struct RunProgress {
    sink: Sink,
    is_quiet: bool,
    has_started: AtomicBool,
}

impl RunProgress {
    pub(crate) fn new(sink: Sink, is_quiet: bool) -> Self {
        Self {
            sink,
            is_quiet,
            has_started: AtomicBool::new(false),
        }
    }

    /// From now on, reports are events.
    pub(crate) fn run_starts(&self) {
        self.has_started.store(true, Ordering::Relaxed);
    }

    fn printed(&self) -> Option<PrintedProgress> {
        (!self.has_started.load(Ordering::Relaxed)).then_some(PrintedProgress)
    }
}

impl Progress for RunProgress {
    fn step(&self, text: &str) {
        match self.printed() {
            Some(printed) if !self.is_quiet => printed.step(text),
            Some(_) => (),
            None => self.sink.notify(Notice::info(NoticeSubject::Image, text)),
        }
    }

    fn shows_amounts(&self) -> bool {
        let printed = self.printed().filter(|_| !self.is_quiet);
        printed.is_some_and(|printed| printed.shows_amounts())
    }

    fn amount(&self, done: u64, total: u64) {
        if let Some(printed) = self.printed().filter(|_| !self.is_quiet) {
            printed.amount(done, total);
        }
    }

    fn warning(&self, text: &str) {
        match self.printed() {
            Some(printed) => printed.warning(text),
            None => self
                .sink
                .notify(Notice::warning(NoticeSubject::Image, text)),
        }
    }
}

/// What machines are made from and with.
pub(crate) struct MachineSetup {
    /// All profiles; the build commands of those that are used have run.
    pub(crate) profiles: Vec<Profile>,
    /// What these commands have made.
    pub(crate) outputs: BuildOutputs,
    /// The host's means.
    pub(crate) host: Host,
}

/// What machines of `files` are made from and with.
pub(crate) async fn prepare(
    config: &Config,
    files: &[TestFile],
    settings: &MachineSettings,
    progress: Arc<dyn Progress>,
) -> Result<MachineSetup, Failure> {
    let used = build::used_by(config, files);
    prepare_profiles(config, &used, settings, progress).await
}

/// The same, for what boots the profiles of these names.
pub(crate) async fn prepare_profiles(
    config: &Config,
    used: &BTreeSet<String>,
    settings: &MachineSettings,
    progress: Arc<dyn Progress>,
) -> Result<MachineSetup, Failure> {
    let built = build::profiles(config, used, settings.no_build).await?;
    let BuiltProfiles {
        mut profiles,
        outputs,
    } = built;
    if settings.accel_is_explicit {
        for profile in &mut profiles {
            profile.accel = settings.accel;
        }
    }
    let mut host = host(config, settings, progress).await?;
    let is_built =
        |profile: &ProfileConfig| profile.build.is_some() && used.contains(&profile.name);
    if config.profiles.iter().any(is_built) {
        let copying = host.images.copying_files();
        host.images = copying.map_err(|source| cache_error(&config.cache_dir, source))?;
    }
    // A profile that demands an accelerator gets it, or an error. The slowest accelerator decides the
    // timeout multiplier of the run.
    for choice in [AccelChoice::Kvm, AccelChoice::Tcg] {
        if profiles.iter().any(|profile| profile.accel == choice) {
            let cache_dir = &config.cache_dir;
            let decision = decide_accel(&host.qemu, choice, cache_dir).await?;
            host.timeout_multiplier = host.timeout_multiplier.max(decision.slowdown);
        }
    }
    Ok(MachineSetup {
        profiles,
        outputs,
        host,
    })
}

/// The host's means.
async fn host(
    config: &Config,
    settings: &MachineSettings,
    progress: Arc<dyn Progress>,
) -> Result<Host, Failure> {
    let cache_dir = config.cache_dir.as_path();
    let images = images(cache_dir, progress)?;
    let qemu = qemu().await?;
    let decision = decide_accel(&qemu, settings.accel, cache_dir).await?;
    let buckets = Cache::open(cache_dir).and_then(|cache| {
        cache.evict(config.cache_max_size)?;
        let templates = cache.bucket("templates", 1)?;
        let snapshots = cache.bucket("snapshots", 1)?;
        Ok((templates, snapshots, cache.bucket("fixtures", 1)?))
    });
    let (templates, snapshots, fixtures) = buckets?;
    Ok(Host {
        images,
        qemu,
        accel: decision.accel,
        processor: decision.processor,
        templates: (!settings.cold).then_some(templates),
        snapshots,
        fixtures,
        timeout_multiplier: decision.slowdown,
    })
}

/// Images over the cache.
pub(crate) fn images(cache_dir: &Utf8Path, progress: Arc<dyn Progress>) -> Result<Images, Failure> {
    Images::open(cache_dir, progress).map_err(|source| cache_error(cache_dir, source))
}

fn cache_error(cache_dir: &Utf8Path, source: ImageError) -> Failure {
    Failure::Cache {
        path: cache_dir.to_owned(),
        source,
    }
}

/// The host's QEMU.
pub(crate) async fn qemu() -> Result<Qemu, Failure> {
    let explicit = std::env::var(QEMU_VARIABLE)
        .ok()
        .filter(|path| !path.is_empty());
    // A name without a slash is looked up on PATH.
    let explicit = explicit.map(|path| match path.contains('/') {
        true => from_start(Utf8Path::new(&path)),
        false => path.into(),
    });
    Ok(Qemu::find(explicit.as_deref()).await?)
}

/// The host in words: system, release, processors.
pub(crate) fn description() -> String {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let release = read("/proc/sys/kernel/osrelease");
    let cpus = provium_pool::default_cpus();
    format!("Linux {release}, {}", counted(cpus, "CPU"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_has_its_size_and_share() {
        assert_eq!(amount(12_900_000, 42_000_000), "12.3 of 40.0 MiB (30 %)");
        assert_eq!(amount(0, 0), "0.0 of 0.0 MiB (0 %)");
    }
}
