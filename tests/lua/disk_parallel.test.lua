-- provium.parallel: each test has disks of its own, as the top level left them.
provium.parallel = true
provium.timeout = "120s"

local disks = require "helpers.disks"

local vm = provium:vm("v", "default", {disks = {{scratch = "1M", id = "data"}}}):boot()
local off = provium:vm("off", "default", {disks = {{scratch = "1M", id = "data"}}})
local data, cold = vm:disk("data"), off:disk("data")
disks.dd_write(vm, data, 0, disks.sectors("shared", 4))
cold:write_sectors(0, disks.sectors("cold", 4))
data:fault_inject {mode = "eio_read", sectors = {8, 8}}

for number = 1, 3 do
  test("copy " .. number, function(t)
    t:assert(rawequal(vm:disk("data"), data))
    t:assert_eq(disks.dd_read(vm, data, 0, 4), disks.sectors("shared", 4))
    t:assert_eq(cold:read_sectors(0, 4), disks.sectors("cold", 4))
    t:assert_eq(#data:active_faults(), 1)
    disks.dd_write(vm, data, 0, disks.sectors("copy " .. number, 4))
    cold:write_sectors(0, disks.sectors("copy " .. number, 4))
    if number == 2 then data:clear_faults() end
    for _ = 1, 3 do
      t:assert_eq(disks.dd_read(vm, data, 0, 4), disks.sectors("copy " .. number, 4))
      t:assert_eq(cold:read_sectors(0, 4), disks.sectors("copy " .. number, 4))
    end
    t:assert_eq(#data:active_faults(), number == 2 and 0 or 1)
  end)
end

test("crash states in a copy: the disk under test has no faults, the others have theirs", function(t)
  local other = vm:attach_disk {id = "other", size = "64K"}
  other:fault_inject {mode = "eio_read", sectors = {8, 8}}
  local start = data:mark()
  disks.dd_write(vm, data, 16, disks.sectors("crash", 4))
  local result = data:crash_states(function(image, copy)
    local under_test = copy:disk("data")
    t:assert_same(under_test:active_faults(), {})
    t:assert_eq(#copy:disk("other"):active_faults(), 1)
    t:assert_eq(disks.dd_read(copy, under_test, 0, 32), image:read_sectors(0, 32))
    under_test:fail_reads()
    t:assert_raises(function() disks.dd_read(copy, under_test, 0, 1) end)
  end, {since = start, vms = 1})
  t:assert_eq(result.tested, result.states)
  t:assert(result.states > 1, result.states .. " states")
  t:assert_eq(#data:active_faults(), 1)
end)
