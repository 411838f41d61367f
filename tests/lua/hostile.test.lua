-- Calls as a hostile or careless author makes them: each is refused at once, by name, or does what it
-- says; none does something else in silence.
local vm = provium:vm("v", "default"):boot()

local seconds = require("helpers.timing").seconds

local function raises(t, fn, ...)
  -- A busy host makes all calls slow, so the limit is relative: this call must not wait.
  local usual = seconds(function() vm:run("true") end)
  local err
  local took = seconds(function() err = tostring(t:assert_raises(fn)) end)
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  t:assert(took < 8 + 10 * usual, ("it was reported late, after %.1f s: %s"):format(took, err))
  return err
end

test("names of an environment", function(t)
  for _, name in ipairs{"", "A=B", "A\0B"} do
    raises(t, function() vm:run("env", {env = {[name] = "x"}}) end, "option `env`", "a name must not")
  end
  raises(t, function() vm:run("env", {env = {"A=1"}}) end, "option `env`")
  t:assert_eq(vm:run("echo $A", {env = {A = 1}}).stdout, "1\n")
  raises(t, function() vm:run("env", {env = {A = true}}) end, "A: must be a string", "boolean")
end)

test("options that a call does not know", function(t)
  raises(t, function() vm:read_file("/etc/passwd", {perm = 1}) end, "read_file()", "takes no options, got a table as argument 2")
  raises(t, function() provium:boot{memory = "1G"} end, "boot()", "takes no options")
  raises(t, function() vm:write_file("/tmp/x", "", true) end, "options must be a table, got the boolean true")
  t:assert_eq(vm:name(1, "x"), "v", "surplus values are dropped")
end)

test("what a command lacks is named: folder, user, program", function(t)
  raises(t, function() vm:run("pwd", {cwd = "/nope"}) end, "ENOENT", "chdir /nope")
  raises(t, function() vm:run_async("pwd", {cwd = "/etc/passwd"}) end, "ENOTDIR", "chdir /etc/passwd")
  raises(t, function() vm:spawn_worker{cwd = "/nope"} end, "spawn_worker()", "ENOENT", "chdir /nope")
  raises(t, function() vm:run("id", {user = "nosuch"}) end, "the guest has no user `nosuch`")
  raises(t, function() vm:run({""}) end, "program")
  raises(t, function() vm:run({}) end, "program")
  raises(t, function() vm:run("echo a\0b") end, "zero byte")
  raises(t, function() vm:run("echo", {"a\0b"}) end, "zero byte")
  raises(t, function() vm:run("echo", {"a", nil, "c"}) end, "list of strings")
  raises(t, function() vm:run("echo", {string.rep("x", 200000)}) end, "E2BIG")
end)

test("time limits of run and run_async", function(t)
  raises(t, function() vm:run_async("true", {timeout_ms = 5}) end, "option `timeout_ms`", "proc:wait")
  raises(t, function() vm:run("true", {timeout = 1, timeout_ms = 5}) end, "not both")
  for _, bad in ipairs{"", "0x5s", "1e2s", "nans", "infs", "5S", "5 parsecs", "-5s"} do
    raises(t, function() vm:run("true", {timeout = bad}) end, "option `timeout`", bad)
  end
  t:assert_eq(vm:run("sleep 10", {timeout = ".1s"}).status, "timed_out")
  vm:run("true", {timeout = "60"}):assert_ok()
end)

test("a closed file is not descriptor 0", function(t)
  local f = vm:open_file("/etc/passwd", {read = true})
  f:close()
  raises(t, function() vm:ioctl(f, 0x5401, {out = 64}) end, "file is closed")
  raises(t, function() vm:fd_stream(f) end, "file is closed")
  for _, call in ipairs{"read_all", "tell", "tail_stream"} do
    raises(t, function() f[call](f) end, call .. "(): file is closed")
  end
  raises(t, function() f:write("x") end, "file is closed")
  raises(t, function() f:seek(0) end, "file is closed")
  t:assert_eq(f:fd(), 0)
end)

test("what cannot be read has no stream", function(t)
  raises(t, function() vm:tail_file("/nope") end, "ENOENT")
  raises(t, function() vm:tail_file("/tmp") end, "EISDIR")
  raises(t, function() vm:fd_stream(999) end, "EBADF")
  raises(t, function() vm:fd_stream(-1) end, "must be from 0 to 2147483647, got -1")
end)

test("a stream that cannot be read any more says so each time, and has not ended", function(t)
  local p = vm:run_async("exec sleep 1000")
  local stream = vm:tail_file("/proc/" .. p:pid() .. "/cmdline", {start = "beginning"})
  stream:expect("1000\0", "60s")
  p:kill()
  p:wait()
  for _ = 1, 2 do
    raises(t, function() stream:next("60s") end, "ESRCH")
    raises(t, function() stream:read_until("x", 1) end, "ESRCH")
    raises(t, function() stream:drain() end, "ESRCH")
  end
  t:assert_eq(stream:eof(), false)
  stream:close()
end)

