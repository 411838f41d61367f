//! Build commands of profiles: each is run once, before the first VM of a run. Profiles that name the
//! same command in the same folder share one run of it.
//!
//! Only the profiles that the run can use are built: those whose name stands in one of its test
//! files, or in a helper that these could `require`.

use crate::config::{BuildCommand, Config, ProfileConfig};
use crate::failure::Failure;
use crate::terminal;
use camino::Utf8Path;
use provium_lab::Profile;
use provium_process::{Command, output};
use provium_runner::TestFile;
use std::collections::BTreeSet;
use std::time::Duration;

/// Longest build. Kernels take their time, but a run must not wait for ever.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

/// Builds what `names` says (`None`: all), and gives every profile as it is then.
pub(crate) async fn profiles(
    config: &Config,
    names: Option<&BTreeSet<String>>,
    no_build: bool,
) -> Result<Vec<Profile>, Failure> {
    let mut profiles = Vec::new();
    let mut built: Vec<&BuildCommand> = Vec::new();
    for warning in config.warnings() {
        terminal::error(&format!("provium: warning: {warning}\n"));
    }
    for profile in &config.profiles {
        let wanted = names.is_none_or(|names| names.contains(&profile.name));
        let resolved = match &profile.build {
            // Its files may not be there, but nobody will ask for them.
            Some(_) if !wanted => profile.unresolved(),
            Some(build) if !no_build => {
                if !built.iter().any(|other| build.is_same(other)) {
                    run(profile, build).await?;
                    built.push(build);
                }
                profile.resolve_built()?
            }
            _ => profile.resolve()?,
        };
        // An error for who boots it; others need not care.
        if let Some(why) = &resolved.unusable {
            terminal::error(&format!(
                "provium: warning: {why}; profile `{}` cannot be booted\n",
                profile.name
            ));
        }
        profiles.push(resolved);
    }
    Ok(profiles)
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
        profile.name, build.line
    ));
    // The command may count on its folder; if it cannot be made, the command says so better.
    let _ = fs_err::create_dir_all(&build.out);
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", build.line.as_str()])
        .current_dir(build.directory.as_std_path());
    let said = output(command, LONGEST).await.map_err(not_run)?;
    if said.exit.success() {
        return Ok(());
    }
    let output = [said.stdout, said.stderr].concat();
    Err(Failure::BuildFailed {
        profile: profile.name.clone(),
        command: build.line.clone(),
        exit: said.exit.to_string(),
        output: String::from_utf8_lossy(&output).into_owned(),
    })
}

/// Every Lua file below a folder that is no test.
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
