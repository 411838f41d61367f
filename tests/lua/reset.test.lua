-- provium.reset_between_tests: whatever a test does to the file's VMs, the next one finds them as the
-- top level left them, and the handles that it made are still valid.

provium.reset_between_tests = true

local vm = provium:vm("v", "default"):boot()
vm:write_file("/tmp/base", "base")
local worker = vm:spawn_worker()
local file = vm:open_file("/tmp/base", { read = true })
local server = vm:run_async("while read line; do echo got $line; done")
local off = provium:vm("off", "default")
local paused = provium:vm("paused", "default"):boot():pause() or provium:vm("paused")
local pids

-- Kernel threads come and go.
local function processes() return vm:run("ps -o pid,args | grep -v -e 'ps -o' -e '\\['").stdout end

test("the first test does all it can", function(t)
  pids = processes()
  vm:write_file("/tmp/new", "x")
  vm:unlink("/tmp/base")
  vm:run("sysctl -w kernel.threads-max=4321; hostname changed; mount -t tmpfs none /mnt; sleep 1000 &"):assert_ok()
  vm:clock():set(1000000000)
  file:read(2)
  server:stdin_write("one\n")
  local out = server:stdout_stream()
  out:expect("got one", "60s")
  server:kill("kill")
  t:assert_eq(server:wait(60).status, "signalled")
  worker:syscall("chdir", { bufs = { "/proc\0" }, ptrs = { 0 } })
  file:close()
  worker:close()
  t:assert_eq(vm:open_file_count(), 0)
  off:boot()
  paused:resume()
end)

local function pristine(t)
  t:assert_eq(vm:read_file("/tmp/base"), "base")
  t:assert_contains(tostring(t:assert_raises(function() vm:stat("/tmp/new") end)), "ENOENT")
  t:assert_neq(vm:read_file("/proc/sys/kernel/threads-max"), "4321\n")
  t:assert_eq(vm:run("hostname").stdout, "v\n")
  t:assert_eq(vm:run("grep -c ' /mnt ' /proc/mounts").stdout, "0\n")
  t:assert_eq(processes(), pids)
  t:assert_near(vm:clock():get(), host.now_ns() / 1e9, 30, "the clock is the current time")
  t:assert_eq(file:tell(), 0, "closed or read by the test before")
  t:assert_eq(vm:open_file_count(), 1)
  t:assert_eq(server:status(), "running")
  t:assert_eq(worker:run("pwd").stdout, vm:run("pwd").stdout)
  t:assert_eq(off:state(), "created")
  t:assert_eq(paused:state(), "paused")
end

test("the second finds nothing of it", function(t)
  pristine(t)
  server:stdin_write("two\n")
  server:close_stdin()
  t:assert_eq(server:wait(60):assert_ok().stdout, "got two\n")
  vm:shutdown()
end)

test("a VM that was shut down is back", { kernel_log = "ignore" }, function(t)
  pristine(t)
  vm:syscall_async("pause")
  local err = t:assert_raises(function() vm:run("echo c > /proc/sysrq-trigger; sleep 60") end)
  t:assert_contains(tostring(err), "panicked")
end)

test("a VM that died is back", function(t) pristine(t) end)