test("messages of a stream name the author's call", function(t)
  local tail = vm:tail_file("/etc/passwd", {start = "beginning"})
  raises(t, function() tail:expect("never", 0.1) end, 'expect("never"): ', "timed out waiting for `never`", "root")
  raises(t, function() tail:read_until("", 1) end, "must not be empty")
  raises(t, function() tail:expect_match("(", 1) end, "pattern", "unfinished capture")
  tail:close()
  raises(t, function() tail:expect("x") end, 'expect("x"): stream closed')
  raises(t, function() tail:expect_match("x") end, "stream closed")
  t:assert_eq(tail:next(), nil)
end)

test("standard input after its end", function(t)
  local p = vm:run_async("cat; exec sleep 1000")
  t:assert_eq(p:stdin_write(""), 0)
  p:close_stdin()
  p:close_stdin()
  raises(t, function() p:stdin_write("x") end, "stdin_write()", "its standard input is closed")
  p:kill("kill")
  p:wait("60s")
  raises(t, function() p:stdin_write("x") end, "the process has exited")
  local ended = vm:run_async("true")
  wait_until(function() return ended:status() == "exited" end, {timeout = 60})
  raises(t, function() ended:stdin_write("x") end, "the process has exited")
end)

test("signals that are none", function(t)
  local p = vm:run_async("exec sleep 1000")
  for _, bad in ipairs{"", "SIG", "sigsigterm", "9"} do
    raises(t, function() p:signal(bad) end, ("unknown signal name `%s`"):format(bad))
  end
  for _, bad in ipairs{65, -1, 9.5} do raises(t, function() p:signal(bad) end, tostring(bad)) end
  raises(t, function() p:signal() end, "the signal is missing")
  raises(t, function() p:kill(print) end, "function")
  t:assert_eq(p:status(), "running", "none of them was sent")
  local all = {
    term = 15, kill = 9, int = 2, hup = 1, quit = 3, stop = 19, cont = 18, usr1 = 10, usr2 = 12, alrm = 14,
    pipe = 13, chld = 17, winch = 28, segv = 11, abrt = 6, ttin = 21, ttou = 22,
  }
  p:kill("kill")
  -- The kernel's own record of what is pending says that the right one came.
  local stopped = vm:run_async("exec sleep 1000")
  stopped:signal("stop")
  wait_until(function()
    return vm:read_file("/proc/" .. stopped:pid() .. "/status"):find("State:%s+T")
  end, {timeout = 60, interval = 0.01})
  for name, number in pairs(all) do
    if name ~= "kill" and name ~= "cont" and name ~= "stop" then
      stopped:signal("SIG" .. name:upper())
      local status = vm:read_file("/proc/" .. stopped:pid() .. "/status")
      local pending = tonumber(status:match("ShdPnd:%s+(%x+)"), 16) | tonumber(status:match("SigPnd:%s+(%x+)"), 16)
      -- What a process ignores or handles by default in no way is not kept.
      if name ~= "chld" and name ~= "winch" then
        t:assert(pending & (1 << (number - 1)) ~= 0, name)
      end
    end
  end
  stopped:kill("kill")
end)

test("files by path", function(t)
  raises(t, function() vm:read_file("") end, "must not be empty")
  raises(t, function() vm:write_file("/tmp/x") end, "the data: must be a string, got nil")
  for _, perm in ipairs{0x10000, -1, 6.5} do
    raises(t, function() vm:write_file("/tmp/x", "", {perm = perm}) end, "option `perm`", tostring(perm))
  end
  raises(t, function() vm:push_file("/tmp", "/tmp/x") end, "`/tmp` on the host", "directory")
  local here = os.tmpname()
  local file = io.open(here, "wb")
  file:write("precious")
  file:close()
  raises(t, function() vm:pull_file("/nope", here) end, "ENOENT")
  raises(t, function() vm:pull_file("/tmp", here) end, "folder")
  t:assert_eq(io.open(here, "rb"):read("a"), "precious", "a copy that cannot be made destroys nothing")
  os.remove(here)
end)

