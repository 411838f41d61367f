//! What selected files need is prepared before any test starts. Where nothing says otherwise, no guest is
//! booted: a script answers the probe instead of QEMU.

use crate::cache::{CacheProject, setup_path};
use crate::project::{FinishedCommand, Project};
use std::os::unix::fs::PermissionsExt as _;

/// Gives its version and the result of the trial guest.
const QEMU: &str = r#"case "$*" in
  *--version*) echo QEMU emulator version 9.0.0 ;;
  *"-accel tcg"*) printf 'work\n70b20001 done\n' ;;
  *) exit 1 ;;
esac"#;

const BOOTS: &str = r#"test("boots", function() provium:vm("v", "p"):boot() end)"#;
const BOOTS_NOTHING: &str = r#"test("passes", function() end) -- "p""#;

/// A project with an empty cache and a script instead of QEMU.
pub(crate) fn project(profile: &str) -> Project {
    let project = Project::new(&[
        ("provium.toml", &format!("[profiles.p]\n{profile}\n")),
        ("a.test.lua", BOOTS_NOTHING),
        ("b.test.lua", BOOTS),
        ("c.test.lua", BOOTS),
        ("text", "some text"),
        ("root/etc/passwd", ""),
    ]);
    write_program(&project, "qemu", QEMU);
    let path = |name: &str| project.beside(name).to_str().unwrap().to_owned();
    project.set_env("PROVIUM_QEMU", &path("bin/qemu"));
    project.set_env("XDG_CACHE_HOME", &path("cache"));
    project
}

/// Writes an executable script to a folder beside the project.
pub(crate) fn write_program(project: &Project, name: &str, script: &str) {
    let folder = project.beside("bin");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(folder.join(name), executable).unwrap();
}

/// Panics unless the run ended without a test, and said once why.
#[track_caller]
fn is_unprepared(ran: &FinishedCommand, cause: &str) {
    let what = "of profile `p`, which `b.test.lua` names";
    let what = match ran.stderr.contains(what) {
        true => what,
        false => "cannot boot profile `p`, which `b.test.lua` names",
    };
    assert_eq!(ran.stderr.matches(what).count(), 1, "{}", ran.all());
    assert_eq!(ran.stderr.matches(cause).count(), 1, "{}", ran.all());
    assert_eq!(ran.stdout, "", "{}", ran.all());
}

#[test]
fn an_image_that_cannot_be_prepared_ends_the_run_once() {
    for (profile, cause) in [
        (
            "kernel = \"text\"\ninitrd = \"text\"",
            "/text` is not a kernel that can be booted",
        ),
        (
            "kernel = \"text\"\nguest = \"none\"",
            "/text` is not a kernel that can be booted",
        ),
        ("root = \"root\"", "/root` does not contain a kernel"),
    ] {
        let project = project(profile);
        let ran = project.run(&["--accel", "tcg"]).exits_with(2);
        is_unprepared(&ran, cause);
        ran.warns("help: ");
        // No file that is selected names the profile.
        let ran = project.run(&["--accel", "tcg", "a.test.lua"]).passes();
        assert!(!ran.stderr.contains("profile `p`"), "{}", ran.all());
    }
}

#[test]
fn a_download_is_outside_of_time_limits() {
    let project = project("guest = \"default\"\npackages = [\"sqlite3\"]");
    // The download takes longer than the file may, and no other way to a guest is open.
    write_program(
        &project,
        "apt-get",
        "/bin/sleep 2; echo E: the mirror is gone >&2; exit 100",
    );
    project.set_env("PATH", project.beside("bin").to_str().unwrap());
    let ran = project
        .run(&["--accel", "tcg", "--timeout", "1s"])
        .exits_with(2);
    is_unprepared(&ran, "E: the mirror is gone");
    ran.warns("provium: fetching the lists of packages");
}

#[test]
#[ignore = "needs the default guest"]
fn a_kernel_that_cannot_be_woken_ends_the_run() {
    let project = project("kernel = \"vmlinux\"\ns3 = true");
    project.remove_env("XDG_CACHE_HOME");
    let kernel = setup_path(&project.provium(&["setup"]).passes(), "kernel");
    std::fs::copy(kernel, project.file("vmlinux")).unwrap();
    let ran = project.run(&["--accel", "tcg"]).exits_with(2);
    is_unprepared(&ran, "/vmlinux` is an ELF file");
    ran.warns("bzImage");
}

