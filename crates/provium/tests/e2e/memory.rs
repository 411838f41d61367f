//! The output of processes does not stay in memory. It is measured in a run of its own: files that run in
//! the same process have output, too.

use crate::project::Project;

/// The allocator keeps some freed blocks for the next ones, however many processes follow. So memory may grow
/// with the first processes, and not with further ones.
const MANY_PROCESSES: &str = r#"local vm = provium:vm("v", "default"):boot()
local each = 3 << 20
local function resident()
  return tonumber(io.open("/proc/self/status"):read("a"):match("VmRSS:%s+(%d+)")) * 1024
end
local function run_processes(t, count)
  for i = 1, count do
    local p = vm:run_async("head -c " .. each .. " /dev/zero")
    if i % 2 == 0 then
      t:assert_eq(#p:wait("60s").stdout, each)
    else
      wait_until(function() return p:status() == "exited" end, {timeout = 60, interval = 0.01})
      p:close()
    end
    p = nil
    collectgarbage()
  end
end
test("output", {timeout = "280s"}, function(t)
  run_processes(t, 10)
  local before = resident()
  run_processes(t, 20)
  local grown = (resident() - before) // each
  t:assert(grown < 5, "the output of " .. grown .. " of 20 processes was kept")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn the_output_of_a_process_that_has_ended_is_freed() {
    let project = Project::new(&[("output.test.lua", MANY_PROCESSES)]);
    project.run(&["output.test.lua"]).passes();
}
