-- Time limits hold when something in the guest does not answer: a process that is stopped, a VM that is
-- paused, a guest whose processor is kept busy. The call ends soon after its limit and names the cause.
local seconds = require("helpers.timing").seconds
local vm = provium:vm("v", "default"):boot()

-- Slack for emulated guests and busy hosts; without the limits these calls never return.
local SOON = 40

local function text_of(fn) return select(2, pcall(fn)) end

-- Gives the guest's only processor to a real-time process that never yields it.
local function wedge(own)
  own:write_file("/proc/sys/kernel/sched_rt_runtime_us", "-1")
  local w = own:spawn_worker()
  assert(w:syscall("sched_setscheduler", {args = {0, 1}, bufs = {string.pack("<i4", 99)}, ptrs = {2}}).ret == 0)
  local p = w:run_async("read line; while :; do :; done")
  -- The guest may end to answer before it answers this call.
  local start = co.spawn(function() pcall(p.stdin_write, p, "\n") end)
  repeat until not pcall(own.run, own, "true", {timeout = "1s"})
  start:cancel()
end

test("run with a timeout: the process that started it is stopped", {timeout = "150s"}, function(t)
  local r
  local took = seconds(function() r = vm:run("echo partial; kill -STOP $PPID; sleep 60", {timeout = "1s"}) end)
  t:assert(took < SOON, ("it took %.1f s"):format(took))
  t:assert_eq(r.status, "timed_out")
  wait_until(function() return pcall(vm.run, vm, "true", {timeout = "5s"}) end, {timeout = 60, desc = "commands run again"})
end)

test("run with a timeout: a raw syscall is in progress", {timeout = "150s"}, function(t)
  local w = vm:spawn_worker()
  local task = co.spawn(function() return pcall(w.syscall, w, "pause") end)
  wait_until(function() return vm:read_file("/proc/" .. w:pid() .. "/syscall"):find("^34 ") end, {timeout = 60})
  local ok, r
  local took = seconds(function() ok, r = pcall(w.run, w, "echo hi", {timeout = "20s"}) end)
  t:assert(took < SOON, ("it took %.1f s"):format(took))
  -- The error of a command that cannot be started says why; the syscall does not affect other commands.
  if not ok then t:assert_contains(tostring(r), "raw syscall 34") else t:assert_eq(r.stdout, "hi\n") end
  w:close()
  task:join("60s")
end)

test("a paused VM: wait and close return and say so, and resume ends what was closed", {timeout = "150s"}, function(t)
  local p, other = vm:run_async("exec sleep 1000"), vm:run_async("exec sleep 1000")
  local w = vm:spawn_worker()
  local child = w:run_async("exec sleep 4713")
  vm:pause()
  local text
  local took = seconds(function()
    text = tostring(text_of(function() p:wait("500ms") end)) .. tostring(text_of(function() other:close() end))
      .. tostring(text_of(function() w:close() end))
  end)
  vm:resume()
  t:assert(took < SOON, ("they took %.1f s"):format(took))
  t:assert_eq(select(2, text:gsub("the VM is paused", "")), 3, text)
  t:assert_eq(p:status(), "running", "it was not killed")
  wait_until(function() return other:status() == "exited" and child:status() == "exited" end,
    {timeout = 60, desc = "what was closed ends"})
  wait_until(function() return vm:run("ps | grep '[s]leep 4713'").stdout == "" end, {timeout = 60})
end)

test("a guest that does not answer is named, and nothing waits for it", {timeout = "250s"}, function(t)
  local own = provium:vm("wedged", "default"):boot()
  local w = own:spawn_worker()
  w:run_async("exec sleep 1000")
  local p = own:run_async("exec sleep 1000")
  wedge(own)
  local calls = {
    function() own:run("echo hi", {timeout = "1s"}) end,
    function() p:close() end,
    function() w:close() end,
  }
  local tasks = {}
  local took = seconds(function()
    for i, call in ipairs(calls) do tasks[i] = co.spawn(function() return pcall(call) end) end
    for i, task in ipairs(tasks) do tasks[i] = {task:join("60s")} end
  end)
  t:assert(took < SOON, ("they took %.1f s"):format(took))
  for i, result in ipairs(tasks) do
    t:assert_eq(result[1], false, i)
    t:assert_contains(tostring(result[2]), "the guest does not answer")
  end
end)

