//! The cache of boot templates, as damage, killed runs, little space and links leave it: the next run
//! passes, and reports what was wrong.

use crate::process::{children, is_gone, wait_for};
use crate::project::{FinishedCommand, Project, RunningCommand, boots, provium};
use provium_events::{Event, NoticeLevel, NoticeSubject};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const BOOT: &str = r#"test("boots", function(t)
  local vm = provium:vm("v", "default"):boot()
  t:assert_eq(vm:run("echo up").stdout, "up\n")
end)
"#;

/// A project with `boot.test.lua` and a cache of its own: the user's default guest, and nothing else.
pub(crate) struct CacheProject {
    pub(crate) project: Project,
}

impl CacheProject {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let project = Project::new(files);
        project.write("boot.test.lua", BOOT);
        let cache = Self { project };
        std::fs::create_dir(cache.folder()).unwrap();
        let users = users_cache(&cache.project);
        copy_guest(&users, &cache.folder());
        cache.configure("provium.toml", "");
        // For runs that have to make room.
        cache.configure("tiny.toml", "cache_max_size = \"1M\"\n");
        cache
    }

    /// A configuration that uses this cache.
    pub(crate) fn configure(&self, path: &str, more: &str) {
        let folder = self.folder();
        let text = format!("[provium]\ncache_dir = {folder:?}\n{more}");
        self.project.write(path, &text);
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.project.beside("cache")
    }

    pub(crate) fn templates(&self) -> PathBuf {
        self.folder().join("templates-v1")
    }

    /// The folder of the only template.
    pub(crate) fn template(&self) -> PathBuf {
        let is_key = |path: &PathBuf| path.file_name().is_some_and(|name| name.len() == 64);
        let mut found = list(&self.templates()).into_iter().filter(is_key);
        let template = found.next().unwrap();
        assert_eq!(found.next(), None);
        template
    }

    pub(crate) fn boot(&self) -> FinishedCommand {
        self.project.run(&["boot.test.lua"]).passes()
    }

    /// Temporary folders that are there.
    pub(crate) fn drafts(&self) -> Vec<PathBuf> {
        drafts(&self.folder())
    }

    #[track_caller]
    pub(crate) fn has_no_drafts(&self) {
        let drafts = self.drafts();
        assert!(drafts.is_empty(), "{drafts:?}");
    }
}

/// Temporary folders in the buckets of a cache.
fn drafts(cache: &Path) -> Vec<PathBuf> {
    let is_draft = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(".tmp-"))
    };
    let buckets = list(cache).into_iter().filter(|path| path.is_dir());
    let inside = buckets.flat_map(|bucket| list(&bucket));
    list(cache)
        .into_iter()
        .chain(inside)
        .filter(is_draft)
        .collect()
}

pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

/// The user's cache, in which `provium setup` has put the default guest.
pub(crate) fn users_cache(project: &Project) -> PathBuf {
    let setup = project.provium(&["setup"]).passes();
    let root = setup_path(&setup, "root");
    // CACHE/guests-v1/KEY/root.cpio
    root.ancestors().nth(3).unwrap().to_owned()
}

/// A path that `provium setup` prints.
pub(crate) fn setup_path(setup: &FinishedCommand, name: &str) -> PathBuf {
    let mut lines = setup.stdout.lines().map(str::split_whitespace);
    let path = lines.find_map(|mut words| (words.next() == Some(name)).then(|| words.next()));
    path.flatten()
        .unwrap_or_else(|| panic!("no `{name}`: {}", setup.all()))
        .into()
}

fn copy_guest(from: &Path, to: &Path) {
    let is_needed = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| {
            ["accel-v", "guests-v", "kernels-v"]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
    };
    let copied = Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .args(list(from).into_iter().filter(is_needed))
        .arg(to)
        .status();
    assert!(copied.unwrap().success());
}

/// Writes one byte of a file.
fn overwrite(path: &Path, at: u64) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(&[0xff], at).unwrap();
}

/// One kind of damage, done to the folder of a template.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 8] = [
    ("RAM cut short", |entry| {
        let ram = File::options().write(true).open(entry.join("ram"));
        let ram = ram.unwrap();
        ram.set_len(ram.metadata().unwrap().len() - 4096).unwrap();
    }),
    ("a changed byte of RAM", |entry| {
        overwrite(&entry.join("ram"), 100_000_000);
    }),
    ("a changed byte of device state", |entry| {
        overwrite(&entry.join("devices"), 1000);
    }),
    ("a missing file", |entry| {
        std::fs::remove_file(entry.join("devices")).unwrap();
    }),
    ("a later version", |entry| {
        replace(
            &entry.join("manifest.json"),
            "\"version\": 2",
            "\"version\": 99",
        );
    }),
    ("another key", |entry| {
        let name = entry.file_name().unwrap().to_str().unwrap();
        let other = format!("00{}", &name[2..]);
        replace(&entry.join("manifest.json"), name, &other);
    }),
    ("a file instead of a folder", |entry| {
        std::fs::remove_dir_all(entry).unwrap();
        std::fs::write(entry, "\n").unwrap();
    }),
    ("device state that only QEMU refuses", |entry| {
        // The manifest takes the file for unchanged by its modification time.
        let path = entry.join("devices");
        let metadata = std::fs::metadata(&path).unwrap();
        let zeros = vec![0; usize::try_from(metadata.len()).unwrap()];
        std::fs::write(&path, zeros).unwrap();
        let times = std::fs::FileTimes::new().set_modified(metadata.modified().unwrap());
        let file = File::options().write(true).open(&path).unwrap();
        file.set_times(times).unwrap();
    }),
];

