-- Tasks: many things at once in one file.
local vm = provium:vm("v", "default"):boot()

local seconds = require("helpers.timing").seconds

test("commands overlap", function(t)
  -- Each ends when all have begun.
  local command = "touch /tmp/begun%d; until test $(ls /tmp/begun? | wc -l) = 4; do sleep 0.1; done; echo %d"
  local tasks = {}
  for i = 1, 4 do tasks[i] = co.spawn(function() return vm:run(command:format(i, i)).stdout end) end
  for i, task in ipairs(tasks) do t:assert_eq(task:join("100s"), i .. "\n") end
end)

test("plain coroutines may call the guest", function(t)
  local gen = coroutine.wrap(function()
    for i = 1, 3 do coroutine.yield(vm:run("echo " .. i).stdout) end
  end)
  t:assert_eq(gen(), "1\n")
  t:assert_eq(gen(), "2\n")
  local thread = coroutine.create(function(x) return vm:run("echo " .. x).stdout end)
  t:assert_same({coroutine.resume(thread, "in")}, {true, "in\n"})
  t:assert_eq(coroutine.status(thread), "dead")
end)

test("parallel gives results in order, and the first error after cancelling the rest", function(t)
  local a, b = parallel{
    function() return vm:run("sleep 0.3; echo a").stdout end,
    function() return vm:run("echo b").stdout end,
  }
  t:assert_eq(a, "a\n")
  t:assert_eq(b, "b\n")
  local took = seconds(function()
    t:assert_contains(tostring(t:assert_raises(function()
      parallel{function() error("first") end, function() vm:run("sleep 100") end}
    end)), "first")
  end)
  t:assert(took < 90)
end)

test("a cancelled task's command is gone", function(t)
  local task = co.spawn(function() vm:run("exec sleep 4242") end)
  wait_until(function() return vm:run("ps | grep '[s]leep 4242'").stdout ~= "" end, {timeout = 60})
  task:cancel()
  wait_until(function() return vm:run("ps | grep '[s]leep 4242'").stdout == "" end, {timeout = 60})
end)

local kept = vm:spawn_worker()
local late = {timeout = "1s", expect_fail = "it runs out of time"}
for _, case in ipairs{
  {"a command", function() vm:run("exec sleep 4251") end},
  {"a syscall", function() vm:syscall("pause") end},
  {"a worker's syscall", function() kept:syscall("pause") end},
  {"a stream", function() vm:tail_file("/proc/version"):read_until("never", 300) end},
  {"a process", function() vm:run_async("exec sleep 4252"):wait() end},
  {"a boot", function() provium:vm("other", "default", {kernel_cmdline = "boot_delay=1000 loglevel=7"}):boot() end},
  {"a loop", function() while true do vm:stat("/") end end},
} do
  test("out of time in " .. case[1], late, case[2])
end

test("…and the file's VM and worker are as usable as before", function(t)
  t:assert_eq(vm:run("ps | grep -c '[s]leep 425[12]'").stdout, "0\n")
  t:assert_eq(vm:syscall("getuid").ret, 0)
  t:assert_eq(kept:syscall("getuid").ret, 0)
  t:assert_eq(vm:open_stream_count(), 0)
  t:assert_eq(provium.other, nil)
end)

test("a blocked syscall in one worker does not delay others", function(t)
  local w = vm:spawn_worker()
  local blocked = co.spawn(function() pcall(w.syscall, w, "pause") end)
  local took = seconds(function()
    for _ = 1, 10 do vm:run("true"); vm:syscall("getpid") end
  end)
  t:assert(took < 100, ("took %.2f s"):format(took))
  t:assert_eq(blocked:status(), "running")
  blocked:cancel()
end)

test("a thousand mixed calls from sixteen tasks, some cancelled, leave the channel in step", {timeout = "300s"}, function(t)
  local random = 12345
  local function next_random(n)
    random = (random * 1103515245 + 12345) % 2147483648
    return random % n
  end
  local done, cancelled = 0, 0
  local tasks = {}
  for i = 1, 16 do
    tasks[i] = co.spawn(function()
      for k = 1, 63 do
        local kind = next_random(5)
        if kind == 0 then
          t:assert_eq(vm:syscall("getuid").ret, 0)
        elseif kind == 1 then
          local name = "/tmp/f" .. i
          vm:write_file(name, name .. k)
          t:assert_eq(vm:read_file(name), name .. k)
        elseif kind == 2 then
          t:assert_eq(vm:stat("/proc").entry_type, "directory")
        elseif kind == 3 then
          local slow = co.spawn(function() vm:syscall_async("pause"):await() end)
          host.sleep(next_random(10) / 1000)
          slow:cancel()
          cancelled = cancelled + 1
        else
          local text = ("%d:%d"):format(i, k)
          if k % 8 == 0 then
            t:assert_eq(vm:run("echo " .. text).stdout, text .. "\n")
          else
            local out = vm:batch(function(b) b:stat("/tmp"); b:syscall("getpid") end)
            t:assert_eq(#out, 2)
          end
        end
        done = done + 1
      end
    end)
  end
  for _, task in ipairs(tasks) do task:join("280s") end
  t:assert_eq(done, 16 * 63)
  t:assert(cancelled > 100)
  t:assert_eq(vm:run("echo in step").stdout, "in step\n")
end)
