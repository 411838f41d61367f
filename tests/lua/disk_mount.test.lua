-- Disks that are mounted at the boot or when they are attached: with the file system that is on them.
provium.timeout = "240s"

local disks = require "helpers.disks"

local folder = disks.folder()

-- The start of an empty FAT16 file system of 16 MiB, in clusters of 2 KiB.
local function fat16()
  local boot = string.pack("<c3c8I2BI2BI2I2BI2I2I2I4I4BBBI4c11c8", "\xeb\x3c\x90", "provium ", 512, 4, 1, 2, 512, 32768, 0xf8,
    32, 32, 2, 0, 0, 0x80, 0, 0x29, 1, "NO NAME    ", "FAT16   ")
  local table_start = "\xf8\xff\xff\xff"
  local sector = boot .. ("\0"):rep(510 - #boot) .. "\x55\xaa"
  return sector .. (table_start .. ("\0"):rep(32 * 512 - #table_start)):rep(2)
end

local SYSTEMS = {
  {name = "ext4", size = "16M", make = "mkfs.ext4 -q -F"},
  {name = "xfs", size = "320M", make = "mkfs.xfs -q -f"},
  {name = "btrfs", size = "128M", make = "mkfs.btrfs -q -f"},
  {name = "vfat", size = "16M", content = fat16()},
}

-- An image of each, with a file on it, made by a guest.
local maker = provium:vm("maker", "disks"):boot()
local mounted = {}
for _, fs in ipairs(SYSTEMS) do
  local disk = maker:attach_disk {id = fs.name, size = fs.size, content = fs.content}
  if fs.make then maker:check(fs.make .. " " .. disk:node()) end
  local fill = "mount -t %s %s /mnt && echo %s > /mnt/name && umount /mnt"
  maker:check(fill:format(fs.name, disk:node(), fs.name))
  fs.image = folder.path(fs.name .. ".img")
  disk:save(fs.image)
  disk:detach()
  table.insert(mounted, {template = fs.image, id = fs.name, mount = "/data/" .. fs.name})
end
maker:close()

local function check(t, vm, fs, path)
  t:assert_match(vm:check("grep ' " .. path .. " ' /proc/mounts").stdout, path .. " " .. fs.name .. " rw")
  t:assert_eq(vm:read_file(path .. "/name"), fs.name .. "\n")
end

local vm = provium:vm("v", "default", {disks = mounted}):boot()

test("a boot mounts what is on the disks", function(t)
  for _, fs in ipairs(SYSTEMS) do check(t, vm, fs, "/data/" .. fs.name) end
end)

test("a reset and a boot mount them again", function(t)
  for _, fs in ipairs(SYSTEMS) do vm:write_file("/data/" .. fs.name .. "/more", fs.name) end
  vm:check("sync")
  vm:reset()
  for _, fs in ipairs(SYSTEMS) do check(t, vm, fs, "/data/" .. fs.name) end
  vm:shutdown()
  vm:boot()
  for _, fs in ipairs(SYSTEMS) do
    t:assert_eq(vm:read_file("/data/" .. fs.name .. "/more"), fs.name)
  end
end)

test("an attached disk is mounted with what is on it", function(t)
  for _, fs in ipairs(SYSTEMS) do
    -- Two of one UUID would not be mounted at the same time.
    vm:check("umount /data/" .. fs.name)
    vm:disk(fs.name):detach()
    local disk = vm:attach_disk {id = "hot", image = fs.image, mount = "/hot"}
    check(t, vm, fs, "/hot")
    vm:check("umount /hot")
    disk:detach()
  end
end)

test("crash states are not mounted, whether or not they could be", function(t)
  local disk = vm:attach_disk {id = "states", image = SYSTEMS[1].image, mount = "/states"}
  vm:check("umount /states")
  local start = disk:mark()
  vm:check(("dd if=/dev/zero of=%s bs=4096 count=2 oflag=direct status=none"):format(disk:node()))
  local function mounts(copy) return copy:run("grep ' /states ' /proc/mounts").stdout end
  local result = disk:crash_states(function(image, copy)
    t:assert_eq(mounts(copy), "")
    if image:number() == 1 then
      -- All is as it was at the mark, so the next boot can mount it.
      copy:reset()
      t:assert_contains(mounts(copy), " /states ext4 ")
    end
  end, {since = start, vms = 1})
  t:assert(result.states > 1, result.states)
  disk:detach()
end)

test("a disk without a file system cannot be mounted, and the error says what to do", function(t)
  local why = t:assert_raises(function() vm:attach_disk {id = "blank", size = "1M", mount = "/blank"} end)
  t:assert_contains(why, "mounting")
  t:assert_contains(why, "at /blank as ext4: EINVAL (Invalid argument); the disk does not have a valid file system of that type")
  t:assert_contains(why, "make one on it")
end)

test("a file system that is on no disk is refused", function(t)
  local why = t:assert_raises(function()
    vm:attach_disk {id = "memory", size = "1M", mount = "/memory", filesystem = "tmpfs"}
  end)
  t:assert_contains(why, "tmpfs is not a file system of disks")
end)

test("a file system that the guest's kernel does not have is named", function(t)
  local superblock = ("\0"):rep(1024) .. "\x10\x20\xf5\xf2"
  local why = t:assert_raises(function()
    vm:attach_disk {id = "other", size = "1M", content = superblock, mount = "/other"}
  end)
  t:assert_contains(why, "at /other as f2fs: ENODEV (No such device); the kernel does not have that file system")
end)
