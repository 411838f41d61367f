-- Does a program survive a loss of power? It replaces a file, and whatever happens, a reader must find the old content
-- or the new one. Every state that a power cut could leave on the disk is tried, on copies of the VM. The profile
-- `storage` is defined in provium.toml, next to this file.
provium.timeout = "5m"

local vm = provium:vm("store", "storage", {disks = {{scratch = "16M", id = "data"}}}):boot()
local data = vm:disk("data")
vm:check("mkdir -p /data")

-- Without this option, ext4 writes the data before the rename: it knows programs that forget to.
local mount = "mount -t ext4 -o noauto_da_alloc " .. data:node() .. " /data"

-- The program. It makes the new name durable, and, with `sync`, the data before that.
local function replace(text, sync)
  local step = sync and "sync /data/new" or "true"
  vm:check(("printf %%s '%s' > /data/new && %s && mv /data/new /data/current && sync /data"):format(text, step))
end

-- Records what the program does to a disk with old content.
local function record(sync)
  vm:check("mkfs.ext4 -q -F " .. data:node() .. " && " .. mount)
  replace("old", true)
  vm:check("umount /data && " .. mount)
  local start = data:mark()
  replace("new", sync)
  vm:check("umount /data")
  return start
end

-- What must hold after any crash.
local function check(_, copy)
  copy:check(mount)
  local content = copy:read_file("/data/current")
  copy:check("umount /data")
  if content ~= "old" and content ~= "new" then error(("found %q"):format(content)) end
end

test("with sync, it survives every crash", function(t)
  local start = record(true)
  local result = data:crash_states(check, {since = start, most = 40})
  print(("%d states, %.1f a second"):format(result.tested, result.tested / result.seconds))
  t:assert_eq(result.tested, result.states)
end)

test("without sync, it does not", function(t)
  local start = record(false)
  print(t:assert_raises(function() data:crash_states(check, {since = start, most = 40}) end))
end)
