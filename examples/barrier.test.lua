-- Tasks run concurrently inside one test; a barrier lets them continue together.
local vm = provium:vm("shared", "default"):boot()

test("no task passes the barrier before all have arrived", function(t)
  local arrived, passed = {}, {}
  local tasks = {}
  for i = 1, 3 do
    tasks[i] = co.spawn(function()
      local worker = vm:spawn_worker()
      worker:run("sleep 0." .. i) -- each takes a different time to get there
      arrived[i] = host.now_ns()
      provium:barrier("start line", 3, "30s")
      passed[i] = host.now_ns()
    end)
  end
  for _, task in ipairs(tasks) do task:join("60s") end

  t:assert_eq(#passed, 3)
  t:assert(math.min(table.unpack(passed)) >= math.max(table.unpack(arrived)))
end)

test("a missing task is reported by number", function(t)
  local err = t:assert_raises(function() provium:barrier("lonely", 2, "200ms") end)
  t:assert_contains(tostring(err), "lonely")
end)
