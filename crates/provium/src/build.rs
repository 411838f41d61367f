//! Build commands of profiles: each is run once, before the first VM of a run. Profiles that name the
//! same command in the same folder share one run of it. Commands that runs side by side have in one folder
//! are run one after the other.
//!
//! Only the profiles that the run can use are built: those whose name occurs in one of its test files, or
//! in a helper that these could `require`.

use crate::config::{BuildCommand, Config, ProfileConfig};
use crate::failure::Failure;
use crate::hiargs::shown;
use crate::terminal;
use camino::Utf8Path;
use provium_events::printable::{one_line, text_of};
use provium_lab::{Environment, Profile};
use provium_process::{Command, output};
use provium_runner::TestFile;
use provium_store::{Bucket, Cache, ExclusiveLock, KeyBuilder, LockHolder};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Limit of a build. Kernels take long to build, but a run must not wait without end.
const BUILD_TIMEOUT: Duration = Duration::from_secs(4 * 3600);

/// Every profile, those of a run built.
pub(crate) struct BuiltProfiles {
    /// In the order of the configuration.
    pub(crate) profiles: Vec<Profile>,
    /// Those that were built.
    pub(crate) outputs: BuildOutputs,
}

/// What build commands have made, locked: no other run builds in the same folders as long as this lives.
/// Their commands may begin by removing what was made.
#[derive(Debug, Default)]
pub(crate) struct BuildOutputs {
    /// The profiles that were built.
    profiles: BTreeSet<String>,
    locks: Vec<ExclusiveLock>,
}

impl BuildOutputs {
    /// Reads what was made into the images of `environment`, and lets other runs build again. What cannot be
    /// read is an error for the first boot.
    pub(crate) async fn read(self, environment: &Environment) {
        for profile in &self.profiles {
            let _ = environment.image(profile).await;
        }
        drop(self.locks);
    }
}

/// Builds the profiles of these names, and gives every profile as it is then.
pub(crate) async fn profiles(
    config: &Config,
    names: &BTreeSet<String>,
    no_build: bool,
) -> Result<BuiltProfiles, Failure> {
    for warning in config.warnings() {
        terminal::error(&format!("provium: warning: {warning}\n"));
    }
    let wanted = |profile: &ProfileConfig| names.contains(&profile.name);
    let to_build = config.profiles.iter().filter(|profile| {
        let has_build = profile.build.is_some() && !no_build;
        has_build && wanted(profile)
    });
    let locks = lock_folders(config, to_build).await?;
    let mut built = BTreeMap::new();
    for profile in &config.profiles {
        let Some(build) = profile.build.as_ref().filter(|_| !no_build) else {
            continue;
        };
        if !wanted(profile) || built.contains_key(&profile.name) {
            continue;
        }
        run(profile, build).await?;
        let same = |other: &&ProfileConfig| {
            wanted(other)
                && other
                    .build
                    .as_ref()
                    .is_some_and(|other| other.is_same(build))
        };
        for profile in config.profiles.iter().filter(same) {
            built.insert(profile.name.clone(), profile.resolve_built()?);
        }
    }
    let outputs = BuildOutputs {
        profiles: built.keys().cloned().collect(),
        locks,
    };
    let resolved = config.profiles.iter().map(|profile| {
        let resolved = match built.remove(&profile.name) {
            Some(built) => built,
            // Its files may be missing, but it will not be booted.
            None if profile.build.is_some() && !wanted(profile) => profile.unresolved(),
            None => profile.resolve()?,
        };
        // An error only for a test that boots it.
        if let Some(why) = &resolved.unusable {
            terminal::error(&format!(
                "provium: warning: {why}; profile `{}` cannot be booted\n",
                profile.name
            ));
        }
        Ok(resolved)
    });
    Ok(BuiltProfiles {
        profiles: resolved.collect::<Result<_, Failure>>()?,
        outputs,
    })
}

