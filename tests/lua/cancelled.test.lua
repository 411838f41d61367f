-- Calls that are cut short, by their task or by the time limit of their test: the VM works on, and is what it says.
local machines = require("helpers.machines")
local timing = require("helpers.timing")
local seconds, bounded = timing.seconds, timing.bounded

-- Beside an init of the image's own, which ignores the power button, the agent is not PID 1.
local init = "#!/bin/sh\nmount -t proc proc /proc\nexec sleep 100000\n"
local own_init = {files = {{path = "/init", content = init, mode = 0x1ed}}}

local reset = provium:vm("reset", "default"):boot()
test("a reset that its test has no time for…", {timeout = "0.3s", expect_fail = "too short"}, function() reset:reset() end)
test("…continues without it", {timeout = "150s"}, function(t)
  local ok, why = pcall(wait_until, function() return pcall(reset.run, reset, "true") end, {timeout = 100})
  t:assert(ok, reset:state() .. ": " .. tostring(why))
end)

-- A boot from the template, which this one makes, does not wait until the guest is ready; a reset does, for 20 s.
provium:vm("first", "late"):boot():close()
local resets, cut_at
test("a reset that is cut short with the VM's scope…", {timeout = "10s", expect_fail = "too short"}, function(t)
  local vm = provium:vm("v", "late"):boot()
  t:defer(function() cut_at = host.now_ns() end)
  resets = true
  vm:reset()
end)
test("…does not keep the VM from being closed", function(t)
  t:assert(resets, "the boot before the reset took all of its test's time")
  local took = (host.now_ns() - cut_at) / 1e9
  t:assert(took < 8, ("%.1f s: the reset was waited for"):format(took))
end)

test("pause and resume that parallel gives up leave a VM that is what it says", {timeout = "150s"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  local function given_up(call) pcall(parallel, {function() call(vm) end, function() error("the other fails") end}) end
  for _ = 1, 5 do
    -- QEMU may have carried it out before the other task failed.
    given_up(vm.pause)
    if vm:state() == "paused" then vm:resume() end
    local ok, result = bounded(t, "a call after a pause that was cut short: " .. vm:state(), 60, function()
      return vm:run("echo on").stdout
    end)
    t:assert_eq(ok and result, "on\n")
    vm:pause()
    given_up(vm.resume)
    if vm:state() == "paused" then vm:resume() end
    t:assert_eq(vm:state(), "booted")
  end
end)

test("a restore that is cut short leaves the VM and its processes as they were", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  local process = vm:run_async("while read line; do echo got $line; done")
  local snapshot = vm:snapshot()
  for ms = 10, 150, 20 do
    local task = co.spawn(function() vm:restore(snapshot) end)
    host.sleep(ms / 1000)
    task:cancel()
    t:assert_eq(vm:run("ps | grep -c '[w]hile read'").stdout, "1\n", ("cancelled after %d ms"):format(ms))
    t:assert_eq(process:status(), "running", ("cancelled after %d ms"):format(ms))
    process:stdin_write("x\n")
  end
end)

-- The power button.

test("a guest whose power button was pressed is watched as before", {timeout = "250s", kernel_log = {"sysrq"}}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  machines.await_init(vm)
  local press = co.spawn(function() vm:power_button() end)
  host.sleep(0.5)
  press:cancel()
  local ok = bounded(t, "a call to a guest that panics", 60, function() vm:run("echo c > /proc/sysrq-trigger; sleep 600") end)
  t:assert(not ok)
  wait_until(function() return vm:state() == "dead" end, {timeout = 60})
  t:assert_contains(tostring(t:assert_raises(function() vm:run("true") end)), "panicked")
end)

test("a guest that ignores its power button stays booted, and is shut down, not dead, if it obeys late", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  local took = seconds(function() vm:power_button() end)
  t:assert(took < 30, ("%.0f s"):format(took))
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  pcall(vm.run, vm, "poweroff -f")
  wait_until(function() return vm:state() ~= "booted" end, {timeout = 60})
  t:assert_eq(vm:state(), "shutdown")
end)