/// A test with less time than its disk's image takes to make.
const FOLDER_DISK: &str = r#"provium:vm("first", "default", {disks = {{scratch = "1M", id = "src"}}}):boot():close()

test("boots", {timeout = "20s"}, function(t)
  local vm = provium:vm("v", "default", {disks = {{folder = "tree", id = "src", mount = "/src"}}}):boot()
  t:assert_eq(vm:read_file("/src/file"), "text")
end)
"#;

const FOLDER_DISK_SAVED: &str = r#"local vm = provium:vm("v", "disk"):boot()
vm:check("mkdir /src && mount /dev/vda /src")
test("saves", function(t) vm:snapshot("saved") end)
"#;

const FOLDER_DISK_RESTORED: &str = r#"local vm = provium:vm("v", "default")

test("restores", {timeout = "20s"}, function(t)
  vm:restore("saved")
  t:assert_eq(vm:read_file("/src/file"), "text")
end)
"#;

/// Attachments that end while the disk's image is made, which takes as long as the file `making` exists.
const CANCELLED: &str = r#"local vm = provium:vm("v", "default"):boot()

local function cancel_attachment()
  local attaching = co.spawn(function() vm:attach_disk{folder = "tree", id = "src"} end)
  wait_until(function() return io.open("making") end, {timeout = 60})
  attaching:cancel()
  os.remove("making")
end

test("another disk can be attached", function(t)
  local begun = os.time()
  cancel_attachment()
  t:assert_eq(vm:attach_disk{id = "other", size = "1M"}:node(), "/dev/vda")
  t:assert(os.time() - begun < 60, "it did not wait for the image")
end)

test("the clock runs", {timeout = "2s"}, function()
  cancel_attachment()
  wait_until(function() return false end, {timeout = 300})
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_cancelled_attachment_does_not_stop_the_clocks() {
    let cache = CacheProject::new(&[("cancelled.test.lua", CANCELLED), ("tree/file", "text")]);
    let project = &cache.project;
    write_program(
        project,
        "mke2fs",
        "touch \"$FOLDER/making\"\nsleep 100\nexit 1",
    );
    let path = std::env::var("PATH").unwrap();
    let bin = project.beside("bin");
    project.set_env("PATH", &format!("{}:{path}", bin.display()));
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let ran = project.run(&["cancelled.test.lua"]).exits_with(1);
    ran.prints("(1 passed, 1 failed)");
    ran.prints("timed out");
}

#[test]
#[ignore = "boots guests"]
fn the_image_of_a_folder_is_made_outside_of_time_limits() {
    let cache = CacheProject::new(&[
        ("disk.test.lua", FOLDER_DISK),
        ("save.test.lua", FOLDER_DISK_SAVED),
        ("restore.test.lua", FOLDER_DISK_RESTORED),
        ("tree/file", "text"),
        ("other/file", "text"),
    ]);
    let profile = "[profiles.disk]\nguest = \"default\"\ndisks = [{ folder = \"other\" }]\n";
    cache.configure("profile.toml", profile);
    let project = &cache.project;
    write_program(project, "mke2fs", "sleep 21\nexec \"$MKE2FS\" \"$@\"");
    let path = std::env::var("PATH").unwrap();
    let mut which = project.command("sh");
    which.args(["-c", "PATH=$PATH:/usr/sbin:/sbin command -v mke2fs"]);
    let found = String::from_utf8(which.output().unwrap().stdout).unwrap();
    project.set_env("MKE2FS", found.trim());
    let bin = project.beside("bin");
    project.set_env("PATH", &format!("{}:{path}", bin.display()));
    project
        .run(&["disk.test.lua"])
        .passes()
        .warns("making a file system of `.*/tree`");
    // That of a profile is made before the first test.
    let prepare = ["prepare", "--config", "profile.toml", "disk"];
    let prepared = project.provium(&prepare).passes();
    prepared.warns("making a file system of `.*/other`");
    // Nothing in the file of a test says that a snapshot is of a profile whose folder has changed.
    let run = |file| project.run(&["--config", "profile.toml", file]).passes();
    run("save.test.lua");
    project.write("other/file", "changed");
    run("restore.test.lua").warns("making a file system of `.*/other`");
}
