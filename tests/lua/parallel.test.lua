-- provium.parallel: the tests of this file run in parallel, each on its own copy of the file's VM, which
-- the handles of the top level lead to. The claim is room for two of them at a time.

provium.parallel = true
provium.timeout = "120s"
provium:claim{ memory = "1G", cpus = 2 }

local vm = provium:vm("v", "default"):boot()
vm:write_file("/tmp/base", "base")
local worker = vm:spawn_worker()
worker:syscall("chdir", { bufs = { "/proc\0" }, ptrs = { 0 } })
local file = vm:open_file("/tmp/base", { read = true })
local of_worker = worker:open_file("/tmp/base", { read = true })
local server = vm:run_async("while read line; do echo got $line; done")
local child = worker:run_async("exec sleep 1000")
local done = vm:run_async("echo output; exit 7")
done:wait()
local console, clock = vm:console(), vm:clock()
vm:run("echo printed by the top level > /dev/console")
local boot_id = vm:read_file("/proc/sys/kernel/random/boot_id")
local early = vm:snapshot()
vm:write_file("/tmp/after-the-snapshot", "x")

-- Two tests meet here, which they can only if they run at the same time.
local arrived = {}
local function meet(t, other)
  arrived[t.name] = true
  wait_until(function() return arrived[other] end, { timeout = "100s", desc = other .. " arrives" })
end

