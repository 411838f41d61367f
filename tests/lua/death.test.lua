-- Guests that die in different ways, and calls that are cancelled: the VM works, or its errors say that it is dead.
local function raises(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  return err
end

local function seconds(fn)
  local before = host.now_ns()
  fn()
  return (host.now_ns() - before) / 1e9
end

-- What `fn` returns, if it comes back within `limit` seconds.
local function bounded(t, what, limit, fn)
  local task = co.spawn(function() return pcall(fn) end)
  local done, ok, value = pcall(task.join, task, limit)
  if not done then task:cancel() end
  t:assert(done, what .. ": no answer within " .. limit .. " s")
  return ok, value
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

test("a guest whose agent is killed is dead at once, whichever process does it", {timeout = "120s"}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  local function lost(call)
    local ok, err = bounded(t, "a call to a guest that loses its agent", 30, call)
    t:assert(not ok)
    t:assert_contains(tostring(err), "dead")
    t:assert_contains(tostring(err), "agent's port")
    t:assert_eq(vm:state(), "dead")
  end
  lost(function() vm:run("kill -9 -1; sleep 60") end)
  -- A dead VM is booted as a new one.
  vm:boot()
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  local agent = wait_until(function() return vm:run("cat /proc/$PPID/stat").stdout:match("%) %a (%d+) ") end)
  vm:run("(sleep 0.3; kill -9 " .. agent .. ") > /dev/null 2>&1 &")
  lost(function() vm:run("sleep 60") end)
  raises(t, function() vm:wakeup() end, "dead")
end)

test("a guest whose QEMU is stopped is dead before long, and that is named", {timeout = "120s"}, function(t)
  local name = "stopped-" .. host.now_ns()
  -- Cold, since a warm VM was started under another name.
  local vm = provium:vm(name, "default", {cold = true}):boot()
  os.execute("kill -STOP " .. qemu_of(name))
  local ok, err = bounded(t, "a call to a stopped QEMU", 90, function() vm:run("true") end)
  t:assert(not ok)
  t:assert_contains(tostring(err), "its agent has not answered")
  t:assert_contains(tostring(err), "QEMU is stopped")
  t:assert_eq(vm:state(), "dead")
end)

test("a guest that is paused or held by a debugger is not taken for dead", {timeout = "120s"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:pause()
  host.sleep(4) -- longer than between two pings
  vm:resume()
  t:assert_eq(vm:run("echo on").stdout, "on\n")
end)

-- What happens in a boot before the agent has answered.

test("a guest that resets before its agent answers has not booted", {timeout = "120s"}, function(t)
  local vm = provium:vm("v", "default", {
    kernel_cmdline_append = "module_blacklist=virtio_console",
    cold = true, agent_timeout = "60s",
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
  t:assert(took < 60, ("%.0f s: %s"):format(took, err))
end)

test("a QEMU that is killed while its guest boots is named as that", {timeout = "120s"}, function(t)
  local name = "killed-" .. host.now_ns()
  local vm = provium:vm(name, "default", {cold = true, kernel_cmdline = "console=ttyS0"})
  local boot = co.spawn(function() return pcall(vm.boot, vm) end)
  vm:console():expect("Linux version", 30)
  os.execute("kill -KILL " .. qemu_of(name))
  local ok, err = boot:join(30)
  t:assert(not ok)
  t:assert_contains(tostring(err), "killed by SIGKILL")
end)

-- Calls that are cancelled.

local reset = provium:vm("reset", "default"):boot()
test("a reset that its test has no time for…", {timeout = "0.3s", expect_fail = "too short"}, function() reset:reset() end)
test("…continues without it", {timeout = "60s"}, function(t)
  local ok, why = pcall(wait_until, function() return pcall(reset.run, reset, "true") end, {timeout = 40})
  t:assert(ok, reset:state() .. ": " .. tostring(why))
end)

local cut_at
test("a reset that is cut short with the VM's scope…", {timeout = "0.5s", expect_fail = "too short"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  t:defer(function() cut_at = host.now_ns() end)
  vm:reset()
end)
test("…does not keep the VM from being closed", function(t)
  local took = (host.now_ns() - cut_at) / 1e9
  t:assert(took < 1.5, ("%.1f s: the reset was waited for"):format(took))
end)

test("pause and resume that parallel gives up leave a VM that is what it says", {timeout = "60s"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  local function given_up(call) pcall(parallel, {function() call(vm) end, function() error("the other fails") end}) end
  for _ = 1, 5 do
    -- QEMU may have carried it out before the other task failed.
    given_up(vm.pause)
    if vm:state() == "paused" then vm:resume() end
    local ok, result = bounded(t, "a call after a pause that was cut short: " .. vm:state(), 20, function()
      return vm:run("echo on").stdout
    end)
    t:assert_eq(ok and result, "on\n")
    vm:pause()
    given_up(vm.resume)
    if vm:state() == "paused" then vm:resume() end
    t:assert_eq(vm:state(), "booted")
  end
end)

test("a restore that is cut short leaves the VM and its processes as they were", {timeout = "120s"}, function(t)
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

test("a guest whose power button was pressed is watched as before", {timeout = "120s", kernel_log = {"sysrq"}}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  local press = co.spawn(function() vm:power_button() end)
  host.sleep(0.5)
  press:cancel()
  local ok = bounded(t, "a call to a guest that panics", 30, function() vm:run("echo c > /proc/sysrq-trigger; sleep 60") end)
  t:assert(not ok)
  wait_until(function() return vm:state() == "dead" end, {timeout = 20})
  raises(t, function() vm:run("true") end, "panicked")
end)

test("a guest that ignores its power button stays booted, and is shut down, not dead, if it obeys late", {timeout = "120s"}, function(t)
  local vm = provium:vm("v", "default", own_init):boot()
  local took = seconds(function() vm:power_button() end)
  t:assert(took < 30, ("%.0f s"):format(took))
  t:assert_eq(vm:state(), "booted")
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  pcall(vm.run, vm, "poweroff -f")
  wait_until(function() return vm:state() ~= "booted" end, {timeout = 20})
  t:assert_eq(vm:state(), "shutdown")
end)

-- Resets.

-- iopl(3), then 6 to port 0xcf9: the machine resets, and the kernel says nothing.
local code = "\xb8\xac\0\0\0\xbf\3\0\0\0\x0f\x05\x66\xba\xf9\x0c\xb0\x06\xee\xeb\xfe"
local program = "\x7fELF\2\1\1" .. ("\0"):rep(9)
  .. string.pack("<I2I2I4I8I8I8I4I2I2I2I2I2I2", 2, 62, 1, 0x400078, 64, 0, 0, 64, 56, 1, 0, 0, 0)
  .. string.pack("<I4I4I8I8I8I8I8I8", 1, 5, 0, 0x400000, 0x400000, 120 + #code, 120 + #code, 4096) .. code

test("a guest that resets itself without a word is met again, however soon after a reset", {timeout = "120s"}, function(t)
  local vm = provium:vm("v", "default", {kernel_cmdline = "quiet"}):boot()
  vm:reset()
  host.sleep(1.2)
  vm:write_file("/tmp/reset", program, {perm = 0x1ed})
  t:assert_raises(function() vm:run("/tmp/reset", {timeout = 10}) end)
  local ok = pcall(wait_until, function() return pcall(vm.run, vm, "true") end, {timeout = 40})
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
  t:assert(wait_until(function() return not pcall(vm.stat, vm, "/no/such") end), "a predicate that holds still holds")
end)
