-- reset_between_tests puts disks back with the file's VMs.
provium.reset_between_tests = true
provium.timeout = "120s"

local disks = require "helpers.disks"

local vm = provium:vm("v", "default", {disks = {{scratch = "1M", id = "data"}}}):boot()
local data = vm:disk("data")
disks.dd_write(vm, data, 0, disks.sectors("top level", 4))

for _, name in ipairs {"first", "second"} do
  test("the " .. name .. " test finds the disks as the top level left them", function(t)
    t:assert_eq(#vm:disks(), 1)
    t:assert_same(data:active_faults(), {})
    t:assert_eq(data:is_on(), true)
    t:assert_eq(disks.dd_read(vm, data, 0, 4), disks.sectors("top level", 4))
    disks.dd_write(vm, data, 0, disks.sectors(name, 4))
    vm:attach_disk {id = "more", size = "64K"}
    data:fail_writes()
    if name == "first" then data:power_cut() end
  end)
end
