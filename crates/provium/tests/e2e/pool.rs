//! Boots that wait for the pool: time limits are stopped meanwhile, and the report names the wait.

use crate::project::Project;
use provium_events::Event;

/// Holds one of two vCPUs for longer than the other file's time limit.
const HOLDS: &str = r#"test("holds", function() provium:vm("v", "default"):boot():run("sleep 24") end)
"#;

const WAITS: &str = r#"local first = provium:vm("first", "default"):boot()
test("has its time for itself", {timeout = "15s"}, function(t)
  first:run("sleep 1")
  t:assert_eq(provium:vm("second", "default"):boot():run("echo on").stdout, "on\n")
end)
test("has no more than that", {timeout = "1s"}, function() first:run("sleep 100") end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_wait_for_another_file_does_not_count_against_time_limits() {
    let project = Project::new(&[("holds.test.lua", HOLDS), ("waits.test.lua", WAITS)]);
    let files = ["holds.test.lua", "waits.test.lua"];
    let ran = project.run(&[&["--cpus", "2", "--mem", "800M"], &files[..]].concat());
    let ran = ran.exits_with(1);
    ran.prints("PASS holds.test.lua");
    ran.prints("FAIL waits.test.lua (1 passed, 1 failed");
    ran.prints("timed out after 1s in vm:run");
    let pattern = r"(?m)^  waited ([0-9.]+)s for 356 MiB and 1 vCPU";
    let named = regex::Regex::new(pattern).unwrap().captures(&ran.stdout);
    let named = named.unwrap_or_else(|| panic!("the wait is not named: {}", ran.all()));
    let waited: f64 = named[1].parse().unwrap();
    let boot = ran.events.iter().find_map(|event| match event {
        Event::VmSpawned {
            vm_name, boot_ns, ..
        } if vm_name == "second" => Some(*boot_ns as f64 / 1e9),
        _ => None,
    });
    let boot = boot.unwrap();
    assert!(
        boot < waited / 2.0,
        "{boot} s for the boot, waited {waited} s"
    );
}

const TASKS: &str = r#"test("another task of the file returns it", {timeout = "90s"}, function(t)
  local a = provium:vm("a", "default"):boot()
  local task = co.spawn(function() a:run("sleep 5"); a:shutdown() end)
  t:assert_eq(provium:vm("b", "default"):boot():run("echo on").stdout, "on\n")
  task:join()
end)
"#;

/// Longer than the four seconds after which files that wait for each other are refused.
#[test]
#[ignore = "boots guests"]
fn a_file_with_another_active_task_is_not_refused() {
    let project = Project::new(&[("task.test.lua", TASKS)]);
    project.run(&["--mem", "600M", "task.test.lua"]).passes();
}

const ITSELF: &str = r#"test("holds all that it waits for", {timeout = "90s"}, function(t)
  provium:vm("a", "default"):boot()
  local err = t:assert_raises(function() provium:vm("b", "default"):boot() end)
  t:assert_contains(tostring(err), "needs 356 MiB and 1 vCPU, but this file waits for memory that only it holds, 356 MiB")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_file_that_waits_for_itself_is_refused() {
    let project = Project::new(&[("itself.test.lua", ITSELF)]);
    project.run(&["--mem", "600M", "itself.test.lua"]).passes();
}

/// Two tests hold a copy each, and want a further one, for which the pool has no room.
const COPIES: &str = r#"provium.parallel = true
local vm = provium:vm("v", "default", {disks = {{scratch = "1M", id = "d"}}}):boot()
local inside = 0

for _, name in ipairs{"first", "second"} do
  test(name, {timeout = "90s"}, function(t)
    inside = inside + 1
    wait_until(function() return inside == 2 end, {timeout = "60s"})
    if WORKS and name == "first" then return vm:check("sleep 5") end
    vm:disk("d"):crash_states(function() end)
  end)
end
"#;

#[test]
#[ignore = "boots guests"]
fn one_of_parallel_tests_that_all_wait_for_a_further_vm_is_refused() {
    let project = Project::new(&[("copies.test.lua", COPIES)]);
    let ran = project.run(&["--mem", "800M", "--cpus", "2", "copies.test.lua"]);
    let ran = ran.exits_with(1);
    // The other one gets what the refused one returns.
    ran.prints("FAIL copies.test.lua (1 passed, 1 failed");
    ran.prints(
        "disk `d` of vm `v`: crash_states(): needs 356 MiB and 1 vCPU, but this file waits for memory that only it \
         holds, 712 MiB and 2 vCPUs, and no other part of it works meanwhile",
    );
}

#[test]
#[ignore = "boots guests"]
fn a_parallel_test_that_works_longer_is_awaited() {
    let project = Project::new(&[("copies.test.lua", COPIES)]);
    project.edit("copies.test.lua", "WORKS", "true");
    let ran = project.run(&["--mem", "800M", "--cpus", "2", "copies.test.lua"]);
    ran.passes();
}
