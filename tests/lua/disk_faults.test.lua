-- Faults of disks, as the guest's own system calls and file systems meet them.
provium.timeout = "240s"

local disks = require "helpers.disks"
local pread, pwrite, fsync = disks.pread, disks.pwrite, disks.fsync

local vm = provium:vm("v", "disks", {
  disks = {
    {scratch = "1M", id = "d"},
    {scratch = "1M", id = "other"},
    {scratch = "64M", id = "ext4"},
    {scratch = "320M", id = "xfs"},
    {scratch = "128M", id = "btrfs"},
  },
}):boot()
local d, other = vm:disk("d"), vm:disk("other")
local fd, other_fd = disks.open(vm, d), disks.open(vm, other)

-- What the guest's calls give: "ok", or the name of the error.
local function reads(sector, count)
  local data, err = pread(vm, fd, sector, count or 1)
  return data and "ok" or err
end
local function writes(sector, count)
  local ret, err = pwrite(vm, fd, sector, disks.sectors("w", count or 1))
  return ret >= 0 and "ok" or err
end
local function flushes()
  local ret, err = fsync(vm, fd)
  return ret == 0 and "ok" or err
end

-- A test that leaves no faults behind.
local function fault_test(name, fn)
  test(name, function(t)
    t:defer(function()
      for _, disk in ipairs(vm:disks()) do disk:clear_faults() end
    end)
    return fn(t)
  end)
end