pub(crate) fn replace(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).unwrap();
}

#[test]
#[ignore = "boots guests"]
fn a_damaged_template_is_reported_removed_and_rebuilt() {
    let cache = CacheProject::new(&[]);
    cache.boot();
    for (what, damage) in DAMAGES {
        let template = cache.template();
        damage(&template);
        let ran = cache.boot();
        assert_eq!(ran.boots(), ["cold"], "{what}: {}", ran.all());
        let path = regex::escape(template.to_str().unwrap());
        ran.warns(&format!("boot template.*{path}.* removed and rebuilt"));
        assert!(ran.has_event(is_rebuilt_template), "{what}");
        cache.has_no_drafts();
    }
    let ran = cache.boot();
    assert_eq!(ran.boots(), ["template"], "{}", ran.all());
    assert_eq!(ran.stderr, "");
}

fn is_rebuilt_template(event: &Event) -> bool {
    let Event::Notice(notice) = event else {
        return false;
    };
    notice.level == NoticeLevel::Warning
        && notice.about == NoticeSubject::Template
        && notice.file.as_deref() == Some("boot.test.lua")
}

#[test]
#[ignore = "boots guests"]
fn damage_is_shown_in_the_line_of_its_file_and_under_a_file_that_fails() {
    let cache = CacheProject::new(&[]);
    cache.boot();
    std::fs::remove_file(cache.template().join("devices")).unwrap();
    let ran = cache.project.run(&["--json", "boot.test.lua"]).passes();
    ran.prints(
        "\"notices\":[{\"level\":\"warning\",\"about\":\"template\",\"text\":\"a boot template in",
    );

    std::fs::remove_file(cache.template().join("devices")).unwrap();
    cache.project.edit("boot.test.lua", "up\\n\")", "down\")");
    let ran = cache.project.run(&["boot.test.lua"]).exits_with(1);
    ran.prints("(1 failed)");
    assert!(
        ran.stdout.contains("\n  warning a boot template in"),
        "{}",
        ran.all()
    );
}

const USES: &str = r#"local folder = assert(os.getenv("FOLDER"))
local function there(name) local f = io.open(folder .. "/" .. name); return f and f:close() end
test("uses what is evicted around it", {timeout = "10m"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  io.open(folder .. "/booted", "w"):close()
  wait_until(function() return there("evicted") end, {timeout = "5m"})
  vm:run("modprobe xfs"):assert_ok()
  local s = vm:snapshot()
  vm:reset()
  vm:restore(s)
  provium:vm("w", "default"):boot():run("true"):assert_ok()
end)
"#;

const OTHER: &str = r#"test("boots another kind", function()
  provium:vm("v", "default", {memory = "192M"}):boot()
end)
"#;

#[test]
#[ignore = "boots guests"]
fn an_entry_in_use_is_not_evicted() {
    let cache = CacheProject::new(&[("user.test.lua", USES), ("other.test.lua", OTHER)]);
    cache.boot();
    let project = &cache.project;
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let mut user = project.start(&["user.test.lua"]);
    user.wait_until("the user's boot", |_| project.file("booted").exists());
    let tiny = ["--config", "tiny.toml", "other.test.lua"];
    project.run(&tiny).passes();
    project.write("evicted", "");
    let ran = user.wait().passes();
    let expected = ["snapshot", "template", "template"];
    assert_eq!(ran.boots(), expected, "{}", ran.all());
}

/// Kills the run as soon as `moment` has come, and waits for the end of its machines.
fn kill_at(mut run: RunningCommand, what: &str, moment: impl Fn(&RunningCommand) -> bool) {
    run.wait_until(what, moment);
    let machines = children(run.pid());
    run.signal("KILL");
    run.wait();
    for machine in machines {
        wait_for("the end of the machine", || is_gone(machine));
    }
}

fn has_machine(run: &RunningCommand) -> bool {
    !children(run.pid()).is_empty()
}

#[test]
#[ignore = "boots guests"]
fn a_run_killed_while_it_boots_for_a_template_leaves_nothing() {
    let cache = CacheProject::new(&[]);
    let run = cache.project.start(&["boot.test.lua"]);
    kill_at(run, "a machine", has_machine);
    assert_eq!(cache.boot().boots(), ["cold"]);
    cache.has_no_drafts();
}

#[test]
#[ignore = "boots guests"]
fn a_run_killed_while_it_saves_a_template_leaves_nothing() {
    let cache = CacheProject::new(&[]);
    let run = cache.project.start(&["boot.test.lua"]);
    kill_at(run, "a draft of a template", |_| !cache.drafts().is_empty());
    assert_eq!(cache.boot().boots(), ["cold"]);
    cache.has_no_drafts();
}

