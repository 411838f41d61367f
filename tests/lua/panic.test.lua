-- Guests whose kernel panics or resets the machine: they stay dead, or boot again.
local machines = require "helpers.machines"

local CRASH = "echo c > /proc/sysrq-trigger; sleep 60"
local REPORTED = {kernel_log = {"sysrq"}, timeout = "250s"}

-- Runs a command that ends the guest as it is; returns the error of the call.
local function crash(t, vm, command)
  local ok, err = pcall(vm.run, vm, command or CRASH, {timeout = 60})
  t:assert(not ok, "the guest outlived it")
  return tostring(err)
end

-- Waits until the agent of a guest that boots again has answered.
local function back(t, vm)
  wait_until(function() return vm:state() == "dead" or pcall(vm.run, vm, "true") end, {timeout = 100})
  t:assert_eq(vm:state(), "booted", vm:console():read_log():sub(-2000))
end

-- Whether the guest still has what was written before.
local function marked(vm) return vm:run("test -e /tmp/mark").exit_code == 0 end

test("a guest that panics is dead, keeps its console, and can be booted again", REPORTED, function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:write_file("/tmp/mark", "")
  t:assert_contains(crash(t, vm), "panicked")
  t:assert_eq(vm:state(), "dead")
  t:assert_eq(vm:console():count("sysrq: Trigger a crash"), 1)
  vm:boot()
  t:assert_eq(vm:state(), "booted")
  t:assert(not marked(vm), "a boot from dead is a fresh one")
  t:assert_eq(vm:console():count("sysrq: Trigger a crash"), 1)
end)

test("with on_panic = \"reboot\" a guest that panics boots again", REPORTED, function(t)
  local vm = provium:vm("v", "default", {on_panic = "reboot"}):boot()
  local worker = vm:spawn_worker()
  vm:write_file("/tmp/mark", "")
  t:assert_contains(crash(t, vm), "rebooted or reset")
  back(t, vm)
  t:assert(not marked(vm))
  t:assert_contains(tostring(t:assert_raises(function() worker:run("true") end)), "gone")
  -- Once more: it is not the first panic only.
  crash(t, vm)
  back(t, vm)
  t:assert_eq(vm:console():count("end Kernel panic"), 2)
end)

test("a kernel's own panic= resets the machine", REPORTED, function(t)
  local vm = provium:vm("v", "default", {on_panic = "reboot", kernel_cmdline_append = "panic=1"}):boot()
  crash(t, vm)
  back(t, vm)
  t:assert_eq(vm:console():count("Rebooting in 1 seconds"), 1)
  vm:run("echo -1 > /proc/sys/kernel/panic"):assert_ok()
  vm:write_file("/tmp/mark", "")
  crash(t, vm)
  back(t, vm)
  t:assert(not marked(vm))
  t:assert_eq(vm:console():count("end Kernel panic"), 0)
end)

test("on_panic may be chosen at each boot, and a snapshot keeps it", REPORTED, function(t)
  local vm = provium:vm("v", "default"):boot{on_panic = "reboot"}
  local snapshot = vm:snapshot()
  vm:shutdown()
  vm:restore(snapshot)
  crash(t, vm)
  back(t, vm)
  vm:shutdown()
  vm:boot()
  t:assert_contains(crash(t, vm), "panicked")
  t:assert_eq(vm:state(), "dead")
end)

test("a guest that panics again before its agent is back is dead", REPORTED, function(t)
  local init = "#!/bin/sh\nmount -t proc proc /proc\necho c > /proc/sysrq-trigger\n"
  local vm = provium:vm("v", "default", {on_panic = "reboot", kernel_cmdline_append = "panic=-1"})
  vm:boot{files = {{path = "/init", content = "#!/bin/sh\nmount -t proc proc /proc\nexec sleep 100000\n", perm = tonumber("755", 8)}}}
  machines.await_init(vm)
  crash(t, vm)
  back(t, vm)
  vm:shutdown()
  local err = tostring(t:assert_raises(function()
    vm:boot{files = {{path = "/init", content = init, perm = tonumber("755", 8)}}, agent_timeout = 100}
    wait_until(function() return vm:state() == "dead" end, {timeout = 100})
    vm:run("true")
  end))
  t:assert_contains(err, "anic")
end)

test("every wait for a guest ends when it dies", REPORTED, function(t)
  local vm = provium:vm("v", "default"):boot()
  local began
  local function waits(fn) return co.spawn(function() pcall(fn); return (host.now_ns() - began) / 1e9 end) end
  local process = vm:run_async("cat")
  local stream = vm:console():read()
  local tasks = {
    ["a command"] = waits(function() vm:run("sleep 1000", {timeout = 1000}) end),
    ["a process"] = waits(function() process:wait(1000) end),
    ["its output"] = waits(function() process:stdout_stream():read_until("x", 1000) end),
    ["a tail"] = waits(function() vm:tail_file("/etc/hosts", {start = "end"}):read_until("x", 1000) end),
    ["a text of the console"] = waits(function() vm:console():expect("never printed", 1000) end),
    ["a stream of the console"] = waits(function() stream:read_until("never printed", 1000) end),
  }
  began = host.now_ns()
  crash(t, vm)
  for what, task in pairs(tasks) do
    t:assert(task:join(60) < 60, what)
  end
end)

-- Resets without a panic.

test("a triple fault resets the machine, and the guest boots again", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline_append = "reboot=triple"}):boot()
  vm:write_file("/tmp/mark", "")
  crash(t, vm, "reboot -f; sleep 60")
  back(t, vm)
  t:assert(not marked(vm))
end)

-- Later tests that use a VM of the file which is dead.

local shared = provium:vm("shared", "default")
test("a test in which a VM of the file dies shows its console…", REPORTED, function(t)
  shared:boot()
  local err = crash(t, shared)
  t:assert_contains(err, "the VM is dead")
  t:assert_contains(err, "last lines of its console")
end)

test("…and a later one names that test instead", function(t)
  local err = tostring(t:assert_raises(function() shared:run("true") end))
  t:assert_contains(err, "vm `shared`: run(\"true\"): the VM died in test `a test in which a VM of the file dies shows its console…`: ")
  t:assert_contains(err, "panicked")
  t:assert(not err:find("\n", 1, true), err)
end)

test("on_panic is stop or reboot", function(t)
  local err = tostring(t:assert_raises(function() provium:vm("v", "default", {on_panic = "halt"}) end))
  t:assert_contains(err, '`on_panic`: must be "stop" or "reboot"')
end)
