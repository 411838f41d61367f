-- Workers: the page of the documentation, sentence by sentence.
local vm = provium:vm("v", "default"):boot()

local function seconds(fn)
  local before = host.now_ns()
  fn()
  return (host.now_ns() - before) / 1e9
end

test("spawn_worker, with and without {thread = false}", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:run("echo hi").stdout, "hi\n")
  vm:spawn_worker({thread = false}):close()
  w:close()
end)

test("{thread = true} is refused with a pointer to what to use", function(t)
  local err = tostring(t:assert_raises(function() vm:spawn_worker({thread = true}) end))
  t:assert_contains(err, "thread")
  t:assert_contains(err, "syscall_async")
end)

test("run takes the shapes of vm:run and gives a RunResult", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:run("echo", {"a", "b"}).stdout, "a b\n")
  t:assert_eq(w:run("cat", {stdin = "x", timeout = "30s"}):assert_ok().stdout, "x")
  t:assert_eq(w:run({"sh", "-c", "exit 7"}).exit_code, 7)
end)

test("run_async gives a Process and rejects timeout, pointing to wait", function(t)
  local w = vm:spawn_worker()
  local err = tostring(t:assert_raises(function() w:run_async("true", {timeout = 1}) end))
  t:assert_contains(err, "proc:wait")
  local p = w:run_async("echo $0", {env = {A = "1"}})
  t:assert_eq(p:wait("30s"):assert_ok().exit_code, 0)
end)

test("a process left running ends with the scope", function(t)
  vm:spawn_worker():run_async("exec sleep 4711")
end)

test("…and is gone in the next test", function(t)
  t:assert_eq(vm:run("ps | grep '[s]leep 4711'").stdout, "")
end)

test("open_file takes the mode table and gives a File of the worker's own", function(t)
  local w = vm:spawn_worker()
  local f = w:open_file("/tmp/w", {write = true, create = true})
  f:write("from the worker")
  t:assert_eq(vm:read_file("/tmp/w"), "from the worker")
  t:assert_eq(w:syscall("lseek", f:fd(), 0, 1).ret, 15, "its descriptor, usable in its syscalls")
  t:assert_eq(vm:syscall("lseek", f:fd(), 0, 1).errname, "EBADF", "and in nobody else's")
end)

test("syscall takes both forms and gives {ret, result, errno, out_bufs}", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall(39).ret, w:pid())
  local r = w:syscall("getcwd", {args = {0, 100}, ptrs = {0}, bufs = {{out = 100}}})
  t:assert(r.ret > 0)
  t:assert_eq(r.out_bufs[1]:match("^%Z*"), "/")
  local bad = w:syscall("close", 9999)
  t:assert_eq(bad.ret, -1)
  t:assert_eq(bad.errno, errno.EBADF)
end)

test("kill signals every async process of this worker, and of no other", function(t)
  local w1, w2 = vm:spawn_worker(), vm:spawn_worker()
  local a, b = w1:run_async("sleep 1000"), w1:run_async("sleep 1000")
  local other, plain = w2:run_async("sleep 1000"), vm:run_async("sleep 1000")
  w1:kill()
  t:assert_eq(a:wait("20s").signal, 15)
  t:assert_eq(b:wait("20s").signal, 15)
  t:assert_eq(other:status(), "running")
  t:assert_eq(plain:status(), "running")
  t:assert_eq(w1:run("echo alive").stdout, "alive\n", "the worker itself lives on")
  w2:kill("KILL")
  t:assert_eq(other:wait("20s").signal, 9)
  local c = w2:run_async("sleep 1000")
  w2:kill(1)
  t:assert_eq(c:wait("20s").signal, 1)
  plain:kill("sigkill")
end)

test("kill names the type of a bad argument", function(t)
  local w = vm:spawn_worker()
  t:assert_contains(tostring(t:assert_raises(function() w:kill({}) end)), "table")
  t:assert_contains(tostring(t:assert_raises(function() w:kill("nosuch") end)), "unknown signal name `nosuch`")
end)

test("join waits for every child and tells the worst exit code", function(t)
  local w = vm:spawn_worker()
  w:run_async("sleep 0.5; exit 2")
  w:run_async("exit 1")
  t:assert_eq(w:join(), 2)
  local err = tostring(t:assert_raises(function() w:join() end))
  t:assert_contains(err, "joined")
  t:assert_eq(vm:spawn_worker():join(), 0, "0 when none ran")
  local killed = vm:spawn_worker()
  killed:run_async("kill -TERM $$")
  t:assert_eq(killed:join(), 128 + 15)
end)

test("handle is opaque and differs between workers", function(t)
  local w1, w2 = vm:spawn_worker(), vm:spawn_worker()
  t:assert(w1:handle() ~= nil)
  t:assert_neq(w1:handle(), w2:handle())
  t:assert_contains(tostring(w1), "worker")
end)

