-- provium.parallel where the claim has room for one copy: the tests run one after the other, and what a
-- test boots on top is refused as it is without copies.

provium.parallel = true
provium.reset_between_tests = true -- adds nothing
provium:claim{ memory = "400M", cpus = 1 }

local vm = provium:vm("v", "default"):boot()
vm:run("echo '<1>BUG: from the top level' > /dev/kmsg")
local inside, order = 0, {}

-- A task of the top level runs beside the tests, with the original, which is off.
local original
co.spawn(function()
  wait_until(function() return inside > 0 end, { timeout = "120s" })
  original = tostring(select(2, pcall(vm.run, vm, "true")))
end)

local function alone(t)
  inside = inside + 1
  t:defer(function() inside = inside - 1 end)
  order[#order + 1] = t.name
  vm:run("sleep 0.2"):assert_ok()
  t:assert_eq(inside, 1)
end

-- Otherwise the other tests would fail because of it.
test("what the kernel reported to the top level is the first test's", { kernel_log = { "from the top level" } },
  function(t)
    t:assert_eq(vm:console():count("from the top level"), 1)
    alone(t)
  end)

test("a second", alone)
test("one with a limit that is shorter than its turn is late", { timeout = "15s" }, alone)

test("one that boots more than the claim has", function(t)
  alone(t)
  local more = provium:vm("more", "default")
  t:assert_contains(tostring(t:assert_raises(function() more:boot() end)), "the file's claim has")
  vm:shutdown()
  more:boot()
  t:assert_eq(more:run("hostname").stdout, "more\n")
end)

test("the order is that of the declarations", function(t)
  t:assert_eq(vm:console():count("from the top level"), 1)
  t:assert_contains(original, "vm `v`: run(\"true\") needs state booted, but it is shutdown")
  t:assert_same(order, {
    "what the kernel reported to the top level is the first test's",
    "a second",
    "one with a limit that is shorter than its turn is late",
    "one that boots more than the claim has",
  })
end)