local began
test("a test leaves a VM of its own that does not answer, with processes and a worker", {timeout = "150s"}, function(t)
  local own = provium:vm("left", "default"):boot()
  own:run_async("exec sleep 1000")
  own:spawn_worker()
  wedge(own)
  began = host.now_ns()
end)

test("…and ends at once, as the VM ends with it", function(t)
  local took = (host.now_ns() - began) / 1e9
  t:assert(took < 10, ("its scope took %.1f s"):format(took))
end)

local deaf = "trap '' TERM; echo set; while :; do sleep 0.2; done; : left"
test("processes and workers' children that ignore SIGTERM are left running", {timeout = "150s"}, function(t)
  for i = 1, 12 do vm:run_async(deaf .. i):stdout_stream():expect("set", "60s") end
  for i = 1, 4 do vm:spawn_worker():run_async(deaf .. i):stdout_stream():expect("set", "60s") end
  began = host.now_ns()
end)

test("…and end together", function(t)
  t:assert_eq(vm:run("ps | grep -c '[l]eft'").stdout, "0\n")
  local took = (host.now_ns() - began) / 1e9
  -- One after the other would be 2 s for each.
  t:assert(took < 25, ("closing took %.1f s"):format(took))
end)

test("a worker that is stopped can be signalled, joined and closed", {timeout = "150s"}, function(t)
  local function stopped()
    local w = vm:spawn_worker()
    t:assert_eq(vm:syscall("kill", w:pid(), 19).ret, 0)
    return w
  end
  local took = seconds(function()
    local w = stopped()
    w:kill("kill")
    t:assert_eq(w:join(), 0)
    t:assert_contains(tostring(t:assert_raises(function() w:join() end)), "joined")
    stopped():close()
  end)
  t:assert(took < SOON, ("it took %.1f s"):format(took))
end)

test("a call to a stopped worker is in flight, as one to a busy worker", {timeout = "150s"}, function(t)
  local w = vm:spawn_worker()
  t:assert_eq(vm:syscall("kill", w:pid(), 19).ret, 0)
  local pending
  local took = seconds(function() pending = w:syscall_async("getpid") end)
  t:assert(took < SOON, ("it took %.1f s"):format(took))
  t:assert_eq(vm:syscall("kill", w:pid(), 18).ret, 0)
  t:assert_eq(pending:await("60s").ret, w:pid())
end)

test("a command in an uninterruptible wait: run, wait and close return all the same", {timeout = "250s"}, function(t)
  local own = provium:vm("frozen", "default"):boot()
  own:run("dd if=/dev/zero of=/tmp/image bs=1M count=8; mke2fs -F /tmp/image 8192; mkdir /tmp/m; mount -t ext2 -o loop /tmp/image /tmp/m"):assert_ok()
  local w = own:spawn_worker()
  local fd = w:syscall("open", {args = {0, 0x10000, 0}, bufs = {"/tmp/m\0"}, ptrs = {0}}).ret
  t:assert_eq(w:syscall("ioctl", fd, 0xC0045877, 0).ret, 0, "FIFREEZE")
  local r, waited, err
  local took = seconds(function()
    r = own:run("echo begun; echo x > /tmp/m/f", {timeout = "10s"})
    local p = own:run_async("echo x > /tmp/m/g")
    waited = p:wait("1s")
    err = tostring(t:assert_raises(function() p:close() end))
  end)
  t:assert_eq(r.status, "timed_out")
  t:assert_eq(r.stdout, "begun\n")
  t:assert_eq(waited.status, "timed_out")
  t:assert_contains(err, "uninterruptible")
  t:assert(took < 2 * SOON, ("they took %.1f s"):format(took))
  t:assert_eq(own:run("echo on").stdout, "on\n", "others are none the worse")
  t:assert_eq(w:syscall("ioctl", fd, 0xC0045878, 0).ret, 0, "FITHAW")
end)