fault_test("reads fail", function(t)
  d:fault_inject("eio_read")
  t:assert_same({reads(0), writes(0), flushes()}, {"EIO", "ok", "ok"})
  t:assert_eq(pread(vm, other_fd, 0, 1), ("\0"):rep(512), "the other disk works")
  t:assert_eq(#d:read_sectors(0, 1), 512, "the test's own calls meet no faults")
  d:clear_faults()
  t:assert_eq(reads(0), "ok")
end)

fault_test("writes fail", function(t)
  d:fail_writes()
  t:assert_same({reads(0), writes(0), flushes()}, {"ok", "EIO", "ok"})
  d:clear_policy()
  t:assert_eq(writes(0), "ok")
  d:fail_reads()
  t:assert_same({reads(0), writes(0)}, {"EIO", "ok"})
end)

fault_test("a range of sectors fails", function(t)
  d:fail_range(8, 8)
  t:assert_same({reads(0, 8), reads(8), reads(15), reads(16), reads(4, 8)}, {"ok", "EIO", "EIO", "ok", "EIO"})
  t:assert_same({writes(0, 8), writes(8), writes(16), flushes()}, {"ok", "EIO", "ok", "ok"})
  d:clear_faults()
  d:fault_inject {mode = "eio_write", sectors = {100, 100}}
  t:assert_same({writes(99), writes(100), writes(101), reads(100)}, {"ok", "EIO", "ok", "ok"})
end)

fault_test("from a command on, all fail", function(t)
  d:fail_after(4)
  t:assert_same({reads(0), writes(0), flushes(), reads(1)}, {"ok", "ok", "ok", "EIO"})
  t:assert_same({reads(0), writes(0), flushes()}, {"EIO", "EIO", "EIO"})
  d:clear_faults()
  t:assert_same({reads(0), writes(0), flushes()}, {"ok", "ok", "ok"})
end)

fault_test("a full disk: virtio has no ENOSPC, so the guest gets EIO", function(t)
  d:fault_inject("enospc")
  t:assert_same({reads(0), writes(0), flushes()}, {"ok", "EIO", "ok"})
end)

fault_test("count and after", function(t)
  d:fault_inject {mode = "eio_read", after = 1, count = 2}
  t:assert_same({reads(0), writes(0), reads(0), reads(0), reads(0)}, {"ok", "ok", "EIO", "EIO", "ok"})
  local faults = d:active_faults()
  t:assert_eq(#faults, 1)
  t:assert_eq(faults[1].hits, 2)
end)

fault_test("data that is read is corrupt, and the disk is not", function(t)
  d:write_sectors(0, disks.sectors("sound", 8))
  d:fault_inject("corrupt")
  t:assert_neq((pread(vm, fd, 0, 8)), disks.sectors("sound", 8))
  d:clear_faults()
  t:assert_eq(pread(vm, fd, 0, 8), disks.sectors("sound", 8))
end)

fault_test("data that is written is corrupt", function(t)
  d:fault_inject {mode = "corrupt", count = 1}
  t:assert_eq((pwrite(vm, fd, 0, disks.sectors("w", 8))), 4096)
  t:assert_neq(d:read_sectors(0, 8), disks.sectors("w", 8))
end)

fault_test("a torn write succeeds, and only its first sectors are there", function(t)
  d:write_sectors(0, disks.sectors("old", 64))
  d:fault_inject("torn_write")
  t:assert_eq((pwrite(vm, fd, 0, disks.sectors("new", 64))), 64 * 512)
  local now, new = d:read_sectors(0, 64), disks.sectors("new", 64)
  local kept = 0
  while kept < 64 and now:sub(1, (kept + 1) * 512) == new:sub(1, (kept + 1) * 512) do kept = kept + 1 end
  t:assert(kept < 64, "all of it is there")
  t:assert_eq(now:sub(kept * 512 + 1), disks.sectors("old", 64):sub(kept * 512 + 1))
  t:assert_eq((pwrite(vm, fd, 0, disks.sectors("x", 1))), 512)
  t:assert_eq(d:read_sectors(0, 1), disks.sectors("x", 1), "one sector is not torn")
end)

fault_test("a dropped flush succeeds and makes nothing durable", function(t)
  fsync(vm, fd)
  d:fault_inject("drop_flush")
  t:assert_same({writes(0), flushes()}, {"ok", "ok"})
  t:assert(d:stats().unflushed > 0)
  d:clear_faults()
  t:assert_eq(flushes(), "ok")
  t:assert_eq(d:stats().unflushed, 0)
end)

fault_test("a slow disk slows only its own commands", function(t)
  d:delay("30s")
  local before = d:stats().reads
  local slow = vm:syscall_async("pread64", {args = {fd, 0, 512, 0}, bufs = {{out = 512, align = 4096}}, ptrs = {1}})
  for sector = 1, 5 do t:assert(pread(vm, other_fd, sector, 1)) end
  t:assert_eq(d:stats().reads, before, "the slow read has not ended")
  d:clear_faults()
  t:assert_eq(reads(0), "ok", "later commands do not wait for it")
  -- A pause does not wait for delays.
  vm:pause()
  vm:resume()
  t:assert_eq(slow:await(60).ret, 512)
end)

fault_test("slow takes 50 ms for each command", function(t)
  d:fault_inject("slow")
  local start = host.now_ns()
  for _ = 1, 4 do reads(0) end
  t:assert((host.now_ns() - start) / 1e6 >= 200)
  d:clear_faults()
  d:fault_inject {mode = "slow", delay = "200ms", count = 1}
  start = host.now_ns()
  reads(0)
  t:assert((host.now_ns() - start) / 1e6 >= 200)
end)

fault_test("chance follows from the seed", function(t)
  local function pattern()
    local disk = vm:attach_disk {id = "chance", size = "64K"}
    -- The kernel has looked for partitions, and draws no chance later.
    t:assert(disk:stats().reads > 0)
    disk:fault_inject {mode = "eio_read", probability = 0.5}
    local chance_fd, all = disks.open(vm, disk), {}
    for number = 1, 40 do all[number] = pread(vm, chance_fd, 0, 1) and "." or "E" end
    vm:syscall("close", chance_fd)
    disk:detach()
    return table.concat(all)
  end
  local first = pattern()
  t:assert_match(first, "E")
  t:assert_match(first, "%.")
  t:assert_eq(pattern(), first)
end)

fault_test("faults are listed", function(t)
  t:assert_same(d:active_faults(), {})
  t:assert_eq(d:fault_policy(), nil)
  local first = d:fault_inject("eio_read")
  local second = d:fault_inject {mode = "slow", sectors = {0, 7}, probability = 0.25, count = 3, after = 2, delay = 0.1}
  t:assert_same(d:active_faults(), {
    {fault = first, mode = "eio_read", hits = 0},
    {fault = second, mode = "slow", sectors = {0, 7}, probability = 0.25, count = 3, after = 2, delay = 0.1, hits = 0},
  })
  t:assert_same(d:fault_policy(), d:active_faults())
  d:clear_faults(first)
  t:assert_eq(#d:active_faults(), 1)
  t:assert_contains(t:assert_raises(function() d:clear_faults(first) end), "the disk has no fault " .. first)
end)

fault_test("faults are checked", function(t)
  local function refused(fn, why) t:assert_contains(t:assert_raises(fn), why) end
  refused(function() d:fault_inject("eio_raed") end, "disk `d` of vm `v`: fault_inject(): unknown mode `eio_raed`; did you mean `eio_read`?")
  refused(function() d:fault_inject {mode = "delay"} end, "`delay` is not a mode but a method: call `disk:delay(…)`")
  refused(function() d:fault_inject {mode = "drop_flush", sectors = {0, 7}} end, "`drop_flush` takes no sectors")
  refused(function() d:fault_inject {mode = "slow", dealy = 1} end, "unknown option `dealy`; did you mean `delay`?")
  refused(function() d:fault_inject {count = 1} end, "option `mode` is missing")
  refused(function() d:delay("5x") end, "the delay: \"5x\" is not a duration; write a number of milliseconds")
  refused(function() d:fail_after(-3) end, "the number of the command: must be at least 0, got -3")
  refused(function() d:fault_inject {mode = "corrupt", probability = 50} end, "option `probability`: must be from 0 to 1, got 50")
  refused(function() d:fault_inject {mode = "corrupt", count = 0} end, "option `count`: must be at least 1, got 0")
  refused(function() d:fault_inject {mode = "corrupt", count = -1} end, "option `count`: must be at least 1, got -1")
  refused(function() d:fault_inject {mode = "corrupt", sectors = {5}} end, "option `sectors`: must be {first, last}, got 1 values")
  refused(function() d:fault_inject {mode = "corrupt", sectors = {9, 8}} end, "the last sector, 8, is before the first, 9")
  refused(function() d:fail_range(2040, 100) end, "sector 2139 is beyond the end of the disk, which has 2048")
  refused(function() d:fail_after(0) end, "1 is the next one")
  refused(function() d:delay("1h") end, "must be at most 60s")
  refused(function() d:fault_inject(5) end, "the fault: must be the name of a mode or a table")
  t:assert_same(d:active_faults(), {})
end)

-- A file system that reads and writes past faults: what it does when it cannot. None writes in the background, where it
-- would meet a fault that is meant for the program.
local O_RDWR_CREAT = 0x42
local O_DIRECT = 0x4000
local function open_file(path, flags)
  flags = O_RDWR_CREAT | (flags or 0)
  return vm:syscall("openat", {args = {-100, 0, flags, 420}, bufs = {path .. "\0"}, ptrs = {1}}).ret
end

for _, fs in ipairs {
  {name = "ext4", make = "mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0", options = "errors=remount-ro", refuses = "Read%-only file system",
    reacts = "Remounting filesystem read%-only"},
  {name = "xfs", make = "mkfs.xfs -q -f", options = "rw", refuses = "Input/output error",
    reacts = "[Ff]ilesystem has been shut down"},
  {name = "btrfs", make = "mkfs.btrfs -q -f", options = "commit=300", refuses = "Input/output error",
    reacts = "forced readonly"},
} do
  local disk = vm:disk(fs.name)
  local dir = "/mnt/" .. fs.name
  local mount = ("mount -t %s -o %s %s %s"):format(fs.name, fs.options, disk:node(), dir)

  fault_test(fs.name .. ": an error of a read reaches the program", function(t)
    vm:check(("mkdir -p %s && %s %s && %s"):format(dir, fs.make, disk:node(), mount))
    vm:check(("head -c 1000000 /dev/zero | tr '\\0' x > %s/kept; sync"):format(dir))
    -- The pages only: xfs reads the inode again, if it is not in memory, to write it, and stops where it cannot.
    vm:check("echo 1 > /proc/sys/vm/drop_caches")
    disk:fail_reads()
    local r = vm:run(("cat %s/kept > /dev/null"):format(dir))
    t:assert_neq(r.exit_code, 0)
    t:assert_contains(r.stderr, "Input/output error")
    disk:clear_faults()
    t:assert_eq(vm:check(("cat %s/kept | wc -c"):format(dir)).stdout, "1000000\n")
  end)

  fault_test(fs.name .. ": an error of a write reaches the program", function(t)
    vm:check("sync")
    local file = open_file(dir .. "/kept", O_DIRECT)
    t:assert(file >= 0)
    disk:fault_inject {mode = "eio_write", count = 1}
    local _, err = pwrite(vm, file, 0, ("x"):rep(4096))
    t:assert_eq(err, "EIO")
    t:assert_eq(disk:active_faults()[1].hits, 1)
    -- An error of data is the program's; the file system continues.
    t:assert_eq((pwrite(vm, file, 0, ("x"):rep(4096))), 4096)
    t:assert_eq(fsync(vm, file), 0)
    vm:syscall("close", file)
  end)

  fault_test(fs.name .. ": a failed fsync is reported, and the file system stops writing", function(t)
    local file = open_file(dir .. "/lost")
    t:assert(file >= 0)
    vm:syscall("write", {args = {file, 0, 4096}, bufs = {("y"):rep(4096)}, ptrs = {1}})
    disk:fail_writes()
    local r = vm:syscall("fsync", file)
    t:assert_eq(r.errname, "EIO")
    vm:syscall("close", file)
    -- It stops at the latest when it cannot write its metadata.
    vm:run(("touch %s/more; sync"):format(dir))
    wait_until(function() return vm:run(("touch %s/again && sync %s/again"):format(dir, dir)).exit_code ~= 0 end,
      {timeout = 60, desc = "it refuses to write"})
    t:assert_match(vm:check("dmesg").stdout, fs.reacts)
    disk:clear_faults()
    local state = vm:run(("touch %s/after"):format(dir))
    t:assert_neq(state.exit_code, 0, "it does not write before it is mounted again")
    t:assert_match(state.stderr, fs.refuses)
    vm:check("umount " .. dir)
    vm:check(mount)
    t:assert_eq(vm:check(("cat %s/kept | wc -c; touch %s/after; umount %s"):format(dir, dir, dir)).stdout, "1000000\n")
  end)
end