test("close ends what is in flight, also what ignores SIGTERM, and may be repeated", function(t)
  local w = vm:spawn_worker()
  local p = w:run_async("trap '' TERM; while :; do sleep 0.1; done")
  w:run("true")
  w:close()
  w:close()
  t:assert_eq(p:status(), "exited")
  t:assert_contains(tostring(t:assert_raises(function() w:run("true") end)), "closed")
end)

test("a worker stuck in a blocking syscall can be killed and closed", function(t)
  local w = vm:spawn_worker()
  w:run("mkfifo /tmp/stuck")
  local stuck = co.spawn(function() return pcall(w.syscall, w, "pause") end)
  t:assert_eq(vm:run("echo free").stdout, "free\n", "it delays nobody else")
  w:kill()
  t:assert(seconds(function() w:close() end) < 20)
  t:assert_eq((stuck:join("20s")), false)
end)

test("each worker is a process of its own", function(t)
  local w1, w2 = vm:spawn_worker(), vm:spawn_worker()
  t:assert_neq(w1:pid(), w2:pid())
  w1:syscall("setresuid", 1000, 1000, 1000)
  t:assert_eq(w1:run("id -u").stdout, "1000\n", "commands inherit its identity")
  t:assert_eq(w2:run("id -u").stdout, "0\n")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  local path = "/tmp/cwd-of-w2"
  vm:mkdir(path, {parents = true})
  w2:syscall("chdir", {bufs = {path .. "\0"}, ptrs = {0}})
  t:assert_eq(w2:run("pwd").stdout, path .. "\n")
  t:assert_eq(w1:run("pwd").stdout, "/\n")
end)

test("a worker starts with what the VM's syscall process has at that moment", function(t)
  local f = vm:open_file("/tmp/shared", {read = true, write = true, create = true, truncate = true})
  local old = vm:syscall("umask", 63).ret
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall("write", {args = {f:fd(), 0, 3}, bufs = {"abc"}, ptrs = {1}}).ret, 3)
  t:assert_eq(vm:read_file("/tmp/shared"), "abc")
  t:assert_eq(w:syscall("umask", 0).ret, 63)
  vm:syscall("umask", old)
end)

test("options: user, cwd, env, namespaces", function(t)
  local w = vm:spawn_worker{user = "nobody", cwd = "/tmp", env = {WHO = "me"}}
  t:assert_eq(w:run("id -un; pwd; echo $WHO").stdout, "nobody\n/tmp\nme\n")
  local ns = vm:spawn_worker{namespaces = {"net", "uts"}}
  ns:run("hostname inside"):assert_ok()
  t:assert_neq(vm:run("hostname").stdout, "inside\n")
  t:assert_neq(ns:run("readlink /proc/self/ns/net").stdout, vm:run("readlink /proc/self/ns/net").stdout)
  t:assert_contains(tostring(t:assert_raises(function() vm:spawn_worker{namspaces = {}} end)), "namespaces")
end)

test("the file surface of the VM works on a worker", function(t)
  local w = vm:spawn_worker()
  w:mkdir("/tmp/ws")
  w:write_file("/tmp/ws/a", "1")
  w:rename("/tmp/ws/a", "/tmp/ws/b")
  t:assert_eq(w:stat("/tmp/ws/b").size, 1)
  t:assert_eq(w:listdir("/tmp/ws")[1].name, "b")
  t:assert_eq(w:read_file("/tmp/ws/b"), "1")
  w:unlink("/tmp/ws/b")
  local out = w:batch(function(b)
    b:run("echo batched")
    b:syscall("getpid")
  end)
  t:assert_eq(out[1].ok.stdout, "batched\n")
  t:assert_eq(out[2].ok.ret, w:pid())
  local pending = w:syscall_async("pause")
  pending:cancel()
  local tail = w:tail_file("/proc/version", {start = "beginning"})
  t:assert_contains(tail:read_until("\n"), "Linux")
end)