local seen = {}
local function changes_what_it_can(t, me, other)
  vm:write_file("/tmp/" .. me, me)
  vm:unlink("/tmp/base")
  vm:run("sysctl -w kernel.threads-max=" .. (me == "one" and 4321 or 5432)):assert_ok()
  vm:run_async("exec sleep " .. (me == "one" and 1111 or 2222))
  vm:run("mount -t tmpfs none /mnt; echo printed by " .. me .. " > /dev/console")
  seen[me] = { random = vm:run("head -c 16 /dev/urandom | od -An -tx1").stdout, cid = vm:cid(),
               boot = vm:read_file("/proc/sys/kernel/random/boot_id"), host = vm:run("hostname").stdout }
  if me == "two" then clock:advance(-1000000) end
  meet(t, "changed by " .. other)

  t:assert_eq(vm:read_file("/tmp/" .. me), me)
  t:assert_contains(tostring(t:assert_raises(function() vm:stat("/tmp/" .. other) end)), "ENOENT")
  t:assert_eq(vm:read_file("/proc/sys/kernel/threads-max"), me == "one" and "4321\n" or "5432\n")
  local ps = vm:run("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout
  t:assert_eq(ps:find("sleep 1111") ~= nil, me == "one")
  t:assert_eq(ps:find("sleep 2222") ~= nil, me == "two")
  t:assert_near(clock:get(), host.now_ns() / 1e9 - (me == "two" and 1000000 or 0), 30)
  console:expect("printed by " .. me)
  t:assert_eq(console:count("printed by " .. other), 0)
  t:assert_eq(console:count("printed by the top level"), 1)

  t:assert_eq(seen[me].host, "v\n")
  t:assert_eq(seen[other].host, "v\n")
  t:assert_eq(seen[me].boot, boot_id, "it is the guest that the top level booted")
  t:assert_neq(seen[me].random, seen[other].random)
  t:assert_neq(seen[me].cid, seen[other].cid)
end

test("changed by one", function(t) changes_what_it_can(t, "one", "two") end)
test("changed by two", function(t) changes_what_it_can(t, "two", "one") end)

local pids
local function handles_hold(t, me, other)
  t:assert_eq(provium.v, vm)
  t:assert_eq(provium:vm("v"), vm)
  t:assert_eq(vm:console(), console)
  t:assert_eq(worker:vm(), vm)
  t:assert_eq(tostring(vm), "vm `v`")

  t:assert_eq(file:tell(), 0)
  t:assert_eq(file:read(me == "one" and 1 or 3), me == "one" and "b" or "bas")
  t:assert_eq(of_worker:read(4), "base")
  t:assert_eq(vm:open_file_count(), 2)
  local out = server:stdout_stream()
  server:stdin_write(me .. "\n")
  out:expect("got " .. me)
  pids = pids or { server:pid(), child:pid(), worker:pid() }
  t:assert_same({ server:pid(), child:pid(), worker:pid() }, pids)
  t:assert_eq(worker:run("pwd").stdout, "/proc\n")
  t:assert_eq(done:status(), "exited")
  t:assert_eq(done:wait().exit_code, 7)
  t:assert_eq(done:wait().stdout, "output\n")
  meet(t, "handles in " .. other)

  t:assert_eq(file:tell(), me == "one" and 1 or 3)
  server:close_stdin()
  t:assert_eq(server:wait(60):assert_ok().stdout, "got " .. me .. "\n")
  t:assert_eq(child:status(), "running")
end

local closed
test("handles in one", function(t)
  handles_hold(t, "one", "two")
  t:assert_eq(worker:kill("kill"), 1)
  t:assert_eq(worker:join(), 128 + 9)
  t:assert_contains(tostring(t:assert_raises(function() worker:run("true") end)), "joined")
  t:assert_eq(of_worker:fd(), 0)
  file:close()
  t:assert_contains(tostring(t:assert_raises(function() file:tell() end)), "file is closed")
  closed = true
end)

test("handles in two", function(t)
  handles_hold(t, "two", "one")
  wait_until(function() return closed end, { timeout = "100s" })
  t:assert_eq(worker:run("echo alive").stdout, "alive\n")
  t:assert_eq(of_worker:read(4), "")
  t:assert_eq(file:read(1), "e")
end)

test("tasks and deferred functions are of the copy", function(t)
  t:defer(function() t:assert_eq(vm:read_file("/tmp/mine"), "task") end)
  co.spawn(function() vm:write_file("/tmp/mine", "task") end):join()
  t:assert_eq(vm:batch(function(b) b:read_file("/tmp/mine") end)[1].ok, "task")
end)

test("a snapshot of the top level is one of the copy", function(t)
  vm:stat("/tmp/after-the-snapshot")
  vm:restore(early)
  t:assert_raises(function() vm:stat("/tmp/after-the-snapshot") end)
  t:assert_eq(server:status(), "running")
  server:stdin_write("again\n")
  server:close_stdin()
  t:assert_eq(server:wait(60).stdout, "got again\n")
  t:assert_eq(file:read(4), "base")
end)

test("one that runs out of time", { timeout = "1s", expect_fail = "it sleeps too long" }, function()
  vm:run("sleep 60")
end)

test("one whose guest dies", { kernel_log = "ignore" }, function(t)
  vm:syscall_async("pause")
  local err = t:assert_raises(function() vm:run("echo c > /proc/sysrq-trigger; sleep 60") end)
  t:assert_contains(tostring(err), "panicked")
  t:assert_eq(vm:state(), "dead")
end)

test("what the kernel of a copy reports fails its test", { expect_fail = "it reports" }, function(t)
  vm:run("echo '<1>BUG: unable to handle page fault' > /dev/kmsg")
  console:expect("BUG: unable")
end)

test("one that closes its VM", function(t)
  vm:close()
  t:assert_contains(tostring(t:assert_raises(function() vm:run("true") end)), "closed")
end)

local attempts = 0
test("each attempt has a fresh copy", { retries = 1 }, function(t)
  attempts = attempts + 1
  t:assert_raises(function() vm:stat("/tmp/attempt") end)
  vm:write_file("/tmp/attempt", "x")
  t:assert_eq(attempts, 2)
end)

local asleep, most, slept = 0, 0, 0
for number = 1, 4 do
  test("sleeper " .. number, function()
    asleep = asleep + 1
    most = math.max(most, asleep)
    -- Sleeps until another does.
    repeat vm:run("sleep 0.5"):assert_ok() until most > 1
    asleep, slept = asleep - 1, slept + 1
  end)
end

test("the sleepers did not sleep one after the other", function(t)
  wait_until(function() return slept == 4 end, { timeout = "100s" })
  t:assert_eq(most, 2)
  t:assert_eq(vm:state(), "booted")
end)
