//! A test that times out because its call waits for the raw syscall of another task names that syscall.

use crate::project::Project;

const BLOCKED: &str = r#"local vm = provium:vm("v", "default"):boot()
test("a file behind a syscall of the VM", {timeout = "10s"}, function()
  co.spawn(function() vm:syscall("pause") end)
  vm:run("true")
  vm:open_file("/etc/hostname", {read = true})
end)
test("a worker behind a syscall of the VM", {timeout = "10s"}, function()
  co.spawn(function() vm:syscall("pause") end)
  vm:run("true")
  vm:spawn_worker()
end)
test("a file behind a syscall of a worker", {timeout = "10s"}, function()
  local w = vm:spawn_worker()
  co.spawn(function() w:syscall("pause") end)
  vm:run("true")
  w:open_file("/etc/hostname", {read = true})
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_call_that_waits_for_a_raw_syscall_names_it_when_it_times_out() {
    let project = Project::new(&[("blocked.test.lua", BLOCKED)]);
    let run = project.run(&["blocked.test.lua"]).exits_with(1);
    run.prints("in vm:open_file(\"/etc/hostname\", {…}); the raw syscall `pause` of vm `v`");
    run.prints("in vm:spawn_worker(); the raw syscall `pause` of vm `v`");
    run.prints("in worker:open_file(\"/etc/hostname\", {…}); the raw syscall `pause` of worker ");
}