#[test]
#[ignore = "boots guests"]
fn a_run_killed_while_it_restores_a_template_leaves_it_whole() {
    let cache = CacheProject::new(&[]);
    cache.boot();
    let run = cache.project.start(&["boot.test.lua"]);
    kill_at(run, "a machine", has_machine);
    let ran = cache.boot();
    assert_eq!(ran.boots(), ["template"], "{}", ran.all());
    cache.has_no_drafts();
}

const HOLDS: &str = r#"test("holds a snapshot", function(t)
  local vm = provium:vm("v", "default"):boot()
  local s = vm:snapshot()
  io.open(assert(os.getenv("FOLDER")) .. "/saved", "w"):close()
  vm:run("sleep 1000")
  s:delete()
end)
"#;

#[test]
#[ignore = "boots guests"]
fn snapshots_of_a_killed_run_are_swept() {
    let cache = CacheProject::new(&[("holds.test.lua", HOLDS)]);
    let project = &cache.project;
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let run = project.start(&["holds.test.lua"]);
    kill_at(run, "a snapshot", |_| project.file("saved").exists());
    assert!(!cache.drafts().is_empty());
    cache.boot();
    cache.has_no_drafts();
}

#[test]
#[ignore = "boots guests"]
fn a_link_instead_of_a_lock_file_is_refused() {
    let cache = CacheProject::new(&[]);
    cache.boot();
    let precious = cache.project.beside("precious");
    std::fs::write(&precious, "precious").unwrap();
    let template = cache.template();
    let lock = cache
        .templates()
        .join("LOCKS")
        .join(template.file_name().unwrap());
    std::fs::remove_file(&lock).unwrap();
    std::os::unix::fs::symlink(&precious, &lock).unwrap();

    let ran = cache.boot();
    assert_eq!(ran.boots(), ["cold"], "{}", ran.all());
    let path = regex::escape(lock.to_str().unwrap());
    ran.warns(&format!(
        "no boot template can be used.*{path}. is not a lock file of the cache"
    ));
    // A run that makes room must look at the lock as well.
    let tiny = ["--config", "tiny.toml", "boot.test.lua"];
    cache.project.run(&tiny).passes();
    assert_eq!(std::fs::read_to_string(precious).unwrap(), "precious");
}

/// The disk is too full for a template and for a snapshot.
const FULL: &str = r#"test("boots twice, and cannot be saved", function(t)
  for i = 1, 2 do
    local vm = provium:vm("v" .. i, "default"):boot()
    vm:run("true"):assert_ok()
    local err = tostring(t:assert_raises(function() vm:snapshot() end))
    t:assert_contains(err, "snapshot()")
    t:assert_contains(err, "No space left")
    vm:run("true"):assert_ok()
  end
end)
"#;

const FULL_DISK: &str = r#"set -euo pipefail
mount -t tmpfs -o size="$SIZE" none "$FULL"
cp -a "$CACHE"/{accel-v*.json,guests-v*,kernels-v*} "$FULL"
status=0
"$PROVIUM" --config full.toml --save-events "$EVENTS" full.test.lua || status=$?
left=$(find "$FULL" -maxdepth 2 -name '.tmp-*')
test -z "$left" || { echo "left on the full disk: $left" >&2; exit 1; }
exit $status
"#;

/// Whether this user may mount a file system, in a namespace.
pub(crate) fn may_mount() -> bool {
    let mounted = Command::new("unshare")
        .args(["-rm", "mount", "-t", "tmpfs", "none", "/mnt"])
        .output();
    mounted.unwrap().status.success()
}

/// Runs `full.test.lua` with a cache on a file system of its own, which has so many MiB more than the default guest
/// takes.
pub(crate) fn run_on_small_disk(cache: &CacheProject, more: u64) -> FinishedCommand {
    let project = &cache.project;
    let full = project.beside("full");
    std::fs::create_dir(&full).unwrap();
    project.write("full.toml", &format!("[provium]\ncache_dir = {full:?}\n"));
    let size = mebibytes(&cache.folder()) + more;
    let events = project.beside("full.events");
    let mut command = project.command("unshare");
    command.args(["-rm", "bash", "-c", FULL_DISK]);
    command
        .env("SIZE", format!("{size}m"))
        .env("FULL", &full)
        .env("CACHE", cache.folder())
        .env("EVENTS", &events)
        .env("PROVIUM", provium());
    project.spawn(command, events).wait()
}

#[test]
#[ignore = "boots guests"]
fn boots_on_a_full_disk_are_cold() {
    if !may_mount() {
        eprintln!("skipped: this user may not mount a file system");
        return;
    }
    let cache = CacheProject::new(&[("full.test.lua", FULL)]);
    // A template takes about 70 MiB.
    let ran = run_on_small_disk(&cache, 40).passes();
    assert_eq!(boots(&ran.events), ["cold", "cold"], "{}", ran.all());
    ran.warns("no boot template could be kept.*No space left");
}

/// What a folder takes on the disk.
fn mebibytes(folder: &Path) -> u64 {
    let output = Command::new("du").arg("-sm").arg(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}
