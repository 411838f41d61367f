-- Raw syscalls: arguments, buffers, pointers, memory, and what they cannot break.
local vm = provium:vm("v", "default"):boot()

test("by number and by name", function(t)
  t:assert_eq(vm:syscall(39).ret, vm:syscall("getpid").ret)
  t:assert(vm:syscall(sysno.getpid).ret > 1)
  local r = vm:syscall("getuid")
  t:assert_eq(r.ret, 0)
  t:assert_eq(r.result, 0)
  t:assert_eq(r.errno, 0)
end)

test("failure gives -1 and a positive errno, with its name", function(t)
  local r = vm:syscall("close", 12345)
  t:assert_eq(r.ret, -1)
  t:assert_eq(r.errno, errno.EBADF)
  t:assert_eq(r.errname, "EBADF")
  t:assert_eq(errno.name(r.errno), "EBADF")
end)

test("buffers go in, and come back", function(t)
  local r = vm:syscall("uname", {bufs = {{out = 390}}, ptrs = {0}})
  t:assert_eq(r.ret, 0)
  t:assert_eq(#r.out_bufs[1], 390)
  t:assert_eq(r.out_bufs[1]:match("^%Z+"), "Linux")
  local open = vm:syscall("openat", {args = {-100, 0, 0}, bufs = {{inp = "/proc/version\0"}}, ptrs = {1}})
  t:assert(open.ret > 2)
  local read = vm:syscall("read", {args = {open.ret, 0, 100}, bufs = {{out = 100}}, ptrs = {1}})
  t:assert_contains(read.out_bufs[1], "Linux version")
  vm:syscall("close", open.ret)
end)

test("arguments need no list, and may be fewer than six", function(t)
  t:assert_eq(vm:syscall("close", {args = {999}}).errno, errno.EBADF)
  t:assert_eq(vm:syscall("getpid", {}).errno, 0)
end)

test("what one call changes is there for the next", function(t)
  t:assert_eq(vm:syscall("chdir", {bufs = {"/tmp\0"}, ptrs = {0}}).ret, 0)
  local r = vm:syscall("getcwd", {args = {0, 64}, bufs = {{out = 64}}, ptrs = {0}})
  t:assert_eq(r.out_bufs[1]:match("^%Z+"), "/tmp")
  local fd = vm:syscall("eventfd2", 7, 0).ret
  local got = vm:syscall("read", {args = {fd, 0, 8}, bufs = {{out = 8}}, ptrs = {1}})
  t:assert_eq(string.unpack("<I8", got.out_bufs[1]), 7)
  vm:syscall("close", fd)
  vm:syscall("chdir", {bufs = {"/\0"}, ptrs = {0}})
  t:assert_eq(vm:syscall("gettid").ret, vm:syscall("getpid").ret, "one stable main thread")
end)

test("pointers inside buffers, on several levels", function(t)
  local fd = vm:syscall("memfd_create", {args = {0, 0}, bufs = {"m\0"}, ptrs = {0}}).ret
  -- struct iovec { base, len } twice
  local iov = string.pack("<I8I8I8I8", 0, 6, 0, 5)
  local r = vm:syscall("writev", {
    args = {fd, 0, 2},
    bufs = {iov, "hello ", "world"},
    ptrs = {1},
    nested = {{parent = 1, child = 2, offset = 0}, {parent = 1, child = 3, offset = 16}},
  })
  t:assert_eq(r.ret, 11)
  local back = vm:syscall("pread64", {args = {fd, 0, 11, 0}, bufs = {{out = 11}}, ptrs = {1}})
  t:assert_eq(back.out_bufs[1], "hello world")
  -- sendmsg: msghdr -> iovec -> bytes, and child_offset
  local pair = vm:syscall("socketpair", {args = {1, 1, 0, 0}, bufs = {{out = 8}}, ptrs = {3}})
  t:assert_eq(pair.ret, 0)
  local a, b = string.unpack("<i4i4", pair.out_bufs[1])
  local hdr = string.pack("<I8I4I4I8I8I8I8I4I4", 0, 0, 0, 0, 1, 0, 0, 0, 0)
  local sent = vm:syscall("sendmsg", {
    args = {a, 0, 0},
    bufs = {hdr, string.pack("<I8I8", 0, 3), "xxabc"},
    ptrs = {1},
    nested = {{parent = 1, child = 2, offset = 16}, {parent = 2, child = 3, offset = 0, child_offset = 2}},
  })
  t:assert_eq(sent.ret, 3)
  local got = vm:syscall("read", {args = {b, 0, 3}, bufs = {{out = 3}}, ptrs = {1}})
  t:assert_eq(got.out_bufs[1], "abc")
  for _, each in ipairs{fd, a, b} do vm:syscall("close", each) end
end)

test("thousands of buffers", function(t)
  local n = 1000
  local bufs, nested, iov = {""}, {}, {}
  for i = 1, n do
    bufs[i + 1] = string.char(i % 256)
    iov[i] = string.pack("<I8I8", 0, 1)
    nested[i] = {parent = 1, child = i + 1, offset = (i - 1) * 16}
  end
  bufs[1] = table.concat(iov)
  local fd = vm:syscall("memfd_create", {args = {0, 0}, bufs = {"m\0"}, ptrs = {0}}).ret
  local r = vm:syscall("writev", {args = {fd, 0, n}, bufs = bufs, ptrs = {1}, nested = nested})
  t:assert_eq(r.ret, n)
  vm:syscall("close", fd)
end)

test("out_bufs comes back whole after a failure, too", function(t)
  local r = vm:syscall("read", {args = {999, 0, 4}, bufs = {"keep"}, ptrs = {1}})
  t:assert_eq(r.errno, errno.EBADF)
  t:assert_eq(r.out_bufs[1], "keep")
end)

test("alignment as asked for", function(t)
  local r = vm:syscall("msync", {args = {0, 4096, 4}, bufs = {{out = 4096, align = 4096}}, ptrs = {0}})
  t:assert_neq(r.errname, "EINVAL", "the address is page aligned")
end)

test("bad calls raise", function(t)
  local bad = {
    function() vm:syscall("no_such_call") end,
    function() vm:syscall("getpid", 1, 2, 3, 4, 5, 6, 7) end,
    function() vm:syscall("getpid", "x") end,
    function() vm:syscall("getpid", 1.5) end,
    function() vm:syscall("read", {args = {0, 0, 1}, bufs = {"x"}, ptrs = {6}}) end,
    function() vm:syscall("read", {bufs = {"x"}, ptrs = {0}, nested = {{parent = 1, child = 2, offset = 0}}}) end,
    function() vm:syscall("read", {bufs = {"x", "y"}, ptrs = {0}, nested = {{parent = 1, child = 2, offset = 0}}}) end,
    function() vm:syscall("getpid", {arg = {1}}) end,
  }
  for _, call in ipairs(bad) do
    t:assert_contains(tostring(t:assert_raises(call)), "syscall.test.lua:")
  end
end)

test("ioctl", function(t)
  local fd = vm:syscall("openat", {args = {-100, 0, 2}, bufs = {"/dev/ptmx\0"}, ptrs = {1}}).ret
  local r = vm:ioctl(fd, 0x80045430, string.rep("\0", 4)) -- TIOCGPTN
  t:assert_eq(r.ret, 0)
  t:assert(string.unpack("<I4", r.out_data) >= 0)
  t:assert_eq(vm:ioctl(fd, 0xdead).errno, errno.ENOTTY)
  vm:syscall("close", fd)
  local file = vm:open_file("/dev/ptmx", {read = true, write = true})
  t:assert_eq(vm:ioctl(file, 0x80045430, {out = 4}).out_data, r.out_data, "the same one is free again")
  t:assert_eq(vm:ioctl(file:fd(), 0x80045430, 8).errname, "EFAULT", "a number is passed as it is")
end)

test("ioctl with pointers inside its data", function(t)
  -- SIOCGIFCONF: struct ifconf { int len; char *buf; }
  local s = vm:syscall("socket", 2, 2, 0).ret
  local r = vm:ioctl(s, 0x8912, string.pack("<i4I4I8", 400, 0, 0), {bufs = {{out = 400}}, ptr_offsets = {8}})
  t:assert_eq(r.ret, 0)
  t:assert_eq(string.unpack("<i4", r.out_data) % 40, 0)
  t:assert_eq(#r.out_bufs[1], 400)
  t:assert_raises(function() vm:ioctl(s, 0x8912, "x", {bufs = {"y"}}) end)
  t:assert_raises(function() vm:ioctl(s, 0x8912, "12345678", {bufs = {"y"}, ptr_offsets = {1}}) end)
  vm:syscall("close", s)
end)

test("what is only sent is not returned", function(t)
  local fd = vm:syscall("memfd_create", {args = {0, 0}, bufs = {"m\0"}, ptrs = {0}}).ret
  local r = vm:syscall("write", {args = {fd, 0, 3}, bufs = {{inp = "abc"}, {out = 3}, "xyz"}, ptrs = {1}})
  t:assert_eq(r.ret, 3)
  t:assert_same(r.out_bufs, {nil, "\0\0\0", "xyz"})
  vm:syscall("close", fd)
end)

test("memory of the process that makes the calls", function(t)
  local address = vm:syscall("mmap", 0, 4096, 3, 0x22, -1, 0).ret
  vm:write_mem(address, "in memory")
  t:assert_eq(vm:read_mem(address, 9), "in memory")
  vm:syscall("munmap", address, 4096)
  local bytes, number = vm:read_mem(address, 9)
  t:assert_eq(bytes, nil)
  t:assert_eq(number, errno.EFAULT)
end)

test("calls that block do not block the rest", function(t)
  local r = vm:syscall("pipe", {bufs = {{out = 8}}, ptrs = {0}})
  local rd, wr = string.unpack("<i4i4", r.out_bufs[1])
  local pending = vm:syscall_async("read", {args = {rd, 0, 5}, bufs = {{out = 5}}, ptrs = {1}})
  local second = vm:syscall_async("pause")
  t:assert_eq(pending:await("200ms"), nil)
  vm:syscall("write", {args = {wr, 0, 5}, bufs = {"hello"}, ptrs = {1}})
  local got = pending:await("60s")
  t:assert_eq(got.ret, 5)
  t:assert_eq(got.out_bufs[1], "hello")
  second:cancel()
  vm:syscall("close", rd)
  vm:syscall("close", wr)
end)

test("a futex wakes a waiting call", function(t)
  local address = vm:syscall("mmap", 0, 4096, 3, 0x22, -1, 0).ret
  local waiting = vm:syscall_async("futex", address, 0, 0, 0)
  local woken = wait_until(function()
    local n = vm:syscall("futex", address, 1, 1).ret
    return n > 0 and n
  end, {timeout = 60})
  t:assert_eq(woken, 1)
  t:assert_eq(waiting:await("60s").ret, 0)
end)

test("exit_group, exit and a crash are reported, and do no other harm", function(t)
  local p = vm:run_async("sleep 1000")
  t:assert_contains(tostring(t:assert_raises(function() vm:syscall("exit_group", 42) end)), "42")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_raises(function() vm:syscall("exit", 0) end)
  t:assert_eq(vm:syscall("getuid").ret, 0)
  local pid = vm:syscall("getpid").ret
  t:assert_contains(tostring(t:assert_raises(function() vm:syscall("kill", pid, 11) end)):lower(), "segv")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_eq(p:status(), "running")
  t:assert_eq(vm:run("echo well").stdout, "well\n")
  p:close()
end)

test("nothing takes the agent down", function(t)
  pcall(vm.run, vm, "kill -9 -1")
  t:assert_eq(wait_until(function()
    local ok, r = pcall(vm.run, vm, "echo still here")
    return ok and r.stdout
  end, {timeout = 60}), "still here\n")
  t:assert_eq(vm:syscall("getuid").ret, 0)
end)

test("a pointer to nowhere is the kernel's EFAULT", function(t)
  t:assert_eq(vm:syscall("uname", 8).errname, "EFAULT")
end)