test("raw syscalls", function(t)
  raises(t, function() vm:syscall("close", {bufs = {"x"}, ptrs = {-1}}) end, "-1 is not an argument slot")
  raises(t, function() vm:syscall("close", {bufs = {"x", "y"}, ptrs = {0, 0}}) end, "ptrs[2]", "bufs[1]")
  raises(t, function() vm:syscall("close", {bufs = {{out = 1 << 40}}}) end, "buffers of more than")
  raises(t, function() vm:syscall("close", {bufs = {{out = -1}}}) end, "bufs[1]")
  raises(t, function() vm:syscall("close", {bufs = {{out = 1, inp = "x"}}}) end, "give one of")
  raises(t, function() vm:syscall("close", {args = {1, 2, 3, 4, 5, 6, 7}}) end, "at most 6 arguments")
  raises(t, function() vm:syscall("close", nil) end, "integer, got nil")
  raises(t, function()
    vm:syscall("close", {bufs = {"12345678", "x"}, nested = {{parent = 1, child = 2, offset = 0, child_offset = 2}}})
  end, "child_offset 2")
  raises(t, function() vm:read_mem(0, 1 << 50) end, "at most")
  local bytes, number = vm:read_mem(0, 8)
  t:assert_eq(bytes, nil)
  t:assert_eq(number, errno.EFAULT)
  local sparse = vm:syscall("read", {args = {999, 0, 1}, bufs = {"only nested", {out = 1}}, ptrs = {[2] = 1}})
  t:assert_eq(sparse.errno, errno.EBADF, "a buffer may be without a slot")
end)

test("a batch is over when its function is", function(t)
  local kept
  t:assert_same(vm:batch(function(b) kept = b end), {})
  raises(t, function() kept:run("true") end, "the batch is over")
  raises(t, function() vm:batch(function(b) b:run("true", {timeout = 1}) end) end, "option `timeout`")
  raises(t, function() vm:batch(function() error("mine") end) end, "mine")
  raises(t, function() vm:batch() end, "function")
end)

test("a console is not searched for nothing", function(t)
  local console = vm:console()
  for _, call in ipairs{
    function() console:expect("", 1) end,
    function() console:count("") end,
    function() console:never("", 0.1) end,
    function() console:expect_any({"x", ""}, 1) end,
    function() console:expect_any({}, 1) end,
  } do
    raises(t, call, "empty")
  end
  raises(t, function() console:expect_any({"no", "none"}, 0.1) end, "expect_any(`no` or `none`)")
end)

test("names", function(t)
  for _, name in ipairs{"a\0b", "a\nb", "\27[31m"} do
    raises(t, function() provium:vm(name, "default") end, "control character")
    raises(t, function() provium:lab(name) end, "control character")
  end
  raises(t, function() provium:vm(5, "default") end, "the name: must be a string, got 5")
  local odd = provium:vm("../../etc/Ünï cödé, " .. ("x"):rep(300), "default"):boot()
  t:assert_eq(odd:run("hostname").stdout:match("^[a-z0-9-]+\n$"):sub(1, 7), "etc--n-", "a host name is made of it")
  odd:snapshot():delete()
end)

test("a boot's options", function(t)
  local function made(opts) return function() provium:vm("other", "default", opts) end end
  raises(t, made{files = {{path = "/x", content = "", mode = 1, perm = 1}}}, "files[1]", "not both")
  raises(t, made{files = {{path = "/x"}}}, "files[1]", "`content` is missing")
  raises(t, made{files = {{path = "x", content = ""}}}, "files[1]", "absolute")
  raises(t, made{files = {{path = "/x", contents = ""}}}, "files[1]", "did you mean `content`?")
  raises(t, made{cpus = 0}, "cpus")
  raises(t, made{cpus = 1.5}, "cpus")
  raises(t, made{memory = 0}, "memory")
  raises(t, made{rng_seed = 1.5}, "rng_seed")
  raises(t, made{initial_time = 0 / 0}, "initial_time")
  raises(t, made("x"), "must be a table")
  local vm2 = provium:vm("late", "default", {kernel_cmdline_append = string.rep("x", 3000)})
  -- The boot may have to wait for the pool.
  t:assert_contains(tostring(t:assert_raises(function() vm2:boot() end)), "2047 bytes")
  t:assert_eq(vm2:state(), "created")
end)

test("what a worker started ends with it, also when the worker is killed or exits by itself", function(t)
  local function group(w)
    local p = w:run_async("sleep 4731 & sleep 4731 & echo set; wait")
    p:stdout_stream():read_until("set\n", "60s")
    return p
  end
  local function left() return vm:run("ps | grep -c '[s]leep 4731$' || true").stdout end
  local killed, exiting = vm:spawn_worker(), vm:spawn_worker()
  local p, q = group(killed), group(exiting)
  -- What was started in the background may not have become `sleep` yet.
  wait_until(function() return left() == "4\n" end, {timeout = 60, desc = "all are there"})
  vm:run("kill -9 " .. killed:pid()):assert_ok()
  wait_until(function() return left() == "2\n" end, {timeout = 60, desc = "the killed one's are gone"})
  raises(t, function() p:wait("60s") end, "SIGKILL")
  raises(t, function() exiting:syscall("exit_group", 3) end, "worker", "status 3")
  wait_until(function() return left() == "0\n" end, {timeout = 60, desc = "the other's are gone"})
  raises(t, function() q:wait("60s") end, "status 3")
  killed:close()
  exiting:close()
end)
