-- Random calls from many tasks at once, with everything checked: what each call gave, that none took
-- longer than its limit, and that nothing was left behind, on the guest or on the host.
--
-- `make torture SEED=… TIME=…`. A seed repeats what each task draws; how the tasks interleave is
-- up to the guest.
local Random = require "random"
local calls = require "calls"

local SEED = tonumber(os.getenv("PROVIUM_TORTURE_SEED") or "1")
local SECONDS = tonumber(os.getenv("PROVIUM_TORTURE_SECONDS") or "60")
local CALLS = tonumber(os.getenv("PROVIUM_TORTURE_CALLS") or "12000") -- a round
local TASKS = 10
-- No call waits for more than a few seconds by itself; the rest is a busy host and an emulated guest.
local LIMIT = 60

-- In a fixed order, so that a seed means the same calls wherever it runs.
local kinds = {}
for kind in pairs(calls) do kinds[#kinds + 1] = kind end
table.sort(kinds)

local vm = provium:vm("v", "default", {memory = "512M", cpus = 2}):boot()

-- Processes of the guest that are not the kernel's, and those of them that are zombies.
local function processes()
  local out = vm:run([[for p in /proc/[0-9]*; do
    read -r stat < $p/stat 2>/dev/null || continue
    set -- ${stat##*) }
    [ "$2" = 2 ] || [ ${p##*/} = 2 ] || [ ${p##*/} = $$ ] || echo "$1 ${p##*/} ${stat%%)*}) $(tr '\0' ' ' < $p/cmdline)"
  done]]):assert_ok().stdout
  local count, zombies = 0, {}
  for line in out:gmatch("[^\n]+") do
    count = count + 1
    if line:sub(1, 1) == "Z" then zombies[#zombies + 1] = line end
  end
  return count, zombies, out
end

-- What the harness itself holds: memory in MiB, and descriptors.
local function host_use()
  local pipe = io.popen("grep VmRSS /proc/$PPID/status; ls /proc/$PPID/fd | wc -l")
  local text = pipe:read("a")
  pipe:close()
  return tonumber(text:match("VmRSS:%s*(%d+)")) / 1024, tonumber(text:match("(%d+)%s*$"))
end

-- What the agent holds: memory in MiB, and descriptors.
local function agent_use()
  local status = vm:read_file("/proc/1/status")
  return tonumber(status:match("VmRSS:%s*(%d+)")) / 1024, #vm:listdir("/proc/1/fd")
end

-- Waits until the guest has as many processes as before the round.
local function settles(t, before)
  local count, zombies, list
  local ok = pcall(wait_until, function()
    count, zombies, list = processes()
    return count <= before and #zombies == 0
  end, {timeout = 30, interval = 0.5})
  t:assert(ok, ("%d processes are left of %d, %d zombies:\n%s"):format(count, before, #zombies, list))
end

-- One task: its calls, one after the other.
local function task(t, round, number, failures)
  local context = {t = t, vm = vm, random = Random.new(SEED, round * TASKS + number)}
  context.dir = ("/tmp/t%d"):format(number)
  vm:mkdir(context.dir, {parents = true})
  local names = 0
  function context.name()
    names = names + 1
    return ("%s/%d"):format(context.dir, names)
  end
  for i = 1, CALLS // TASKS do
    local kind = context.random:pick(kinds)
    local began = host.now_ns()
    local ok, why = pcall(calls[kind], context)
    local took = (host.now_ns() - began) / 1e9
    if ok and took > LIMIT then ok, why = false, ("took %.1f s"):format(took) end
    if not ok then
      failures[#failures + 1] = ("round %d, task %d, call %d, %s: %s"):format(round, number, i, kind, tostring(why))
      if #failures > 20 then return end
    end
  end
  vm:run({"rm", "-rf", context.dir}):assert_ok()
end

-- A snapshot while nothing runs, changes, and the way back.
local function snapshot(t, random)
  local before, after = random:bytes(5000), random:bytes(5000)
  vm:write_file("/tmp/kept", before)
  local p = vm:run_async("while read line; do echo got $line; done")
  local w = vm:spawn_worker()
  local f = vm:open_file("/tmp/kept", {read = true})
  f:seek(100, "set")
  local s = vm:snapshot()
  vm:write_file("/tmp/kept", after)
  w:close()
  p:close()
  f:close()
  vm:restore(s)
  t:assert_eq(vm:read_file("/tmp/kept"), before)
  t:assert_eq(f:read(10), before:sub(101, 110))
  t:assert_eq(w:run("echo on").stdout, "on\n")
  p:stdin_write("x\n")
  p:close_stdin()
  t:assert_eq(p:wait("60s").stdout, "got x\n")
  w:close()
  f:close()
  s:delete()
  vm:unlink("/tmp/kept")
end

test("torture", {timeout = ("%ds"):format(SECONDS + 1800)}, function(t)
  local stop = host.now_ns() + SECONDS * 1e9
  local round, total, failures = 0, 0, {}
  local before = processes()
  local first
  repeat
    round = round + 1
    local began = host.now_ns()
    local tasks = {}
    for number = 1, TASKS do tasks[number] = co.spawn(task, t, round, number, failures) end
    for _, running in ipairs(tasks) do running:join() end
    t:assert(#failures == 0, table.concat(failures, "\n"))
    total = total + CALLS
    settles(t, before)
    t:assert_eq(vm:open_file_count(), 0)
    t:assert_eq(vm:open_stream_count(), 0)
    snapshot(t, Random.new(SEED, -round))
    settles(t, before)
    local use = {}
    use.memory, use.descriptors = host_use()
    use.agent_memory, use.agent_descriptors = agent_use()
    local line = ("round %d: %d calls in %.0f s; harness %.1f MiB, %d descriptors; agent %.2f MiB, %d descriptors"):format(
      round, CALLS, (host.now_ns() - began) / 1e9, use.memory, use.descriptors, use.agent_memory, use.agent_descriptors)
    t:log(line)
    -- The first round fills pools and caches; from then on nothing grows.
    first = first or use
    t:assert(use.memory < first.memory * 1.5 + 32, "the harness grows: " .. line)
    t:assert(use.descriptors <= first.descriptors + 8, "the harness keeps descriptors: " .. line)
    t:assert(use.agent_memory < first.agent_memory * 1.5 + 1, "the agent grows: " .. line)
    t:assert(use.agent_descriptors <= first.agent_descriptors + 2, "the agent keeps descriptors: " .. line)
  until host.now_ns() > stop
  t:log(("seed %d: %d calls in %d rounds"):format(SEED, total, round))
end)
