-- The console: what the kernel and the guest print, from the first byte on.
-- Kernels boot with `quiet` by default; this test needs the whole boot.
local vm = provium:vm("shared", "default", {kernel_cmdline = "loglevel=7"}):boot()
local console = vm:console()

test("the boot is in the log", function(t)
  t:assert_contains(console:read_log(), "Linux version")
end)

test("wait for a line", function(t)
  local before = console:mark()
  vm:run_async("sleep 0.2; echo disk is full > /dev/console")
  console:expect("disk is full", "60s")
  t:assert_contains(console:since(before), "disk is full")
end)

-- A kernel that reports a fault fails the test, unless the test says that it expects it.
local panics = {kernel_log = {"sysrq triggered crash"}}
test("a guest that panics is dead at once, and its console says why", panics, function(t)
  local doomed = provium:vm("doomed", "default"):boot()
  pcall(doomed.write_file, doomed, "/proc/sysrq-trigger", "c")
  doomed:console():expect("Kernel panic", "30s")
  wait_until(function() return doomed:state() == "dead" end, {desc = "the panic is noticed"})
  t:assert_contains(tostring(t:assert_raises(function() doomed:run("true") end)), "panic")
end)
