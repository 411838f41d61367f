-- Raw syscalls: one thread in the guest makes all of them, so each call sees what the last one has changed.
-- A file-scope VM is booted once for all the tests of a file.
local vm = provium:vm("shared", "default"):boot()

local AT_FDCWD <const> = -100
local O_RDONLY <const>, O_RDWR <const>, O_CREAT <const> = 0, 2, 64

-- Strings for the kernel end in a zero byte.
local function open(path, flags)
  local call = {args = {AT_FDCWD, 0, flags, 384}, bufs = {path .. "\0"}, ptrs = {1}}
  return vm:syscall("openat", call)
end

test("buffers go in and come back", function(t)
  local file = open("/proc/sys/kernel/ostype", O_RDONLY)
  -- `ptrs` says which argument gets the buffer's address, counted from 0.
  local read = vm:syscall("read", {args = {file.ret, 0, 64}, bufs = {{out = 64}}, ptrs = {1}})
  t:assert_eq(read.out_bufs[1]:sub(1, read.ret), "Linux\n")
  vm:syscall("close", file.ret)
end)

test("what the kernel refuses is a result, not an error", function(t)
  local result = open("/no/such/file", O_RDONLY)
  t:assert_eq(result.ret, -1)
  t:assert_eq(result.errno, errno.ENOENT)
  t:assert_eq(result.errname, "ENOENT")
end)

test("buffers may hold pointers to buffers", function(t)
  local file = open("/tmp/written-by-writev", O_RDWR | O_CREAT)
  -- struct iovec {void *base; size_t len}, twice; `nested` fills in the two addresses.
  local iovec = string.pack("<I8I8 I8I8", 0, 6, 0, 5)
  local result = vm:syscall("writev", {
    args = {file.ret, 0, 2},
    bufs = {iovec, "hello ", "world"},
    ptrs = {1},
    nested = {{parent = 1, child = 2, offset = 0}, {parent = 1, child = 3, offset = 16}},
  })
  t:assert_eq(result.ret, 11)
  t:assert_eq(vm:read_file("/tmp/written-by-writev"), "hello world")
  vm:syscall("close", file.ret)
end)

test("a call that blocks does not delay other calls", function(t)
  local pipe = vm:syscall("pipe2", {args = {0, 0}, bufs = {{out = 8}}, ptrs = {0}})
  local reader, writer = string.unpack("<i4i4", pipe.out_bufs[1])
  local pending = vm:syscall_async("read", {args = {reader, 0, 4}, bufs = {{out = 4}}, ptrs = {1}})
  vm:syscall("write", {args = {writer, 0, 4}, bufs = {"ping"}, ptrs = {1}})
  t:assert_eq(pending:await("60s").out_bufs[1], "ping")
  vm:syscall("close", reader)
  vm:syscall("close", writer)
end)

test("a worker is a process of its own", function(t)
  local worker = vm:spawn_worker()
  t:assert_eq(worker:syscall("setresuid", 1000, 1000, 1000).ret, 0)
  t:assert_eq(worker:syscall("getuid").ret, 1000)
  t:assert_eq(vm:syscall("getuid").ret, 0)
end)
