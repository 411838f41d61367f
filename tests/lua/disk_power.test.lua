-- Power cuts and crash states: what was flushed is there, what was not may be lost.
provium.timeout = "300s"

local disks = require "helpers.disks"
local machines = require "helpers.machines"

local vm = provium:vm("v", "disks", {
  disks = {{scratch = "64M", id = "data"}, {scratch = "1M", id = "raw"}, {scratch = "1M", id = "raw2"}},
})
local data, raw, raw2 = vm:disk("data"), vm:disk("raw"), vm:disk("raw2")
vm:boot()
-- Where the packages of the profile make its root large, the root is the first disk.
local DATA = "/dev/disk/by-id/virtio-data"
local RAW, RAW2 = "/dev/disk/by-id/virtio-raw", "/dev/disk/by-id/virtio-raw2"
local MOUNT, FORMAT = "mkdir -p /mnt && mount -t ext4 " .. DATA .. " /mnt", "mkfs.ext4 -q -F " .. DATA
vm:check(FORMAT)

-- Writes to a disk, past the page cache; without a flush unless `flushed`.
local function write(disk, sector, content, flushed)
  local fd = disks.open(vm, disk)
  assert(disks.pwrite(vm, fd, sector, content) == #content)
  if flushed then assert(disks.fsync(vm, fd) == 0) end
  vm:syscall("close", fd)
end

test("a cut loses what was not flushed, and the disk is off until the next boot", function(t)
  write(raw, 0, disks.sectors("durable", 8), true)
  write(raw, 8, disks.sectors("lost", 8))
  write(raw, 0, disks.sectors("lost", 1))
  t:assert_eq(raw:stats().unflushed, 2)
  local loss = raw:power_cut()
  t:assert_same(loss, {dropped = 2, kept = 0, torn = 0})
  t:assert_eq(raw:is_on(), false)
  t:assert_eq(raw:read_sectors(0, 16), disks.sectors("durable", 8) .. ("\0"):rep(4096))
  local fd = disks.open(vm, raw)
  local _, err = disks.pread(vm, fd, 0, 1)
  t:assert_eq(err, "EIO")
  t:assert_eq(select(2, disks.pwrite(vm, fd, 0, disks.sectors("w", 1))), "EIO")
  t:assert_eq(select(2, disks.fsync(vm, fd)), "EIO")
  vm:reset()
  t:assert_eq(raw:is_on(), true)
  t:assert_eq(disks.dd_read(vm, raw, 0, 8), disks.sectors("durable", 8))
end)

test("a cut may keep some of it", function(t)
  local saved = vm:snapshot()
  local function cut(options)
    raw:write_sectors(0, ("\0"):rep(64 * 512))
    for number = 0, 15 do write(raw, number * 4, disks.sectors("w" .. number, 4)) end
    local loss = raw:power_cut(options)
    local content = raw:read_sectors(0, 64)
    vm:restore(saved)
    return loss, content
  end
  local loss, content = cut {keep = "random", seed = 7}
  t:assert_eq(loss.dropped + loss.kept, 16)
  t:assert(loss.dropped > 0 and loss.kept > 0)
  local there = 0
  for number = 0, 15 do
    local one = content:sub(number * 2048 + 1, (number + 1) * 2048)
    local is_there = one == disks.sectors("w" .. number, 4)
    t:assert(is_there or one == ("\0"):rep(2048), "each write is there or lost as a whole")
    if is_there then there = there + 1 end
  end
  t:assert_eq(there, loss.kept)
  t:assert_eq(select(2, cut {keep = "random", seed = 7}), content, "the same seed, the same loss")
  local torn_loss, torn = cut {keep = "torn", seed = 1}
  t:assert_same(torn_loss, {dropped = 0, kept = 15, torn = 1})
  t:assert_eq(torn:sub(1, 15 * 2048), (function()
    local all = {}
    for number = 0, 14 do table.insert(all, disks.sectors("w" .. number, 4)) end
    return table.concat(all)
  end)())
  t:assert_neq(torn:sub(15 * 2048 + 1), disks.sectors("w15", 4))
end)

test("power cut and boot, three times: what was fsynced is there, and the file system recovers", function(t)
  for round = 1, 3 do
    vm:check(MOUNT)
    for before = 1, round - 1 do
      t:assert_eq(vm:read_file("/mnt/durable" .. before), "round " .. before, "from an earlier round")
    end
    vm:check(("printf 'round %d' > /mnt/durable%d && sync"):format(round, round))
    -- In flight when the power goes.
    vm:run_async("i=0; while :; do i=$((i + 1)); head -c 100000 /dev/urandom > /mnt/noise$i; done")
    wait_until(function() return vm:exists("/mnt/noise3") end, {timeout = 60})
    local loss = vm:power_cut {seed = round}
    t:assert(loss.data and loss.raw, "each disk is listed")
    t:assert_eq(vm:state(), "shutdown")
    vm:boot()
  end
  vm:check(MOUNT .. " && umount /mnt")
  vm:check("e2fsck -f -n " .. DATA)
end)

test("a guest that crashes loses nothing that was flushed", {kernel_log = "ignore"}, function(t)
  vm:check(MOUNT .. " && printf 'before the crash' > /mnt/flushed && sync /mnt/flushed")
  machines.end_by(vm, machines.PANIC)
  t:assert_eq(raw:is_on(), true, "no power was cut")
  vm:boot()
  vm:check(MOUNT)
  t:assert_eq(vm:read_file("/mnt/flushed"), "before the crash")
  vm:check("umount /mnt && e2fsck -f -n " .. DATA)
end)

-- What the log has of a disk since a mark, as a list of kinds.
local function kinds(disk, mark)
  local list = {}
  for _, entry in ipairs(disk:writes(mark)) do table.insert(list, entry.kind) end
  return list
end

for how, command in pairs {
  ["panics"] = machines.PANIC,
  ["switches itself off"] = machines.POWER_OFF,
} do
  test("a guest that " .. how .. " flushes nothing", {kernel_log = "ignore"}, function(t)
    local zeroes = ("\0"):rep(4096)
    for _, disk in ipairs {raw, raw2} do disk:write_sectors(0, zeroes .. zeroes) end
    local mark, mark2 = raw:mark(), raw2:mark()
    write(raw, 0, disks.sectors("flushed", 8), true)
    write(raw, 8, disks.sectors("lost", 8))
    write(raw2, 0, disks.sectors("lost", 8))
    machines.end_by(vm, command)
    -- Both disks have kept their power.
    t:assert_eq(raw:is_on(), true)
    t:assert_eq(raw:read_sectors(8, 8), disks.sectors("lost", 8))
    t:assert_same(kinds(raw, mark), {"write", "flush", "write"})
    t:assert_same(kinds(raw2, mark2), {"write"})
    t:assert_eq(raw:stats().unflushed, 1)
    t:assert_eq(raw2:stats().unflushed, 1)

    local loss = vm:power_cut()
    t:assert_same(loss.raw, {dropped = 1, kept = 0, torn = 0})
    t:assert_same(loss.raw2, {dropped = 1, kept = 0, torn = 0})
    t:assert_same(kinds(raw2, mark2), {"write", "power_cut"})
    t:assert_same(raw2:writes(mark2)[1].lost, true)
    t:assert_eq(vm:state(), "dead")
    vm:boot()
    t:assert_eq(disks.dd_read(vm, raw, 0, 16), disks.sectors("flushed", 8) .. zeroes)
    t:assert_eq(disks.dd_read(vm, raw2, 0, 8), zeroes)
  end)
end

-- A counter of two sectors on `raw`: the guest writes it, flushes it, and prints it; and writes it to `raw2` unflushed.
local COUNT = ([[
  i=0
  while :; do
    i=$((i + 1)); printf '%%-1024d' $i > /tmp/record
    dd if=/tmp/record of=%s bs=512 oflag=direct status=none
    # Between the kernel's shutdown of the devices and the power-off, the flush fails.
    dd if=/tmp/record of=%s bs=512 oflag=direct conv=fsync status=none && echo "flushed $i." > /dev/ttyS0
  done
]]):format(RAW2, RAW)

test("what a guest has seen flushed before it ended is durable", {kernel_log = "ignore"}, function(t)
  local function record(disk) return tonumber((disk:read_sectors(0, 1):match("^(%d+)"))) or 0 end
  local console = vm:console()
  for round, command in ipairs {machines.PANIC, machines.POWER_OFF, machines.PANIC} do
    for _, disk in ipairs {raw, raw2} do disk:write_sectors(0, ("\0"):rep(1024)) end
    local mark = console:mark()
    vm:write_file("/tmp/count.sh", COUNT)
    vm:run_async("sh /tmp/count.sh")
    wait_until(function() return console:since(mark):find("flushed " .. 2 * round, 1, true) end, {timeout = 60})
    machines.end_by(vm, command)
    local seen = 0
    for number in console:since(mark):gmatch("flushed (%d+)%.") do seen = math.max(seen, tonumber(number)) end
    local written = record(raw2)
    vm:power_cut()
    t:assert(record(raw) >= seen, ("%d is durable, %d was seen"):format(record(raw), seen))
    t:assert(record(raw) <= written, ("%d is durable, %d was written"):format(record(raw), written))
    t:assert_eq(record(raw2), 0, "nothing was flushed there")
    vm:boot()
  end
end)

test("a guest that has ended loses nothing without a power cut", {kernel_log = "ignore"}, function(t)
  write(raw, 0, disks.sectors("panic", 8))
  machines.end_by(vm, machines.PANIC)
  vm:boot()
  t:assert_eq(disks.dd_read(vm, raw, 0, 8), disks.sectors("panic", 8))
  t:assert_eq(raw:stats().unflushed, 1)
  write(raw, 8, disks.sectors("off", 8))
  vm:shutdown()
  t:assert_eq(raw:stats().unflushed, 2)
  vm:boot()
  t:assert_eq(disks.dd_read(vm, raw, 0, 16), disks.sectors("panic", 8) .. disks.sectors("off", 8))
end)

test("a cut of the VM cuts all disks at one instant", function(t)
  -- A record goes to `raw` and, when that is durable, to `raw2`: never is a record on `raw2` that `raw` lacks.
  raw:write_sectors(0, ("\0"):rep(512))
  raw2:write_sectors(0, ("\0"):rep(512))
  vm:write_file("/tmp/pairs.sh", ([[
    i=0
    while :; do
      i=$((i + 1)); printf '%%-512d' $i > /tmp/record
      dd if=/tmp/record of=%s bs=512 oflag=direct conv=fsync status=none
      dd if=/tmp/record of=%s bs=512 oflag=direct conv=fsync status=none
    done
  ]]):format(RAW, RAW2))
  vm:run_async("sh /tmp/pairs.sh")
  local function record(disk) return tonumber((disk:read_sectors(0, 1):match("^(%d+)"))) or 0 end
  wait_until(function() return record(raw2) >= 3 end, {timeout = 60})
  vm:power_cut {keep = "random"}
  local first, second = record(raw), record(raw2)
  t:assert(first == second or first == second + 1, first .. " and " .. second)
  vm:boot()
end)

-- The atomic rename: writes a new file, and renames it over the old one; `fsync` as an author may or may not do.
local function put_atomically(vm, text, fsync)
  local O_WRONLY_CREAT_TRUNC = 0x241
  local fd = vm:syscall("openat", {args = {-100, 0, O_WRONLY_CREAT_TRUNC, 420}, bufs = {"/mnt/new\0"}, ptrs = {1}}).ret
  assert(fd >= 0)
  assert(vm:syscall("write", {args = {fd, 0, #text}, bufs = {text}, ptrs = {1}}).ret == #text)
  if fsync then assert(vm:syscall("fsync", fd).ret == 0) end
  vm:syscall("close", fd)
  vm:check("mv /mnt/new /mnt/file")
  local dir = vm:syscall("openat", {args = {-100, 0, 0}, bufs = {"/mnt\0"}, ptrs = {1}}).ret
  assert(vm:syscall("fsync", dir).ret == 0)
  vm:syscall("close", dir)
end

local OLD, NEW = ("old "):rep(2000), ("new "):rep(3000)

-- Without `noauto_da_alloc`, ext4 writes the data before the rename all the same.
local LAZY = "mount -t ext4 -o noauto_da_alloc,data=writeback " .. DATA .. " /mnt"

local function record(fsync)
  vm:check(FORMAT .. " && mkdir -p /mnt && " .. LAZY)
  put_atomically(vm, OLD, true)
  vm:check("umount /mnt")
  vm:check(LAZY)
  local start = data:mark()
  put_atomically(vm, NEW, fsync)
  vm:check("umount /mnt")
  return start
end

local function survives(_, copy)
  copy:check(LAZY)
  local content = copy:read_file("/mnt/file")
  copy:check("umount /mnt")
  if content ~= OLD and content ~= NEW then error("the file is neither old nor new: " .. #content .. " bytes") end
end

test("an atomic rename with fsync survives every crash state", function(t)
  local start = record(true)
  local result = data:crash_states(survives, {since = start, most = 60, seed = 3})
  t:assert_same(result.failed, {})
  t:assert_eq(result.tested, result.states)
  t:assert(result.states > 5, result.states .. " states")
end)

test("one without fsync is caught, and the report names the state", function(t)
  local start = record(false)
  local why = t:assert_raises(function() data:crash_states(survives, {since = start, most = 200, seed = 3}) end)
  t:assert_match(why, "crash state %d+ of %d+: .*write.*: .*the file is neither old nor new: %d+ bytes")
  local result = data:crash_states(survives, {since = start, most = 60, seed = 3, keep_going = true, vms = 1})
  t:assert(#result.failed > 0)
  t:assert_eq(result.tested, result.states)
  t:assert_match(result.failed[1].error, "neither old nor new")
  t:assert_contains(why, ("crash state %d of "):format(result.failed[1].number))
end)

test("crash images can be read and saved", function(t)
  local start = record(true)
  local folder, numbers = disks.folder(), {}
  data:crash_states(function(image, copy)
    table.insert(numbers, image:number())
    t:assert_eq(image:size(), data:size())
    t:assert_match(tostring(image), "^crash state %d+: ")
    t:assert_eq(image:read_sectors(2, 1), disks.dd_read(copy, copy:disk("data"), 2, 1))
    if image:number() == 1 then
      local path = folder.path("state.img")
      image:save(path)
      local file = io.open(path, "rb")
      file:seek("set", 1024)
      t:assert_eq(file:read(512), image:read_sectors(2, 1))
      file:close()
    end
  end, {since = start, most = 3, vms = 1})
  t:assert_same(numbers, {1, 2, 3})
end)

test("an assertion in a state fails the call, and no other state is reported", function(t)
  local start = record(true)
  local why = t:assert_raises(function()
    data:crash_states(function(image) t:assert_eq(image:number(), 1) end, {since = start, most = 10})
  end)
  t:assert_contains(why, "crash state 2 of ")
end)

test("a copy is used again, unless it is to be fresh", function(t)
  local start = raw:mark()
  local fd = disks.open(vm, raw)
  for number = 1, 3 do disks.pwrite(vm, fd, number, disks.sectors("fresh " .. number, 1)) end
  vm:syscall("close", fd)
  local function leaves(_, copy)
    local left = copy:exists("/tmp/left")
    copy:write_file("/tmp/left", "")
    if left then error("another state was here") end
  end
  local options = {since = start, vms = 1, most = 3, keep_going = true}
  t:assert_eq(#raw:crash_states(leaves, options).failed, 2)
  options.fresh = true
  t:assert_same(raw:crash_states(leaves, options).failed, {})
end)

test("what crash_states refuses", function(t)
  local function refused(why, options, disk)
    local call = function() (disk or raw):crash_states(function() end, options) end
    t:assert_contains(t:assert_raises(call), why)
  end
  refused("disk `raw` of vm `v`: crash_states(): unknown option `sicne`; did you mean `since`?", {sicne = 1})
  refused("option `most`: must be at least 1", {most = 0})
  refused("option `keep_going`: must be true or false, got 1", {keep_going = 1})
  local mark = raw:mark()
  refused("is after the last recorded command, which is " .. mark, {since = mark + 1})
  t:assert_contains(t:assert_raises(function() raw:writes(mark + 1) end), "writes(): the mark")
  t:assert_contains(t:assert_raises(function() raw:crash_states(5) end), "the function: must be a function, got 5")
  local fixed = vm:attach_disk {id = "fixed", size = 512, readonly = true}
  refused("disk `fixed` of vm `v`: crash_states(): the disk is read-only", nil, fixed)
  fixed:detach()
  local tail = vm:tail_file("/proc/version")
  refused("vm `v`: crash_states(): 1 stream(s) are open")
  tail:close()
  vm:pause()
  refused("vm `v`: crash_states() needs state booted, but it is paused")
  vm:resume()
  local copies = {}
  local why = t:assert_raises(function()
    raw:crash_states(function(_, copy)
      copies[#copies + 1] = copy
      copy:close()
    end, {vms = 1})
  end)
  t:assert_contains(why, "the function has closed the copy of the VM")
  t:assert_eq(#copies, 1)
end)

test("a mark from before a restore", function(t)
  local early = raw:mark()
  local fd = disks.open(vm, raw)
  disks.pwrite(vm, fd, 0, disks.sectors("x", 1))
  vm:syscall("close", fd)
  vm:restore(vm:snapshot())
  t:assert_same(raw:writes(), {was_cut = false}, "a restored disk begins a record of its own")
  write(raw, 1, disks.sectors("y", 1))
  t:assert_eq(#raw:writes(), 1)
  local late = raw:mark()
  local call = function(mark) raw:crash_states(function() end, {since = mark, most = 1}) end
  t:assert_contains(t:assert_raises(function() call(early) end), "lacks writes after the mark")
  t:assert(raw:writes(early).was_cut)
  call(late)
  -- A mark of the state that was saved has its place in each copy of it; a later one in none, however much is written.
  local saved = vm:snapshot()
  local at_save = raw:mark()
  write(raw, 2, disks.sectors("1", 1))
  local after_save = raw:mark()
  vm:restore(saved)
  for sector = 3, 5 do write(raw, sector, disks.sectors("2", 1)) end
  local log = raw:writes(at_save)
  t:assert_eq(#log, 3)
  t:assert_eq(log.was_cut, false)
  t:assert(raw:writes(after_save).was_cut)
  t:assert_contains(t:assert_raises(function() call(after_save) end), "lacks writes after the mark")
  call(at_save)
end)

test("writes lists what was recorded", function(t)
  local start = raw:mark()
  local fd = disks.open(vm, raw)
  disks.pwrite(vm, fd, 4, disks.sectors("a", 2))
  disks.fsync(vm, fd)
  disks.pwrite(vm, fd, 8, disks.sectors("b", 1))
  vm:syscall("close", fd)
  local log = raw:writes(start)
  t:assert_eq(log.was_cut, false)
  local shown = {}
  for place, entry in ipairs(log) do
    shown[place] = ("%s %s %s"):format(entry.kind, entry.first or "-", entry.count or "-")
  end
  t:assert_same(shown, {"write 4 2", "flush - -", "write 8 1"})
  t:assert(#raw:writes() >= #log)
  t:assert_same(raw:writes(raw:mark()), {was_cut = false})
end)

-- The superblock of ext4 has two sectors. Torn, it has to be repaired, as a boot does.
local REPAIR = "e2fsck -y " .. DATA .. "; [ $? -lt 4 ] && "

test("SQLite survives every crash state of a transaction", function(t)
  vm:check(FORMAT .. " && " .. MOUNT)
  vm:check("sqlite3 /mnt/db 'create table t(x); insert into t values(1),(2); pragma synchronous=full;'")
  vm:check("umount /mnt && " .. MOUNT)
  local start = data:mark()
  vm:check("sqlite3 /mnt/db 'begin; update t set x = x + 10; insert into t values(99); commit;'")
  vm:check("umount /mnt")
  local result = data:crash_states(function(_, copy)
    copy:check(REPAIR .. MOUNT)
    local rows = copy:check("sqlite3 /mnt/db 'pragma integrity_check; select group_concat(x) from t'").stdout
    copy:check("umount /mnt")
    if rows ~= "ok\n1,2\n" and rows ~= "ok\n11,12,99\n" then error("neither before nor after: " .. rows) end
  end, {since = start, most = 40, seed = 5})
  t:assert_same(result.failed, {})
  t:assert(result.states > 5, result.states .. " states")
end)

test("SQLite without its syncs is caught", function(t)
  vm:check(FORMAT .. " && " .. MOUNT)
  vm:check("sqlite3 /mnt/db 'pragma page_size=512; create table t(x); create index i on t(x); with recursive n(i) as "
    .. "(select 1 union all select i + 1 from n where i < 2000) insert into t select hex(randomblob(50)) from n;'")
  vm:check("umount /mnt && " .. LAZY)
  local start = data:mark()
  vm:check("sqlite3 /mnt/db 'pragma synchronous=off; pragma journal_mode=off; update t set x = hex(randomblob(50));'")
  vm:check("umount /mnt")
  local why = t:assert_raises(function()
    data:crash_states(function(_, copy)
      copy:check(REPAIR .. MOUNT)
      local found = copy:run("sqlite3 /mnt/db 'pragma integrity_check'").stdout
      copy:check("umount /mnt")
      if found ~= "ok\n" then error("damaged: " .. found:sub(1, 100)) end
    end, {since = start, most = 200, seed = 5})
  end)
  t:assert_match(why, "crash state %d+ of %d+: .*damaged: ")
end)

-- A transaction of LMDB, which syncs it.
local function load(vm_, number)
  vm_:check(("printf 'key%d\\nvalue%d\\n' | mdb_load -T /mnt/lmdb"):format(number, number))
end

test("LMDB survives every crash state of three transactions", function(t)
  vm:check(FORMAT .. " && " .. MOUNT .. " && mkdir /mnt/lmdb")
  load(vm, 1)
  vm:check("umount /mnt && " .. MOUNT)
  local start = data:mark()
  for number = 2, 4 do load(vm, number) end
  vm:check("umount /mnt")
  local result = data:crash_states(function(_, copy)
    copy:check(REPAIR .. MOUNT)
    local dump = copy:check("mdb_dump -p /mnt/lmdb").stdout
    copy:check("umount /mnt")
    local keys = {}
    for key in dump:gmatch("\n (key%d)\n value%d") do table.insert(keys, key) end
    local expected = table.concat({"key1", "key2", "key3", "key4"}, " ", 1, math.max(1, #keys))
    if table.concat(keys, " ") ~= expected then error("not a prefix of the transactions: " .. dump) end
  end, {since = start, most = 40, seed = 5})
  t:assert_same(result.failed, {})
  t:assert(result.states > 5, result.states .. " states")
end)
