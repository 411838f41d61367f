-- The raw process: what raw calls, files and commands of one owner share, and what is not shared with
-- another owner. Existing test suites rely on most of it.
local vm = provium:vm("v", "default"):boot()

local O_CLOEXEC, NEWNS, NEWUSER, NEWPID = 0x80000, 0x20000, 0x10000000, 0x20000000

local function path_call(who, name, path, ...)
  return who:syscall(name, {args = {0, ...}, bufs = {path .. "\0"}, ptrs = {0}})
end

local function tasks(who, pid)
  return #who:listdir("/proc/" .. pid .. "/task")
end

test("folder, mask and mounts of raw calls are those of files and commands", function(t)
  local w = vm:spawn_worker()
  for _, who in ipairs{vm, w} do
    who:mkdir("/tmp/here", {parents = true})
    t:assert_eq(path_call(who, "chdir", "/tmp/here").ret, 0)
    who:syscall("umask", 63)
    who:write_file("made", "x")
    t:assert_eq(who:stat("/tmp/here/made").perm, tonumber("600", 8))
    t:assert_eq(who:run("pwd; umask").stdout, "/tmp/here\n0077\n")
    path_call(who, "chdir", "/")
    who:syscall("umask", 18)
    who:unlink("/tmp/here/made")
  end
  t:assert_eq(w:syscall("unshare", NEWNS).ret, 0)
  t:assert_eq(w:syscall("mount", {args = {0, 0, 0, 0x44000, 0}, bufs = {"none\0", "/\0"}, ptrs = {0, 1}}).ret, 0)
  local mounted = w:syscall("mount", {bufs = {"mine\0", "/tmp/here\0", "tmpfs\0"}, ptrs = {0, 1, 2}})
  t:assert_eq(mounted.ret, 0, mounted.errname)
  w:write_file("/tmp/here/inside", "x")
  t:assert_eq(w:run("ls /tmp/here").stdout, "inside\n")
  t:assert_eq(#vm:listdir("/tmp/here"), 0)
end)

test("to files it is /proc/self", function(t)
  for _, who in ipairs{vm, vm:spawn_worker()} do
    t:assert_eq(tonumber(who:read_file("/proc/self/stat"):match("^%d+")), who:syscall("getpid").ret)
    t:assert_eq(tasks(who, "self"), 1)
  end
end)

test("it is a process like any other", function(t)
  local pid = vm:syscall("getpid").ret
  t:assert_eq(vm:syscall("getpgrp").ret, pid)
  t:assert_eq(vm:syscall("getsid", 0).ret, pid)
  local names = {}
  for _, entry in ipairs(vm:listdir("/proc/" .. pid .. "/fd")) do names[#names + 1] = entry.name end
  table.sort(names)
  t:assert_same(names, {"0", "1", "2"}, "no descriptor of the agent")
end)

test("files and commands work while it is in a raw call, in its state", function(t)
  local w = vm:spawn_worker()
  path_call(w, "chdir", "/usr")
  local fd = path_call(w, "memfd_create", "m", 0).ret
  local task = co.spawn(function() return pcall(w.syscall, w, "pause") end)
  wait_until(function() return w:read_file("/proc/" .. w:pid() .. "/syscall"):match("^34 ") end, {timeout = 60})
  t:assert_eq(w:run("pwd").stdout, "/usr\n")
  t:assert_eq(w:run(("echo in > /proc/self/fd/%d; cat /proc/self/fd/%d"):format(fd, fd)).stdout, "in\n")
  t:assert_eq(w:stat(".").ino, vm:stat("/usr").ino)
  task:cancel()
  t:assert_eq(w:syscall("getpid").ret, w:pid())
end)

test("one file that waits holds nothing up", {timeout = "120s"}, function(t)
  vm:run("mkfifo /tmp/fifo")
  local reading = co.spawn(function() return vm:read_file("/tmp/fifo") end)
  local opening = co.spawn(function() return vm:open_file("/tmp/fifo", {read = true}) end)
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  vm:write_file("/tmp/fifo", "through")
  local got = reading:join("60s")
  opening:join("60s"):close()
  t:assert(got == "through" or got == "", got)
end)

test("a file system that is frozen", {timeout = "120s"}, function(t)
  vm:run([[
    cd /tmp; mkdir -p cold; head -c 1000000 /dev/zero > disk
    modprobe loop; losetup /dev/loop0 /tmp/disk && mke2fs /dev/loop0 && mount -t ext2 /dev/loop0 cold
  ]]):assert_ok()
  local cold = vm:open_file("/tmp/cold", {read = true})
  t:assert_eq(vm:ioctl(cold, 0xc0045877, string.pack("<i4", 0)).ret, 0, "FIFREEZE")
  local stuck = co.spawn(function() return pcall(vm.write_file, vm, "/tmp/cold/b", "x") end)
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_eq(vm:stat("/").entry_type ~= nil, true)
  stuck:cancel()
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  t:assert_eq(vm:ioctl(cold, 0xc0045878, string.pack("<i4", 0)).ret, 0, "FITHAW")
  cold:close()
  vm:run("umount /tmp/cold; losetup -d /dev/loop0")
end)

test("a file of another owner is read and asked where it was opened", function(t)
  vm:write_file("/tmp/of-worker", "worker's"); vm:write_file("/tmp/of-vm", "vm's")
  local w, other = vm:spawn_worker(), vm:spawn_worker()
  local wf, vf = w:open_file("/tmp/of-worker", {read = true}), vm:open_file("/tmp/of-vm", {read = true})
  t:assert_eq(vm:fd_stream(wf):next(), "worker's")
  t:assert_eq(other:fd_stream(vf):next(), "vm's")
  -- FIONREAD: what is left of it.
  wf:seek(0)
  t:assert_eq(string.unpack("<i4", vm:ioctl(wf, 0x541b, {out = 4}).out_data), 8)
  local elsewhere = provium:vm("other", "default"):boot()
  for _, call in ipairs{"fd_stream", "ioctl"} do
    local err = tostring(t:assert_raises(function() elsewhere[call](elsewhere, wf, 0x541b, {out = 4}) end))
    t:assert_contains(err, "not a file of vm `other`")
  end
  elsewhere:close()
end)

test("a file goes with the process that opened it", function(t)
  local old = vm:open_file("/tmp/of-vm", {read = true})
  t:assert(old:fd() > 2)
  pcall(vm.syscall, vm, "exit_group", 1)
  local new = vm:open_file("/tmp/of-worker", {read = true})
  for _, call in ipairs{"read_all", "tell", "tail_stream"} do
    t:assert_contains(tostring(t:assert_raises(function() old[call](old) end)), "has ended")
  end
  t:assert_contains(tostring(t:assert_raises(function() vm:fd_stream(old):next() end)), "has ended")
  t:assert_contains(tostring(t:assert_raises(function() vm:ioctl(old, 0x541b, {out = 4}) end)), "has ended")
  t:assert_eq(old:fd(), 0)
  old:close()
  t:assert_eq(new:read(99), "worker's")
end)

test("commands keep their output after unshare(CLONE_FILES)", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall("unshare", 0x400).ret, 0)
  t:assert_eq(w:run("echo out").stdout, "out\n")
end)

test("namespaces that only a process of one thread can enter", function(t)
  local w = vm:spawn_worker()
  t:assert_eq(w:syscall("unshare", NEWUSER | NEWNS).ret, 0)
  t:assert_eq(w:run("id -u").stdout, "65534\n")
  local x = vm:spawn_worker()
  local fd = x:syscall("openat", {args = {-100, 0, O_CLOEXEC}, bufs = {"/proc/1/ns/mnt\0"}, ptrs = {1}}).ret
  t:assert_eq(x:syscall("setns", fd, NEWNS).ret, 0)
  local y = vm:spawn_worker()
  t:assert_eq(y:syscall("unshare", NEWPID).ret, 0)
  t:assert_eq(y:read_file("/proc/self/comm"), "provium-raw\n")
  t:assert_eq(y:run("echo $$").stdout, "1\n")
end)

test("more commands at once than the usual limit of descriptors has room for", {timeout = "250s"}, function(t)
  local running = {}
  for i = 1, 360 do running[i] = vm:run_async("exec sleep 1000") end
  t:assert_eq(vm:run("ulimit -n").stdout, "1024\n", "the limit of commands is as it was")
  for _, process in ipairs(running) do process:kill("kill") end
  for _, process in ipairs(running) do t:assert_eq(process:wait("60s").signal, 9) end
end)

test("a raw call that cannot be interrupted hurts no other", {timeout = "120s"}, function(t)
  local all = string.rep("\255", 8)
  vm:syscall("rt_sigprocmask", {args = {2, 0, 0, 8}, bufs = {all}, ptrs = {1}})
  local server = vm:run_async("exec sleep 1000")
  local stuck = co.spawn(function() return pcall(vm.syscall, vm, "pause") end)
  wait_until(function() return vm:run("cat /proc/[0-9]*/syscall | grep -c '^34 '").stdout ~= "0\n" end, {timeout = 60})
  stuck:cancel()
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_eq(server:status(), "running")
  server:kill("kill")
end)

local rd, wr
test("a pending call ends with its test", function(t)
  local pipe = vm:syscall("pipe", {bufs = {{out = 8}}, ptrs = {0}})
  rd, wr = string.unpack("<i4i4", pipe.out_bufs[1])
  _G.pending = vm:syscall_async("read", {args = {rd, 0, 5}, bufs = {{out = 5}}, ptrs = {1}})
end)
test("…and takes nothing from the next one", function(t)
  vm:syscall("write", {args = {wr, 0, 5}, bufs = {"mine!"}, ptrs = {1}})
  local got = vm:syscall("read", {args = {rd, 0, 5}, bufs = {{out = 5}}, ptrs = {1}})
  t:assert_eq(got.out_bufs[1], "mine!")
  vm:syscall("close", rd); vm:syscall("close", wr)
end)

test("standard output by name, as another user", function(t)
  for _, options in ipairs{{user = 65534}, {user = 65534, tty = true}} do
    local r = vm:run("echo by name > /dev/stdout; echo also >> /proc/self/fd/1", options)
    t:assert_eq(r.stdout:gsub("\r", ""), "by name\nalso\n", r.stderr)
  end
  t:assert_eq(vm:run("cat /dev/stdin", {user = 65534, stdin = "in"}).stdout, "in")
end)

test("a program that was just written is run beside others", {timeout = "90s"}, function(t)
  local stop = false
  local others = {}
  for i = 1, 3 do others[i] = co.spawn(function() while not stop do vm:run({"/bin/true"}) end end) end
  local program = vm:read_file("/bin/busybox")
  for i = 1, 15 do
    vm:write_file("/tmp/busybox" .. i, program, {perm = "0755"})
    vm:run({"/tmp/busybox" .. i, "true"}):assert_ok()
    vm:unlink("/tmp/busybox" .. i)
  end
  stop = true
  for _, other in ipairs(others) do other:join("60s") end
end)

test("the output of a batch's commands is kept up to max_output, and what is not is counted", function(t)
  local out = vm:batch(function(b)
    b:run("head -c 5000000 /dev/zero")
    b:run("printf 0123456789", {max_output = 6})
  end)
  t:assert_eq(#out[1].ok.stdout, 4194304)
  t:assert_eq(out[1].ok.stdout_dropped, 5000000 - 4194304)
  t:assert_eq(out[2].ok.stdout, "012789")
  t:assert_eq(out[2].ok.stdout_dropped, 4)
end)

test("many lines cost no message each", {timeout = "120s"}, function(t)
  local loop = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done"
  -- The best of each, measured in turns: what else the host does makes single ones slow.
  local quiet, captured = math.huge, math.huge
  for _ = 1, 5 do
    quiet = math.min(quiet, vm:run(loop .. " > /dev/null").duration)
    captured = math.min(captured, vm:run(loop).duration)
  end
  t:assert(captured < 5 * quiet + 0.2, ("%.2f s captured, %.2f s into /dev/null"):format(captured, quiet))
end)

test("values that were taken for others", function(t)
  vm:open_file("/tmp/zero", {write = true, create = true, perm = 0}):close()
  t:assert_eq(vm:stat("/tmp/zero").perm, 0)
  vm:mkdir("/tmp/private/", {parents = true, perm = tonumber("700", 8)})
  t:assert_eq(vm:stat("/tmp/private").perm, tonumber("700", 8))
  local p = vm:run_async("exec sleep 1000")
  p:kill(18 / 2)
  t:assert_eq(p:wait("60s").signal, 9)
  local pending = vm:syscall_async("getuid")
  t:assert_eq(pending:await("60s").ret, 0)
  pending:cancel()
  t:assert_eq(pending:await("60s").ret, 0)
  t:assert_contains(tostring(t:assert_raises(function() vm:run("true", {("x"):rep(9000000)}) end)), "E2BIG")
end)

test("a raw execve is reported at once, and leaves nothing", {timeout = "60s"}, function(t)
  local bufs = {"/bin/busybox\0", string.pack("<I8I8I8", 0, 0, 0), string.pack("<I8", 0), "sleep\0", "4711\0"}
  local nested = {{parent = 2, child = 4, offset = 0}, {parent = 2, child = 5, offset = 8}}
  local err = tostring(t:assert_raises(function()
    vm:syscall("execve", {bufs = bufs, ptrs = {0, 1, 2}, nested = nested})
  end))
  t:assert_contains(err, "became another program")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_eq(vm:run("ps | grep -c '[s]leep 4711'").stdout, "0\n")
end)

test("kill(0, …) and calls of vfork's kind", function(t)
  local w = vm:spawn_worker()
  for _, call in ipairs{{"vfork"}, {"clone", 0x4000 | 17, 0, 0, 0, 0}} do
    t:assert(w:syscall(table.unpack(call)).ret > 0, call[1])
  end
  t:assert_contains(tostring(t:assert_raises(function() w:syscall("kill", 0, 15) end)), "SIGTERM")
  w:kill()
  t:assert_eq(w:join(), 128 + 15)
  t:assert_eq(vm:run("echo on").stdout, "on\n")
end)
