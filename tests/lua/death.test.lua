-- Guests that die in different ways: the VM works, or its errors say that it is dead.
local timing = require("helpers.timing")
local seconds, bounded = timing.seconds, timing.bounded

local function raises(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  return err
end

local function with_init(script, more)
  local opts = {files = {{path = "/init", content = "#!/bin/sh\nmount -t proc proc /proc\n" .. script, mode = 0x1ed}}}
  for key, value in pairs(more or {}) do opts[key] = value end
  return opts
end
local own_init = with_init("exec sleep 100000\n")

-- The QEMU of a VM, by the name that it was given.
local function qemu_of(name)
  local pipe = io.popen("pgrep -f '[g]uest=" .. name .. ",'")
  local pid = pipe:read("l")
  pipe:close()
  return pid
end

-- A guest whose QEMU is stopped. Pings find that out after two of their limits, so a task waits for it while the other
-- tests run; the last test looks at what came of it.
local name = "stopped-" .. host.now_ns()
-- Cold, since a warm VM was started under another name.
local stopped = provium:vm(name, "default", {cold = true}):boot()
os.execute("kill -STOP " .. qemu_of(name))
local waiting = co.spawn(function() return pcall(stopped.run, stopped, "true") end)

test("a guest whose agent is killed is dead at once, whichever process does it", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  local function lost(call)
    local ok, err = bounded(t, "a call to a guest that loses its agent", 50, call)
    t:assert(not ok)
    t:assert_contains(tostring(err), "dead")
    t:assert_contains(tostring(err), "agent's port")
    t:assert_eq(vm:state(), "dead")
  end
  lost(function() vm:run("kill -9 -1; sleep 60") end)
  -- A dead VM is booted as a new one.
  vm:boot()
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  local agent = wait_until(function() return vm:run("cat /proc/$PPID/stat").stdout:match("%) %a (%d+) ") end, {timeout = 60})
  lost(function() vm:run("kill -9 " .. agent .. "; sleep 60") end)
  raises(t, function() vm:wakeup() end, "dead")
end)

test("a guest that is paused or held by a debugger is not taken for dead", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:pause()
  host.sleep(4) -- longer than between two pings
  vm:resume()
  t:assert_eq(vm:run("echo on").stdout, "on\n")
end)

-- What happens in a boot before the agent has answered.

test("a guest that resets before its agent answers has not booted", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default", {
    kernel_cmdline_append = "module_blacklist=virtio_console",
    cold = true, agent_timeout = "200s",
    files = {{path = "/init", content = "#!/bin/sh\nreboot -f\n", mode = 0x1ed}},
  })
  local err
  local took = seconds(function()
    err = raises(t, function()
      vm:boot()
      wait_until(function() return vm:state() == "dead" end, {timeout = 100})
      vm:run("true")
    end, "reset")
  end)
  t:assert(took < 250, ("%.0f s: %s"):format(took, err))
end)

test("a QEMU that is killed while its guest boots is named as that", {timeout = "250s"}, function(t)
  local name = "killed-" .. host.now_ns()
  -- Without the ports that an agent can use, so the boot does not end before QEMU is killed.
  local vm = provium:vm(name, "default", {
    cold = true, agent_timeout = "100s", kernel_cmdline = "console=ttyS0 module_blacklist=virtio_console 8250.nr_uarts=1",
  })
  local boot = co.spawn(function() return pcall(vm.boot, vm) end)
  vm:console():expect("Linux version", 200)
  os.execute("kill -KILL " .. qemu_of(name))
  local ok, err = boot:join(60)
  t:assert(not ok)
  t:assert_contains(tostring(err), "killed by SIGKILL")
end)

-- Resets.

-- iopl(3), then 6 to port 0xcf9: the machine resets, and the kernel says nothing.
local code = "\xb8\xac\0\0\0\xbf\3\0\0\0\x0f\x05\x66\xba\xf9\x0c\xb0\x06\xee\xeb\xfe"
local program = "\x7fELF\2\1\1" .. ("\0"):rep(9)
  .. string.pack("<I2I2I4I8I8I8I4I2I2I2I2I2I2", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
  .. string.pack("<I4I4I8I8I8I8I8I8", 1, 5, 0, 0x400000, 0x400000, 120 + #code, 120 + #code, 4096) .. code

test("a guest that resets itself without a word is met again, however soon after a reset", {timeout = "250s"}, function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline = "quiet"}):boot()
  vm:reset()
  host.sleep(1.2)
  vm:write_file("/tmp/reset", program, {perm = 0x1ed})
  t:assert_raises(function() vm:run("/tmp/reset", {timeout = 60}) end)
  local ok = pcall(wait_until, function() return pcall(vm.run, vm, "true") end, {timeout = 100})
  t:assert(ok, vm:state() .. ": " .. tostring(select(2, pcall(vm.run, vm, "true"))))
end)

test("a VM is called the same in every state", function(t)
  local vm = provium:vm("v", "default")
  local before = tostring(vm)
  vm:boot()
  t:assert_eq(tostring(vm), before)
end)

test("a wait whose predicate catches errors ends when the VM dies", {kernel_log = {"sysrq triggered crash"}}, function(t)
  local vm = provium:vm("w", "default"):boot()
  pcall(vm.write_file, vm, "/proc/sysrq-trigger", "c")
  raises(t, function()
    wait_until(function() return pcall(vm.stat, vm, "/no/such") end, {timeout = "5m", desc = "a file"})
  end, "wait_until: a file not met: vm `w`: stat(\"/no/such\"): the VM is dead")
  t:assert(wait_until(function() return not pcall(vm.stat, vm, "/no/such") end, {timeout = 60}), "a predicate that holds still holds")
end)

test("a guest whose QEMU is stopped is dead before long, and that is named", {timeout = "250s"}, function(t)
  local ok, err = waiting:join(200)
  t:assert(not ok)
  t:assert_contains(tostring(err), "its agent has not answered")
  t:assert_contains(tostring(err), "QEMU is stopped")
  t:assert_eq(stopped:state(), "dead")
end)
