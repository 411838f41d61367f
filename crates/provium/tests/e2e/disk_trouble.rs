//! Disks whose host fails: its file system is full, or QEMU's connection to a disk breaks. The guest gets an error, the
//! user learns why, and what was flushed is there.

use crate::cache::{CacheProject, may_mount, run_on_small_disk};
use crate::process::{children, send_signal};
use crate::project::Project;
use rustix::net::{Shutdown, SocketAddrUnix, getsockname, shutdown, sockopt};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use std::os::fd::OwnedFd;

/// The guest writes until the host has no more space.
const FILLS: &str = r#"local vm = provium:vm("db", "default", {disks = {{scratch = "1G", id = "data"}}})
vm:boot()
local data = vm:disk("data")
local FLUSHED = ("flushed\n"):rep(131072)

test("a write that the host has no space for fails", function(t)
  vm:check("yes flushed | head -c 1048576 | dd of=/dev/vda bs=64k conv=fsync")
  local r = vm:run("yes lost | dd of=/dev/vda bs=64k seek=16 iflag=fullblock oflag=direct")
  t:assert_contains(r.stderr, "Input/output error")
  -- By the page cache, too: it is the flush that reports it.
  r = vm:run("yes lost | head -c 8388608 | dd of=/dev/vda bs=64k seek=8192 conv=fsync")
  t:assert_contains(r.stderr, "Input/output error")
  t:assert_eq(data:active_faults()[1], nil)
  t:assert(data:stats().failed > 0)
  t:fail("to see the report")
end)

test("what was flushed is there, also after a boot", function(t)
  local function check()
    t:assert_eq(vm:check("head -c 1048576 /dev/vda").stdout, FLUSHED)
    t:assert_eq(data:read_sectors(0, 2048), FLUSHED)
  end
  check()
  vm:power_cut()
  vm:boot()
  check()
  -- What the power cut has lost leaves space.
  vm:check("yes again | head -c 1048576 | dd of=/dev/vda bs=64k seek=16 conv=fsync")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_full_host_fails_the_guests_write_and_loses_nothing_that_was_flushed() {
    if !may_mount() {
        eprintln!("skipped: this user may not mount a file system");
        return;
    }
    let cache = CacheProject::new(&[("full.test.lua", FILLS)]);
    // A template takes about 70 MiB.
    let ran = run_on_small_disk(&cache, 160).exits_with(1);
    ran.prints("(1 passed, 1 failed)");
    ran.prints("disk `data` of vm `db`: ");
    ran.prints("the host could not carry out ");
    ran.prints("the first a write: No space left on device");
    ran.warns(
        "warning: disk `data` of vm `db`: the host could not carry out a write: No space left on device.*\
         is in `.*/full/snapshots-v[0-9]+`",
    );
}

/// QEMU's connections to the disks of a run.
fn disk_connections(run: u32) -> Vec<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(run).unwrap()).unwrap();
    let process = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    let open = std::fs::read_dir(format!("/proc/{run}/fd")).unwrap();
    let numbers = open.flatten().map(|entry| entry.file_name());
    let numbers = numbers.map(|name| name.to_str().unwrap().parse().unwrap());
    let taken =
        numbers.filter_map(|number| pidfd_getfd(&process, number, PidfdGetfdFlags::empty()).ok());
    taken.filter(is_disk_connection).collect()
}

/// Whether it is a socket that was accepted at the socket of a disk.
fn is_disk_connection(socket: &OwnedFd) -> bool {
    let name = getsockname(socket).ok();
    let name = name.and_then(|name| SocketAddrUnix::try_from(name).ok());
    let path = name.as_ref().and_then(SocketAddrUnix::path_bytes);
    path.is_some_and(|path| path.ends_with(b".sock"))
        && !sockopt::socket_acceptconn(socket).unwrap()
}

const BREAKS: &str = r#"local FOLDER = assert(os.getenv("FOLDER"))
local options = {disks = {{scratch = "1M", id = "data"}, {scratch = "1M", id = "fixed", readonly = true}}}
local reset = provium:vm("reset", "default", options):boot()
local reboots = provium:vm("reboots", "default", options):boot()
local cut = provium:vm("cut", "default", options):boot()
local all = {reset, reboots, cut}
for _, vm in ipairs(all) do
  vm:check("printf %-512s flushed | dd of=/dev/vda bs=512 conv=fsync")
end

local function works(t, vm)
  t:assert_contains(vm:check("head -c 512 /dev/vda").stdout, "flushed")
  vm:check("printf %-512s again | dd of=/dev/vda bs=512 seek=8 conv=fsync")
  t:assert_contains(vm:disk("data"):read_sectors(8, 1), "again")
  vm:check("cat /dev/vdb > /dev/null")
end

test("the connections break", {timeout = "60s"}, function(t)
  io.open(FOLDER .. "/ready", "w"):close()
  wait_until(function() return io.open(FOLDER .. "/broken") end, {timeout = 60})
end)

test("the guest's commands fail", function(t)
  for _, vm in ipairs(all) do
    local r = vm:run("dd if=/dev/zero of=/dev/vda bs=4k count=1 oflag=direct")
    t:assert_contains(r.stderr, "Input/output error")
    t:assert_contains(vm:run("dd if=/dev/vdb of=/dev/null iflag=direct").stderr, "Input/output error")
    t:assert_contains(vm:disk("data"):read_sectors(0, 1), "flushed")
  end
  t:fail("to see the report")
end)

test("until the VM is reset", function(t)
  reset:reset()
  works(t, reset)
end)

