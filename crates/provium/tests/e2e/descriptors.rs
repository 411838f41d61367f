//! A VM that is closed keeps no descriptor of the host's. They are counted in a run of its own: files that run in the
//! same process open some, too.

use crate::project::Project;

const CLOSED_VMS: &str = r#"local function descriptors()
  local list = io.popen("ls /proc/$PPID/fd | wc -l")
  local count = list:read("n")
  list:close()
  return count
end
test("closed", {timeout = "90s"}, function(t)
  local vms, before = {}, descriptors()
  for i = 1, 12 do vms[i] = provium:vm("v" .. i, "default"):boot() vms[i]:close() end
  -- A warm VM for the next boot has some.
  t:assert(descriptors() - before < 12, descriptors() - before .. " more")
  for _, vm in ipairs(vms) do t:assert_neq(vm:console():read_log(), nil) end
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_closed_vm_keeps_no_descriptor() {
    let project = Project::new(&[("closed.test.lua", CLOSED_VMS)]);
    project.run(&["closed.test.lua"]).passes();
}