/// Locks the folders in which these profiles are built. All runs lock them in one order, so that two of them
/// never wait for each other.
async fn lock_folders<'a>(
    config: &Config,
    profiles: impl Iterator<Item = &'a ProfileConfig>,
) -> Result<Vec<ExclusiveLock>, Failure> {
    let mut folders = BTreeMap::new();
    for profile in profiles {
        if let Some(build) = &profile.build {
            folders.entry(&build.directory).or_insert((profile, build));
        }
    }
    if folders.is_empty() {
        return Ok(Vec::new());
    }
    let bucket = Cache::open(&config.cache_dir)?.bucket("builds", 1)?;
    let mut locks = Vec::new();
    for (profile, build) in folders.into_values() {
        locks.push(lock_folder(&bucket, profile, build).await?);
    }
    Ok(locks)
}

/// Waits until no other run builds in the folder of that command, and keeps others from it.
async fn lock_folder(
    bucket: &Bucket,
    profile: &ProfileConfig,
    build: &BuildCommand,
) -> Result<ExclusiveLock, Failure> {
    let key = KeyBuilder::new("build").with("directory", build.directory.as_str());
    let lock = bucket.lock(&key.finish());
    let lock = lock.held_for(&format!("the build of profile `{}`", profile.name));
    let waiting = |holder: Option<&LockHolder>| {
        let who = match holder {
            Some(holder) => format!(
                "process {}, which has started {}",
                holder.pid, holder.purpose
            ),
            None => "another run's build".to_owned(),
        };
        let directory = shown(&build.directory);
        terminal::error(&format!("provium: waiting in `{directory}` for {who}\n"));
    };
    Ok(lock.exclusive(BUILD_TIMEOUT, &waiting).await?)
}

/// The profiles that have a build command and that `files` can use.
pub(crate) fn used_by(config: &Config, files: &[TestFile]) -> BTreeSet<String> {
    let mut missing: Vec<&str> = config
        .profiles
        .iter()
        .filter(|profile| profile.build.is_some())
        .map(|profile| profile.name.as_str())
        .collect();
    let mut used = BTreeSet::new();
    let mut look_in = |path: &Utf8Path, missing: &mut Vec<&str>| {
        // A file that cannot be read fails in its own test, with its own words.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        missing.retain(|name| {
            let found = text.contains(name);
            if found {
                used.insert((*name).to_owned());
            }
            !found
        });
    };
    for file in files {
        if missing.is_empty() {
            return used;
        }
        look_in(&file.path, &mut missing);
    }
    let folders: BTreeSet<_> = files.iter().flat_map(|file| &file.package_roots).collect();
    for folder in folders {
        for helper in lua_files(folder) {
            if missing.is_empty() {
                return used;
            }
            look_in(&helper, &mut missing);
        }
    }
    used
}

impl BuildCommand {
    /// Whether running both would do the same twice: what `{out}` stands for is in the line.
    fn is_same(&self, other: &Self) -> bool {
        self.line == other.line && self.directory == other.directory
    }
}

async fn run(profile: &ProfileConfig, build: &BuildCommand) -> Result<(), Failure> {
    let not_run = |source| Failure::BuildNotRun {
        profile: profile.name.clone(),
        command: build.line.clone(),
        source,
    };
    terminal::error(&format!(
        "provium: building profile `{}`: {}\n",
        one_line(&profile.name),
        one_line(&build.line)
    ));
    // The command may count on its folder; if it cannot be made, the command says so better.
    let _ = fs_err::create_dir_all(&build.out);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", build.line.as_str()])
        .current_dir(build.directory.as_std_path())
        // It ends with all that it has started, also if this process is killed.
        .supervised()
        .original_limits();
    let said = output(command, BUILD_TIMEOUT).await.map_err(not_run)?;
    if said.exit.success() {
        return Ok(());
    }
    let output = [said.stdout, said.stderr].concat();
    Err(Failure::BuildFailed {
        profile: profile.name.clone(),
        command: build.line.clone(),
        exit: said.exit.to_string(),
        output: text_of(&output),
    })
}

/// Every Lua file below a folder that is not a test.
fn lua_files(folder: &Utf8Path) -> Vec<camino::Utf8PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = folder.read_dir_utf8() else {
            continue;
        };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder && !name.starts_with('.') {
                folders.push(entry.path().to_owned());
            } else if name.ends_with(".lua") && !name.ends_with(".test.lua") {
                found.push(entry.path().to_owned());
            }
        }
    }
    found
}
