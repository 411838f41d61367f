-- A program of your own that must not lose data: power cuts, every state that a crash could leave, a slow disk and a
-- failing one. The program is store.c, which the C compiler of the host makes; it is linked statically, since the
-- guest has other libraries. The profile `storage` is defined in provium.toml, next to this file.
provium.timeout = "5m"

-- The current folder is that of provium.toml.
local path = os.tmpname()
assert(os.execute("cc -O1 -static -o " .. path .. " store.c"))
local program = io.open(path, "rb"):read("a")
os.remove(path)

local vm = provium:vm("store", "storage", {disks = {{scratch = "16M", id = "data"}}})
local data = vm:disk("data")

-- A crash may tear the file system's own superblock. `e2fsck` repairs it, as the boot of a real machine does, from a
-- backup, which an ext4 of at most 8 MiB does not have.
local function mount(on)
  local repair = "e2fsck -y %s; [ $? -lt 4 ] && mount -t ext4 %s /data"
  on:check("grep -q ' /data ' /proc/mounts || { " .. repair:format(data:node(), data:node()) .. "; }")
end

-- The guest's root is in memory, so each boot begins with an empty one.
local function start()
  vm:boot()
  vm:write_file("/usr/bin/store", program, {perm = "0755"})
  vm:mkdir("/data")
end

start()
vm:check("mkfs.ext4 -q " .. data:node())
mount(vm)

local function put(key, value, env) return vm:check("store", {args = {"/data", "put", key, value}, env = env}) end
local function get(on, key) return on:run("store", {"/data", "get", key}).stdout end

test("a value that was put is there after a power cut", function(t)
  for round = 1, 3 do
    put("round", tostring(round))
    vm:power_cut{keep = "random", seed = round}
    start()
    mount(vm)
    t:assert_eq(get(vm, "round"), round .. "\n")
  end
end)

-- Puts a value, and calls `check(value, is_acknowledged)` for each state in which a crash could leave it.
local function crash(env, check)
  mount(vm)
  put("key", "old")
  vm:check("umount /data")
  mount(vm)
  local before = data:mark()
  put("key", "new", env)
  local after = data:mark()
  -- Whatever is still in the guest's memory is written now, and can be lost, too.
  vm:check("umount /data")
  for _, since in ipairs{before, after} do
    local result = data:crash_states(function(_, copy)
      mount(copy)
      check(get(copy, "key"), since == after)
      copy:check("umount /data")
    end, {since = since, most = 20})
    print(("%d states, %.1f a second"):format(result.tested, result.tested / result.seconds))
  end
end

test("a crash leaves the old value or the new one, and the new one once put has returned", function(t)
  crash(nil, function(value, is_acknowledged)
    if value ~= "new\n" then t:assert_eq(value, not is_acknowledged and "old\n" or "new\n") end
  end)
end)

test("without its sync, the program is caught", function(t)
  local why = t:assert_raises(function()
    crash({NO_SYNC = "1"}, function(value, is_acknowledged)
      if is_acknowledged then t:assert_eq(value, "new\n") end
    end)
  end)
  t:assert_match(why, "crash state %d+ of %d+: ")
  print(why)
end)

test("a put that the disk refuses fails, and the old value stays", function(t)
  mount(vm)
  put("key", "kept")
  data:fail_writes()
  local result = vm:run("store", {"/data", "put", "key", "lost"})
  t:assert_eq(result.exit_code, 2)
  t:assert_contains(result.stderr, "Input/output error")
  data:clear_faults()
  vm:check("umount /data")
  mount(vm)
  t:assert_eq(get(vm, "key"), "kept\n")
end)

test("a slow disk delays what has to be durable, and nothing else", function(t)
  mount(vm)
  get(vm, "key")
  data:delay(100)
  local reading, writing = vm:run("store", {"/data", "get", "key"}).duration, put("key", "slow").duration
  data:clear_faults()
  t:assert(writing >= 0.1 and reading < writing, ("%.3f s and %.3f s"):format(reading, writing))
end)
