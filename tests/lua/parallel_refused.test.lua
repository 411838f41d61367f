-- provium.parallel where the file's VMs cannot be copied: every test fails with the reason, and none hangs.

provium.parallel = true

local vm = provium:vm("v", "default"):boot()
local paused = provium:vm("paused", "default"):boot()
paused:pause()
vm:tail_file("/etc/passwd")

test("a stream that the top level left open", { expect_fail = "it cannot be copied" }, function() end)
test("is in the way of every test", { expect_fail = "it cannot be copied" }, function() end)
test("that is not skipped", { skip = "a skipped test needs no copy" }, function() end)
