-- Disks of VMs: what the guest sees of them, and that the guest and the test see the same bytes.
provium.timeout = "180s"

local disks = require "helpers.disks"

local folder = disks.folder()
local base = folder.put("base.img", disks.sectors("base", 256))
local in_place = folder.put("in-place.img", disks.sectors("mine", 16))
local tree = folder.mkdir("tree")
folder.mkdir("tree/sub")
folder.put("tree/sub/file", "hello\n")

local vm = provium:vm("v", "default", {
  disks = {
    {scratch = "1M", id = "data"},
    {template = base, id = "copy"},
    {path = in_place, id = "mine"},
    {template = base, id = "fixed", readonly = true},
    {folder = tree, id = "src", mount = "/src", readonly = true},
    {scratch = 512},
    {scratch = "1M", id = "a name that is longer than a serial"},
  },
}):boot()

local data = vm:disk("data")

test("the order of attachment is that of the devices", function(t)
  local nodes = {}
  for place, disk in ipairs(vm:disks()) do nodes[place] = disk:id() .. " " .. disk:node() end
  t:assert_same(nodes, {
    "data /dev/vda", "copy /dev/vdb", "mine /dev/vdc", "fixed /dev/vdd", "src /dev/vde", "disk5 /dev/vdf",
    "a name that is longer than a serial /dev/vdg",
  })
end)