test("or its guest reboots", function(t)
  t:assert_contains(t:assert_raises(function() reboots:run("reboot -f") end), "rebooted")
  wait_until(function()
    local ok, r = pcall(reboots.run, reboots, "head -c 512 /dev/vda && cat /dev/vdb > /dev/null")
    return ok and r.exit_code == 0
  end, {timeout = 60, desc = "the guest is back with its disks"})
  works(t, reboots)
end)

test("or it boots", function(t)
  cut:power_cut()
  cut:boot()
  works(t, cut)
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_broken_connection_to_a_disk_is_reported_and_ends_with_a_reset() {
    let project = Project::new(&[("breaks.test.lua", BREAKS)]);
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let mut run = project.start(&["--color", "never", "breaks.test.lua"]);
    run.wait_until("the disks are in use", |_| project.file("ready").exists());
    let connections = disk_connections(run.pid());
    assert_eq!(connections.len(), 6);
    for connection in connections {
        shutdown(connection, Shutdown::Both).unwrap();
    }
    run.wait_until("the services have noticed", |run| {
        disk_connections(run.pid()).is_empty()
    });
    project.write("broken", "");
    let ran = run.wait().exits_with(1);
    ran.prints("(4 passed, 1 failed)");
    ran.warns("warning: disk `data` of vm `cut`: QEMU's connection to it is lost");
    for vm in ["reset", "reboots", "cut"] {
        for disk in ["data", "fixed"] {
            ran.prints(&format!("disk `{disk}` of vm `{vm}`: "));
        }
    }
    ran.prints("QEMU's connection to it is lost: it was closed. The guest's commands fail until the VM boots or is reset");
}

const KILLED: &str = r#"local FOLDER = assert(os.getenv("FOLDER"))
local vm = provium:vm("v", "default", {disks = {{scratch = "1M", id = "data"}}}):boot()
local data = vm:disk("data")

test("a killed machine loses nothing that was flushed", function(t)
  vm:check("printf %-512s flushed | dd of=/dev/vda bs=512 conv=fsync")
  local before = data:stats().writes
  vm:run_async("while :; do dd if=/dev/urandom of=/dev/vda bs=4k seek=1 count=64 oflag=direct; done")
  wait_until(function() return data:stats().writes > before + 8 end, {timeout = 60})
  io.open(FOLDER .. "/ready", "w"):close()
  wait_until(function() return vm:state() == "dead" end, {timeout = 60})
  t:assert_contains(data:read_sectors(0, 1), "flushed")
  vm:boot()
  t:assert_contains(vm:check("head -c 512 /dev/vda").stdout, "flushed")
  vm:check("dd if=/dev/zero of=/dev/vda bs=4k seek=1 count=1 conv=fsync")
  t:assert_eq(data:read_sectors(8, 8), ("\0"):rep(4096))
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_killed_machine_loses_nothing_that_was_flushed() {
    let project = Project::new(&[("killed.test.lua", KILLED)]);
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let mut run = project.start(&["killed.test.lua"]);
    run.wait_until("the disk is in use", |_| project.file("ready").exists());
    let is_qemu = |pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("qemu"))
    };
    // Warm ones, too.
    for machine in children(run.pid()).into_iter().filter(is_qemu) {
        send_signal(machine, "KILL");
    }
    run.wait().passes();
}

const WRITES_IN_PLACE: &str = r#"local FOLDER = assert(os.getenv("FOLDER"))
local vm = provium:vm("v", "default", {disks = {{path = FOLDER .. "/image", id = "data"}}}):boot()

test("is killed", function(t)
  vm:check("printf %-512s flushed | dd of=/dev/vda bs=512 conv=fsync")
  vm:check("printf %-512s not-flushed | dd of=/dev/vda bs=512 seek=1 oflag=direct")
  io.open(FOLDER .. "/ready", "w"):close()
  vm:run("sleep 1000")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn an_image_has_what_was_flushed_after_its_run_was_killed() {
    let project = Project::new(&[("in_place.test.lua", WRITES_IN_PLACE)]);
    project.set_env("FOLDER", project.path().to_str().unwrap());
    project.write("image", &"-".repeat(4096));
    let mut run = project.start(&["in_place.test.lua"]);
    run.wait_until("it was flushed", |_| project.file("ready").exists());
    run.signal("KILL");
    drop(run);
    let image = project.read("image");
    assert!(image.starts_with("flushed "), "{image}");
    assert_eq!(image[512..], "-".repeat(4096 - 512), "{image}");
}

/// A guest that powers itself off as soon as it has its name: before, while or after its disks are inserted.
const DIES: &str = r#"local disks = {}
for i = 1, 19 do disks[i] = {scratch = "1M"} end

test("a guest that ends while it gets its disks", function(t)
  for _, name in ipairs{"first", "second", "third"} do
    local vm = provium:vm(name, "dies", {disks = disks})
    local is_booted, why = pcall(vm.boot, vm)
    if is_booted then
      wait_until(function() return vm:state() == "dead" end, {timeout = 60})
    else
      t:assert_contains(tostring(why), "the guest powered itself off")
    end
    vm:close()
  end
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_guest_that_ends_while_it_gets_its_disks_leaves_its_template_as_it_is() {
    let cache = CacheProject::new(&[("dies.test.lua", DIES)]);
    let ends = "while read name < /proc/sys/kernel/hostname && [ $name = guest ]; do :; done; \
                  echo o > /proc/sysrq-trigger";
    let profile =
        format!("[profiles.dies]\nguest = \"default\"\nready = '({ends}) > /dev/null 2>&1 &'\n");
    cache.configure("dies.toml", &profile);
    let ran = (cache.project).run(&["--config", "dies.toml", "dies.test.lua"]);
    let ran = ran.passes();
    assert!(!ran.stderr.contains("template"), "{}", ran.stderr);
}
