-- Handles of a guest that was reset, switched off, booted again or restored.
local vm = provium:vm("v", "default"):boot()
local saved = vm:snapshot()

local function counts() return ("%d files, %d streams"):format(vm:open_file_count(), vm:open_stream_count()) end

local function use()
  local process = vm:run_async("echo out; exec sleep 1000")
  local out = process:stdout_stream()
  out:expect("out", "60s")
  out:close()
  return process, vm:open_file("/proc/version", {read = true}), vm:tail_file("/proc/version")
end

local function ended(t, process, file, how)
  for call, subject in pairs{status = "process ", wait = "process ", kill = "process "} do
    local err = tostring(t:assert_raises(function() process[call](process) end, call))
    t:assert_contains(err, subject .. process:pid(), call)
    t:assert_contains(err, how, call)
  end
  local err = tostring(t:assert_raises(function() file:read(1) end))
  t:assert_contains(err, "file \"/proc/version\" of vm `v`: read()")
  t:assert_contains(err, how)
end

test("what a reset, a shutdown, a boot or a restore took along is not open, and says why", {timeout = "200s"}, function(t)
  for _, case in ipairs{
    {function() vm:reset() end, "the VM was reset"},
    {function() vm:restore(saved) end, "the VM was restored to a state without it"},
    {function() vm:shutdown() end, "but it is shutdown"},
  } do
    local change, how = case[1], case[2]
    local process, file = use()
    t:assert_eq(counts(), "1 files, 1 streams")
    change()
    t:assert_eq(counts(), "0 files, 0 streams", how)
    ended(t, process, file, how)
    local out = process:stdout_stream()
    t:assert_eq(out:next("60s"), "out\n", "what it had printed is there")
    t:assert_eq(counts(), "0 files, 0 streams", how)
    if vm:state() == "booted" then vm:snapshot():delete() end
    if vm:state() == "shutdown" then
      vm:boot()
      ended(t, process, file, "the VM was booted again")
    end
    file:close()
    t:assert_eq(counts(), "0 files, 0 streams", "closed later")
  end
end)

test("how a process ended is known when its guest is gone", function(t)
  local process = vm:run_async("exit 3")
  t:assert_eq(process:wait(60).exit_code, 3)
  vm:reset()
  t:assert_eq(process:status(), "exited")
end)