test("each is linked by its id", function(t)
  for _, disk in ipairs { "data", "copy", "mine", "fixed", "src", "disk5" } do
    t:assert_eq(vm:check("readlink -f /dev/disk/by-id/virtio-" .. disk).stdout, vm:disk(disk):node() .. "\n")
  end
  t:assert_eq(vm:check("cat /sys/block/vda/serial").stdout, "data")
  local long = vm:check("ls /dev/disk/by-id | grep anamethat").stdout
  t:assert_eq(#long, #"virtio-" + 20 + 1, long)
end)

test("handles", function(t)
  t:assert(rawequal(vm:disk("data"), data))
  t:assert(rawequal(vm:disks()[1], data))
  t:assert_eq(data:vm(), vm)
  t:assert_eq(data:id(), "data")
  t:assert_eq(tostring(data), "disk `data` of vm `v`")
  t:assert_eq(data:is_detached(), false)
  t:assert_contains(t:assert_raises(function() vm:disk("dat") end),
    "it has no such disk; it has data, copy, mine, fixed, src, disk5, a name")
  t:assert_contains(t:assert_raises(function() data:sise() end), "disk has no method `sise`; did you mean `size`?")
end)

test("sizes", function(t)
  t:assert_eq(data:size(), 1 << 20)
  t:assert_eq(vm:disk("copy"):size(), 256 * 512)
  t:assert_eq(vm:disk("disk5"):size(), 512)
  for _, disk in ipairs(vm:disks()) do
    local size = vm:check("blockdev --getsize64 " .. disk:node()).stdout
    t:assert_eq(tonumber(size), disk:size(), disk:id())
  end
end)

test("what the guest writes is what the test reads, and the other way round", function(t)
  disks.dd_write(vm, data, 10, disks.sectors("guest", 3))
  t:assert_eq(data:read_sectors(10, 3), disks.sectors("guest", 3))
  data:write_sectors(11, disks.sectors("test", 1))
  local mixed = disks.sectors("guest", 1) .. disks.sectors("test", 1) .. disks.sectors("guest", 3):sub(1025)
  t:assert_eq(disks.dd_read(vm, data, 10, 3), mixed)
  -- Through the page cache, which the guest has to write back and to drop.
  vm:check("dd if=/dev/zero of=/dev/vda bs=4k count=2 conv=notrunc,fsync status=none")
  t:assert_eq(data:read_sectors(0, 16), ("\0"):rep(8192))
  data:write_sectors(0, disks.sectors("test", 16))
  t:assert_eq(vm:check("blockdev --flushbufs /dev/vda && dd if=/dev/vda bs=8k count=1 status=none").stdout,
    disks.sectors("test", 16))
end)

test("sector calls are checked", function(t)
  local function refused(fn, why) t:assert_contains(t:assert_raises(fn), why) end
  refused(function() data:read_sectors(2048, 1) end, "disk `data` of vm `v`: read_sectors()")
  refused(function() data:read_sectors(-1, 1) end, "the first sector: must be at least 0, got -1")
  refused(function() data:read_sectors(0, 1 << 20) end, "at most 131072 sectors")
  refused(function() data:write_sectors(0, "short") end, "must be whole sectors of 512 bytes, got 5 bytes")
  refused(function() data:write_sectors(2047, ("x"):rep(1024)) end, "outside the disk, which has 2048 sectors")
  refused(function() vm:disk("fixed"):write_sectors(0, ("x"):rep(512)) end, "read-only")
  t:assert_eq(data:read_sectors(2047, 1), ("\0"):rep(512))
  t:assert_eq(data:read_sectors(0, 0), "")
end)

test("a template is copied on write, a path is written in place", function(t)
  local copy, mine = vm:disk("copy"), vm:disk("mine")
  disks.dd_write(vm, copy, 0, disks.sectors("new", 1))
  disks.dd_write(vm, mine, 0, disks.sectors("new", 1))
  vm:check("sync")
  t:assert_eq(copy:read_sectors(0, 2), disks.sectors("new", 1) .. disks.sectors("base", 2):sub(513))
  t:assert_eq(disks.content(base), disks.sectors("base", 256))
  t:assert_eq(vm:disk("fixed"):read_sectors(0, 256), disks.sectors("base", 256))
  local fd = disks.open(vm, mine)
  t:assert_eq(disks.fsync(vm, fd), 0)
  vm:syscall("close", fd)
  t:assert_eq(disks.content(in_place):sub(1, 512), disks.sectors("new", 1))
end)

test("a read-only disk is one for the guest, too", function(t)
  local fixed = vm:disk("fixed")
  t:assert_eq(vm:check("blockdev --getro /dev/vdd; blockdev --getro /dev/vda").stdout, "1\n0\n")
  t:assert_eq(disks.dd_read(vm, fixed, 3, 1), disks.sectors("base", 4):sub(-512))
  local r = vm:run("dd if=/dev/zero of=/dev/vdd bs=512 count=1 oflag=direct")
  t:assert_contains(r.stderr, "Operation not permitted")
end)

test("a folder of the host is mounted", function(t)
  t:assert_eq(vm:check("cat /src/sub/file").stdout, "hello\n")
  t:assert_match(vm:check("grep ' /src ' /proc/mounts").stdout, "^/dev/vde /src ext4 ro")
end)

test("save writes a raw image of what the guest would read", function(t)
  disks.dd_write(vm, data, 2000, disks.sectors("saved", 2))
  local path = folder.path("saved.img")
  data:save(path)
  local saved = disks.content(path)
  t:assert_eq(#saved, 1 << 20)
  t:assert_eq(saved:sub(2000 * 512 + 1, 2002 * 512), disks.sectors("saved", 2))
end)

test("stats count what the guest does, and not what the test does", function(t)
  local before = data:stats()
  data:read_sectors(0, 8)
  data:write_sectors(0, disks.sectors("test", 1))
  t:assert_same(data:stats(), before)
  local fd = disks.open(vm, data)
  disks.pwrite(vm, fd, 0, disks.sectors("one", 8))
  disks.pread(vm, fd, 0, 4)
  local written = data:stats()
  t:assert_eq(written.writes, before.writes + 1)
  t:assert_eq(written.written_bytes, before.written_bytes + 4096)
  t:assert_eq(written.reads, before.reads + 1)
  t:assert_eq(written.read_bytes, before.read_bytes + 2048)
  t:assert(written.unflushed > 0 and written.unflushed_bytes >= 4096)
  disks.fsync(vm, fd)
  vm:syscall("close", fd)
  local flushed = data:stats()
  t:assert_eq(flushed.flushes, written.flushes + 1)
  t:assert_eq(flushed.unflushed, 0)
end)

local function table_with_one_partition(sectors)
  local entry = string.pack("<BBBBBBBBI4I4", 0, 0, 0, 0, 0x83, 0, 0, 0, 8, sectors)
  return ("\0"):rep(446) .. entry .. ("\0"):rep(48) .. "\x55\xaa"
end

test("the kernel has searched an attached disk for partitions when attach_disk returns", function(t)
  -- So that the search takes a while.
  for _ = 1, 3 do vm:run_async("while :; do :; done") end
  for _ = 1, 4 do
    local disk = vm:attach_disk {id = "p", size = "64K", content = table_with_one_partition(100)}
    local reads = disk:stats().reads
    local name = vm:readlink("/dev/disk/by-id/virtio-p"):match("vd%a+")
    t:assert(vm:exists("/dev/" .. name .. "1"), name)
    t:assert_eq(disk:stats().reads, reads)
    disk:detach()
  end
end)

test("attach and detach while it runs", function(t)
  local hot = vm:attach_disk {id = "hot", size = "64K", content = disks.sectors("hot", 3) .. "end"}
  t:assert_eq(vm:check("readlink -f /dev/disk/by-id/virtio-hot").stdout, hot:node() .. "\n")
  t:assert_eq(disks.dd_read(vm, hot, 0, 4), disks.sectors("hot", 3) .. "end" .. ("\0"):rep(509))
  t:assert_contains(t:assert_raises(function() vm:attach_disk {id = "hot"} end), "it already has a disk `hot`")
  local node = hot:node()
  hot:detach()
  hot:detach()
  t:assert(hot:is_detached())
  t:assert_eq(tostring(hot), "disk `hot` of vm `v` (detached)")
  t:assert(not vm:exists(node))
  t:assert(not vm:exists("/dev/disk/by-id/virtio-hot"))
  t:assert_contains(t:assert_raises(function() hot:size() end), "disk `hot` of vm `v`: size()")
  t:assert_contains(t:assert_raises(function() vm:disk("hot") end), "no such disk")
end)

test("an attached disk without a size is thin", function(t)
  local thin = vm:attach_disk {}
  t:assert_match(thin:id(), "^disk%d$")
  t:assert_eq(thin:size(), 4 << 30)
  disks.dd_write(vm, thin, (4 << 21) - 1, disks.sectors("last", 1))
  t:assert_eq(thin:read_sectors((4 << 21) - 1, 1), disks.sectors("last", 1))
  thin:close()
end)

test("an attached image is copied on write; a read-only one may have content", function(t)
  local copy = vm:attach_disk {id = "copy2", image = base}
  disks.dd_write(vm, copy, 1, disks.sectors("x", 1))
  t:assert_eq(copy:read_sectors(0, 2), disks.sectors("base", 1) .. disks.sectors("x", 1))
  local note = vm:attach_disk {id = "note", size = 512, content = "read me", readonly = true}
  t:assert_eq(vm:check("head -c 7 " .. note:node()).stdout, "read me")
  t:assert_eq(vm:check("blockdev --getro " .. note:node()).stdout, "1\n")
  note:detach()
  copy:detach()
  t:assert_eq(disks.content(base), disks.sectors("base", 256))
end)

test("a paused VM keeps its disks", function(t)
  vm:pause()
  t:assert_contains(t:assert_raises(function() vm:attach_disk {} end), "it is paused")
  t:assert_contains(t:assert_raises(function() data:detach() end), "it is paused")
  data:write_sectors(5, disks.sectors("paused", 1))
  t:assert_eq(data:read_sectors(5, 1), disks.sectors("paused", 1))
  vm:resume()
  t:assert_eq(disks.dd_read(vm, data, 5, 1), disks.sectors("paused", 1))
end)

test("a pause makes nothing durable", function(t)
  local fd = disks.open(vm, data)
  disks.fsync(vm, fd)
  disks.pwrite(vm, fd, 0, disks.sectors("volatile", 8))
  local before = data:stats()
  vm:pause()
  vm:resume()
  t:assert_same(data:stats(), before)
  vm:syscall("close", fd)
end)

test("a VM that is off: disks are declared, attached and detached, and keep their content", function(t)
  local off = provium:vm("off", "default", {disks = {{scratch = "1M", id = "a"}, {scratch = "1M", id = "b"}}})
  t:assert_same({off:disks()[1]:id(), off:disks()[2]:id()}, {"a", "b"})
  local b = off:disk("b")
  t:assert_eq(b:node(), nil)
  b:write_sectors(0, disks.sectors("before", 2))
  off:attach_disk {id = "c", size = "1M", content = disks.sectors("attached", 1)}
  off:disk("a"):detach()
  off:boot()
  t:defer(function() off:close() end)
  local ids = {}
  for place, disk in ipairs(off:disks()) do ids[place] = disk:id() .. " " .. disk:node() end
  t:assert_same(ids, {"a /dev/vda", "b /dev/vdb", "c /dev/vdc"}, "a boot has the disks that its options name")
  t:assert_eq(disks.dd_read(off, b, 0, 2), disks.sectors("before", 2))
  t:assert_eq(disks.dd_read(off, off:disk("c"), 0, 1), disks.sectors("attached", 1))
  disks.dd_write(off, b, 1, disks.sectors("guest", 1))
  off:shutdown()
  off:boot()
  t:assert_eq(disks.dd_read(off, b, 0, 2), disks.sectors("before", 1) .. disks.sectors("guest", 1))
  off:disk("c"):detach()
  off:reset()
  t:assert_eq(#off:disks(), 2)
  t:assert_eq(disks.dd_read(off, b, 1, 1), disks.sectors("guest", 1))
end)

test("a template serves disks of other sizes and contents", function(t)
  local kinds = {}
  -- In a template all disks have 1M, in a warm VM 2M.
  for number, size in ipairs {"64K", "256K", "1M", "2M", "8M"} do
    local other = provium:vm("other" .. number, "default", {disks = {{scratch = size, id = "d" .. number}}})
    local disk = other:disk("d" .. number)
    disk:write_sectors(0, disks.sectors("content " .. number, 8))
    other:boot()
    kinds[number] = other:stats().boot_kind
    t:assert_eq(tonumber(other:check("blockdev --getsize64 /dev/vda").stdout), disk:size())
    -- Not past the page cache: the guest of the template may have read the disk.
    t:assert_eq(other:check("dd if=/dev/vda bs=4k count=1 status=none").stdout, disks.sectors("content " .. number, 8))
    t:assert_eq(other:check("readlink -f /dev/disk/by-id/virtio-d" .. number).stdout, "/dev/vda\n")
    other:close()
  end
  for number = 2, #kinds do t:assert_neq(kinds[number], "cold") end
end)

test("the kernel of a cold boot finds the disks with their content", function(t)
  local early = provium:vm("early", "default", {
    disks = {{scratch = "1M", id = "early"}},
    files = {{path = "/init", mode = 493, content = [[#!/bin/sh
mount -t devtmpfs dev /dev
while [ ! -b /dev/vda ]; do usleep 10000; done
head -c 5 /dev/vda > /seen
exec sleep 1000000
]]}},
  })
  early:disk("early"):write_sectors(0, disks.sectors("early", 1))
  early:boot {cold = true}
  t:assert_eq(early:wait_for{succeeds = "test -s /seen && cat /seen", timeout = "60s"}.stdout, "early")
  t:assert_eq(early:check("head -c 5 /dev/vda").stdout, "early")
  early:close()
end)

test("a guest of a template sees the disks of its VM, whatever their ids and partitions are", function(t)
  -- The guest of the template knew them by other ids, or by these in the other order.
  for number, ids in ipairs {{"p", "q"}, {"q", "p"}, {"q", "p"}, {"p", "r"}, {"p", "q"}} do
    local options = {{scratch = (63 + number) .. "K", id = ids[1]}, {scratch = (127 + number) .. "K", id = ids[2]}}
    local other = provium:vm("parted" .. number, "default", {disks = options})
    local first, second = other:disk(ids[1]), other:disk(ids[2])
    -- Only one of them has partitions, and not always the same one.
    local parted, plain, name = first, second, "vda"
    if number % 2 == 0 then parted, plain, name = second, first, "vdb" end
    parted:write_sectors(0, table_with_one_partition(100))
    parted:write_sectors(8, disks.sectors("inside", 1))
    plain:write_sectors(8, disks.sectors("plain", 1))
    other:boot()
    if number > 1 then t:assert_neq(other:stats().boot_kind, "cold") end
    t:assert_eq(first:node(), "/dev/vda")
    t:assert_eq(second:node(), "/dev/vdb")
    for _, disk in ipairs {first, second} do
      t:assert_eq(other:check("readlink -f /dev/disk/by-id/virtio-" .. disk:id()).stdout, disk:node() .. "\n")
      t:assert_eq(tonumber(other:check("blockdev --getsize64 " .. disk:node()).stdout), disk:size())
    end
    t:assert_eq(other:check("ls /sys/block/vda /sys/block/vdb | grep -c '^vd.1$'").stdout, "1\n")
    t:assert_eq(other:check(("cat /sys/block/%s/%s1/size"):format(name, name)).stdout, "100\n")
    local inside = ("head -c 512 /dev/disk/by-id/virtio-%s-part1"):format(parted:id())
    t:assert_eq(other:check(inside).stdout, disks.sectors("inside", 1))
    t:assert_eq(other:check("ls /dev/disk/by-id | grep -c .").stdout, "3\n")
    t:assert_eq(disks.dd_read(other, plain, 8, 1), disks.sectors("plain", 1))
    other:close()
  end
end)

test("a qcow2 image is a template as a raw one is", function(t)
  local qcow = folder.path("base.qcow2")
  if not os.execute(("qemu-img convert -q -O qcow2 %s %s"):format(base, qcow)) then t:skip("qemu-img is not installed") end
  local disk = vm:attach_disk {id = "qcow", template = qcow}
  t:assert_eq(disk:size(), 256 * 512)
  t:assert_eq(disks.dd_read(vm, disk, 0, 256), disks.sectors("base", 256))
  disk:detach()
end)

-- A VM whose disk is a copy of an image of the test, which is written to afterwards.
local function with_changed_template(t)
  local image = folder.put("changes.img", disks.sectors("old", 16))
  local other = provium:vm("changes", "default", {disks = {{template = image, id = "d"}}}):boot()
  local disk = other:disk("d")
  t:assert_eq(disk:read_sectors(0, 16), disks.sectors("old", 16))
  folder.put("changes.img", disks.sectors("new", 16))
  return other, disk, "changes.img` has changed since the disk was opened"
end

test("a template that is written to is noticed by calls and snapshots", function(t)
  local other, disk, changed = with_changed_template(t)
  for _, call in ipairs {
    function() disk:read_sectors(0, 1) end,
    function() disk:write_sectors(0, disks.sectors("x", 1)) end,
    function() other:snapshot() end,
  } do
    t:assert_contains(tostring(t:assert_raises(call)), changed)
  end
  other:close()
end)

test("a test during which a template is written to fails", {expect_fail = "its disk is a mixture"}, function(t)
  with_changed_template(t)
end)

test("the disks of the profile come before those of the VM", function(t)
  local other = provium:vm("with_disk", "with_disk", {disks = {{scratch = "2M", id = "own"}}}):boot()
  local ids = {}
  for place, disk in ipairs(other:disks()) do ids[place] = disk:id() .. " " .. disk:node() end
  t:assert_same(ids, {"profile /dev/vda", "own /dev/vdb"})
  t:assert_eq(other:check("blockdev --getsize64 /dev/vda").stdout, "1048576\n")
end)

test("the disks of a closed VM", function(t)
  local other = provium:vm("closed", "default", {disks = {{scratch = "64K", id = "d"}}})
  local disk = other:disk("d")
  other:close()
  t:assert(disk:is_detached())
  t:assert_eq(disk:is_on(), false)
  for _, call in ipairs {"size", "stats", "mark", "active_faults"} do
    t:assert_eq(t:assert_raises(function() disk[call](disk) end):match("disk `d`.*"),
      ("disk `d` of vm `closed`: %s(): the VM is closed"):format(call))
  end
  t:assert_contains(t:assert_raises(function() other:disks() end), "vm `closed`: disks(): the VM is closed")
  t:assert_contains(t:assert_raises(function() other:disk("d") end), "vm `closed`: disk(\"d\"): the VM is closed")
  disk:detach()
end)

test("a detached disk is gone for what the guest has mounted from it", function(t)
  local drive = vm:attach_disk {id = "drive", scratch = "1M"}
  vm:check(("mke2fs -q %s && mkdir -p /drive && mount -t ext2 %s /drive"):format(drive:node(), drive:node()))
  drive:detach()
  t:assert_contains(vm:run("sync; echo x > /drive/file && sync /drive/file").stderr, "Input/output error")
  vm:check("umount /drive")
end)

test("a mount that fails is reported, and leaves no disk", function(t)
  local before = #vm:disks()
  local why = t:assert_raises(function() vm:attach_disk {id = "blank", size = "1M", mount = "/blank"} end)
  t:assert_contains(why, "does not have a valid file system")
  t:assert_eq(#vm:disks(), before)
  t:assert_contains(t:assert_raises(function() vm:readlink("/dev/disk/by-id/virtio-blank") end), "ENOENT")
end)

test("ids and images that cannot be", function(t)
  local function refused(fn, why) t:assert_contains(t:assert_raises(fn), why) end
  local fifo = folder.path("fifo")
  os.execute("mkfifo " .. fifo)
  refused(function() vm:attach_disk {template = fifo} end, fifo .. "` cannot be a disk: it is not a regular file")
  refused(function() vm:attach_disk {path = fifo} end, fifo .. "` cannot be a disk: it is neither a regular file nor")
  refused(function() vm:attach_disk {path = "/dev/zero"} end, "`/dev/zero` cannot be a disk")
  refused(function() vm:attach_disk {size = "4194305T"} end, "at most 4194304T")
  refused(function() data:save(in_place) end, "`" .. in_place .. "` exists, and `save` does not overwrite files")
  local twice = provium:vm("twice", "default", {disks = {{scratch = 512, id = "x"}, {scratch = 512, id = "x"}}})
  refused(function() twice:boot() end, "two disks have the id `x`")
  local used = provium:vm("used", "default", {disks = {{path = in_place}}})
  refused(function() used:boot() end, "in use by another disk")
  local many = {}
  for place = 1, 20 do many[place] = {scratch = 512} end
  refused(function() provium:vm("many", "default", {disks = many}):boot() end, "a machine has slots for 19")
  table.remove(many)
  refused(function() provium:vm("full", "default", {disks = many}):attach_disk {} end, "a machine has slots for 19")
  refused(function() vm:attach_disk {path = base .. ".missing"} end, ".missing")
end)

-- A kernel that is given a wrong frequency of its counter has slow clocks, so the boot is repeated.
test("a boot that is repeated for the guest's clock takes back what was written to its disks", {timeout = "120s"}, function(t)
  local khz = vm:read_file("/proc/cmdline"):match("tsc_early_khz=(%d+)")
  if not khz then t:skip("the rate of the host's counter is not constant") end
  local slow = provium:vm("slow", "default", {
    disks = {{scratch = "1M", id = "data"}},
    kernel_cmdline_append = ("tsc_early_khz=%d"):format(khz * 2),
  })
  slow:boot{cold = true}
  -- The end of the first machine flushes its disks.
  t:assert_same(slow:disk("data"):writes(), {was_cut = false})
  slow:close()
end)