test("eight workers in sleep 1 take about a second in all, from tasks", function(t)
  local workers = {}
  for i = 1, 8 do workers[i] = vm:spawn_worker() end
  local took = seconds(function()
    local tasks = {}
    for i, w in ipairs(workers) do tasks[i] = function() return w:run("sleep 1").exit_code end end
    local codes = {parallel(tasks)}
    t:assert_eq(#codes, 8)
  end)
  t:log(("eight sleeps of 1 s from tasks: %.2f s"):format(took))
  t:assert(took < 1.5, ("took %.2f s"):format(took))
end)

test("…and from run_async", function(t)
  local processes = {}
  local took = seconds(function()
    for i = 1, 8 do processes[i] = vm:spawn_worker():run_async("sleep 1") end
    for _, p in ipairs(processes) do p:wait("30s"):assert_ok() end
  end)
  t:log(("eight workers made, run and waited for: %.2f s"):format(took))
  t:assert(took < 4, ("took %.2f s, one after the other would be 8"):format(took))
end)

test("syscalls, memory and streams of a worker are its own", function(t)
  local w = vm:spawn_worker()
  local address = w:syscall("mmap", 0, 4096, 3, 0x22, -1, 0).ret
  w:write_mem(address, "the worker's")
  t:assert_eq(w:read_mem(address, 12), "the worker's")
  t:assert_neq(vm:read_mem(address, 12), "the worker's")
  local pipe = w:syscall("pipe", {bufs = {{out = 8}}, ptrs = {0}})
  local rd, wr = string.unpack("<i4i4", pipe.out_bufs[1])
  local pending = w:syscall_async("read", {args = {rd, 0, 2}, bufs = {{out = 2}}, ptrs = {1}})
  w:syscall("write", {args = {wr, 0, 2}, bufs = {"hi"}, ptrs = {1}})
  t:assert_eq(pending:await("20s").out_bufs[1], "hi")
  local stream = w:fd_stream(rd)
  w:syscall("write", {args = {wr, 0, 5}, bufs = {"again"}, ptrs = {1}})
  t:assert_eq(stream:next("10s"), "again")
  local f = w:open_file("/dev/ptmx", {read = true, write = true})
  t:assert_eq(w:ioctl(f, 0x80045430, {out = 4}).ret, 0)
end)

test("handles work from outside the worker, and closing it closes what it owns", function(t)
  local w = vm:spawn_worker()
  local p, f = w:run_async("cat"), w:open_file("/tmp/owned", {write = true, create = true})
  p:stdin_write("typed")
  p:close_stdin()
  t:assert_eq(p:wait("20s").stdout, "typed")
  t:assert_eq(vm:open_file_count(), 1)
  w:close()
  t:assert_eq(vm:open_file_count(), 0)
  t:assert_contains(tostring(t:assert_raises(function() f:write("x") end)), "closed")
  t:assert_eq(f:fd(), 0)
end)

test("a process that was waited for takes its output along", function(t)
  local function resident()
    return tonumber(io.open("/proc/self/status"):read("a"):match("VmRSS:%s+(%d+)")) * 1024
  end
  local w = vm:spawn_worker()
  w:run_async("exit 7"):wait("20s")
  local each, before = 3 << 20, nil
  for i = 1, 10 do
    local p = w:run_async("head -c " .. each .. " /dev/zero")
    if i % 2 == 0 then
      t:assert_eq(#p:wait("60s").stdout, each)
    else
      wait_until(function() return p:status() == "exited" end, {timeout = 60, interval = 0.01})
      p:close()
    end
    p = nil
    collectgarbage()
    before = before or resident()
  end
  local grown = resident() - before
  t:assert(grown < 4 * each, ("grown by %.0f MiB after 27 MiB of output"):format(grown / 2^20))
  t:assert_eq(w:join(), 7, "what came of it is remembered")
end)

test("nothing that a worker started outlives it", function(t)
  local w = vm:spawn_worker()
  w:run("sleep 4713 &")
  w:run("setsid sleep 4714 &")
  w:run_async("sleep 4715 & wait")
  wait_until(function() return vm:run("ps | grep -c '[s]leep 471[345]$'").stdout == "3\n" end, {timeout = 20})
  w:close()
  wait_until(function()
    return vm:run("ps | grep '[s]leep 4715$'").stdout == ""
  end, {timeout = 20, desc = "what was in flight is gone"})
  t:assert_eq(vm:run("ps | grep -c '[s]leep 471[34]$'").stdout, "2\n", "what a finished command left behind is the guest's")
  vm:run("killall sleep"):assert_ok()
end)

test("the folder and the identity come from the VM's syscall process, too", function(t)
  vm:syscall("chdir", {bufs = {"/tmp\0"}, ptrs = {0}})
  local w = vm:spawn_worker()
  vm:syscall("chdir", {bufs = {"/\0"}, ptrs = {0}})
  t:assert_eq(w:run("pwd").stdout, "/tmp\n")
  vm:syscall("setresuid", -1, 1000, -1)
  local other = vm:spawn_worker()
  vm:syscall("setresuid", -1, 0, -1)
  t:assert_eq(other:syscall("geteuid").ret, 1000)
  t:assert_eq(w:syscall("geteuid").ret, 0)
end)

test("a worker that exits by its own syscall says so, and nobody else is hurt", function(t)
  local w = vm:spawn_worker()
  local err = tostring(t:assert_raises(function() w:syscall("exit_group", 3) end))
  t:assert_contains(err, "worker")
  t:assert_contains(err, "3")
  t:assert_eq(vm:run("echo fine").stdout, "fine\n")
  w:close()
end)

test("after a reset workers, processes and files are gone and say so", function(t)
  local own = provium:vm("r", "default"):boot()
  local w = own:spawn_worker()
  local p = own:run_async("sleep 1000")
  local f = own:open_file("/tmp/x", {write = true, create = true})
  own:reset()
  t:assert_eq(f:fd(), 0)
  for _, call in ipairs{
    function() w:run("true") end,
    function() p:wait(5) end,
    function() p:kill() end,
    function() f:write("x") end,
  } do
    t:assert_contains(tostring(t:assert_raises(call)), "reset")
  end
  t:assert_eq(own:run("echo back").stdout, "back\n")
end)
