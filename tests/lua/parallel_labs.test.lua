-- provium.parallel with several VMs in sub-labs: a copy is one of the whole lab. No claim: the copies take
-- what the pool has, and where that is one copy's worth, the tests run one after the other.

provium.parallel = true

local labs = provium:lab("labs")
local on = labs:vm("on", "default"):boot()
local off = labs:vm("off", "default")
local paused = provium:vm("paused", "default"):boot()
paused:pause()
labs:include(paused)

local function as_the_top_level_left_it(t)
  t:assert_same(labs:vm_names(), { "on", "off", "paused" })
  t:assert_eq(labs.on, on)
  t:assert_eq(on:state(), "booted")
  t:assert_eq(off:state(), "created")
  t:assert_eq(off:console():read_log(), "")
  t:assert_eq(paused:state(), "paused")
  t:assert_raises(function() on:stat("/tmp/new") end)
end

test("the lab of the first test", function(t)
  as_the_top_level_left_it(t)
  on:write_file("/tmp/new", "x")
  paused:resume()
  t:assert_eq(paused:run("hostname").stdout, "paused\n")
  labs:shutdown()
  t:assert_eq(on:state(), "shutdown")
  labs:remove("off")
  t:assert_same(labs:vm_names(), { "on", "paused" })
end)

test("the lab of the second", function(t)
  as_the_top_level_left_it(t)
  labs:boot()
  t:assert_eq(off:run("hostname").stdout, "off\n")
  local own = labs:vm("own", "default")
  t:assert_eq(labs.own, own)
  on:write_file("/tmp/new", "x")
end)

test("the lab of the third", function(t)
  as_the_top_level_left_it(t)
  t:assert_eq(labs.own, nil)
  paused:resume()
  local saved = labs:snapshot()
  on:write_file("/tmp/new", "x")
  labs:restore(saved)
  t:assert_raises(function() on:stat("/tmp/new") end)
end)

test("a name of the file scope is not declared twice in a copy either", function(t)
  local err = t:assert_raises(function() provium:vm("paused", "default") end)
  t:assert_contains(tostring(err), "at file scope")
end)

for _, me in ipairs({ "one", "another" }) do
  test("a fixture is the test's own, for " .. me, function(t)
    local vm = provium:vm_fixture("fixtures/marked.fixture.lua")
    t:assert_eq(provium.marked, vm)
    t:assert_eq(vm:read_file("/tmp/mark"), "of the fixture")
    vm:write_file("/tmp/mark", me)
    t:assert_eq(vm:read_file("/tmp/mark"), me)
  end)
end
