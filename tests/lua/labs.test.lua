-- Labs, names and scopes. Almost nothing here needs a guest.
local shared = provium:vm("shared", "default"):boot()

test("look-up and creation", function(t)
  local vm = provium:vm("mine", "default")
  t:assert_eq(provium:vm("mine"), vm, "the same resource is the same value")
  t:assert_eq(provium.mine, vm)
  t:assert_eq(provium:vm("shared"), shared)
  t:assert_eq(provium.shared, shared)
  t:assert_eq(provium.nothing, nil)
  t:assert_raises(function() provium:vm("nothing") end)
  t:assert_eq(provium:name(), "provium")
end)

test("what a test makes is gone in the next", function(t)
  t:assert_eq(provium.mine, nil)
  provium:vm("mine", "default")
end)

test("a name of the file's scope cannot be taken, and the error says how to use it", function(t)
  local err = tostring(t:assert_raises(function() provium:vm("shared", "default") end))
  t:assert_contains(err, 'provium:vm("shared")')
end)

test("reserved and double names raise", function(t)
  for _, name in ipairs{"pack", "unpack", "vm_fixture", "lab_fixture", ""} do
    t:assert_raises(function() provium:vm(name, "default") end)
  end
  provium:vm("twice", "default")
  t:assert_raises(function() provium:vm("twice", "default") end)
  t:assert_eq(provium:unpack("<i4", provium:pack("<i4", 7)), 7)
end)

test("sub-labs have names of their own", function(t)
  local lab = provium:lab("cluster")
  t:assert_eq(provium:lab("cluster"), lab)
  t:assert_eq(provium.cluster, lab)
  local a = lab:vm("a", "default")
  t:assert_eq(lab.a, a)
  t:assert_eq(provium.a, nil)
  t:assert_raises(function() lab:vm("shared") end, "no parent chain")
  t:assert_eq(lab:name(), "cluster")
  t:assert_contains(provium:lab():name(), "__lab_")
end)

test("membership: include, remove, members", function(t)
  local lab = provium:lab("group")
  local a, b = provium:vm("a", "default"), provium:vm("b", "default")
  lab:include{a, b}
  t:assert_same(lab:vm_names(), {"a", "b"})
  t:assert_same(lab:members(), {{kind = "vm", name = "a"}, {kind = "vm", name = "b"}})
  t:assert_raises(function() lab:include(a) end)
  lab:remove("a")
  lab:remove(b)
  t:assert_same(lab:vm_names(), {})
  t:assert_raises(function() lab:remove("a") end)
  t:assert_eq(a:state(), "created")
  t:assert_same(provium:sub_lab_names(), {"group"})
end)

test("include takes all of a list or nothing", function(t)
  local lab = provium:lab("group")
  local a, b = provium:vm("a", "default"), provium:vm("b", "default")
  lab:include(b)
  t:assert_raises(function() lab:include{a, b} end)
  t:assert_raises(function() lab:include{a, a} end)
  t:assert_raises(function() lab:include{a, 7} end)
  t:assert_same(lab:vm_names(), {"b"})
end)

test("a lab cannot contain itself, and one that is there on many ways counts once", function(t)
  local a, b, c = provium:lab("a"), provium:lab("b"), provium:lab("c")
  a:include(b)
  b:include(c)
  for _, inner in ipairs{a, b} do
    local err = tostring(t:assert_raises(function() c:include(inner) end))
    t:assert_contains(err, "contains lab `c` already")
  end
  t:assert_raises(function() a:include(a) end)
  -- Twenty labs, each a member of the next by two ways: a million ways to the innermost.
  local last = provium:lab("last")
  last:vm("v", "default")
  for i = 1, 20 do
    local one, two, outer = provium:lab("one" .. i), provium:lab("two" .. i), provium:lab("outer" .. i)
    one:include(last)
    two:include(last)
    outer:include{one, two}
    last = outer
  end
end)

test("a lab boots, pauses, resumes and stops its VMs together", function(t)
  local lab = provium:lab("pair")
  lab:vm("one", "default")
  lab:vm("two", "default")
  t:assert_eq(lab:boot(), lab)
  t:assert_eq(lab.one:run("hostname").stdout, "one\n")
  t:assert_eq(lab.two:run("hostname").stdout, "two\n")
  lab:pause()
  t:assert_eq(lab.two:state(), "paused")
  lab:resume()
  t:assert_eq(lab.one:state(), "booted")
  lab:shutdown()
  t:assert_eq(lab.one:state(), "shutdown")
  lab:boot()
  pcall(lab.one.run, lab.one, "poweroff -f")
  wait_until(function() return lab.one:state() == "dead" end, {timeout = "60s"})
  -- A dead VM is not skipped; its own boot() starts it again.
  local err = tostring(t:assert_raises(function() lab:boot() end))
  t:assert_contains(err, "vm `one`")
  t:assert_contains(err, "dead")
  lab.one:boot()
  t:assert_eq(lab:boot().one:run("hostname").stdout, "one\n")
end)

test("a barrier opens when enough tasks are in it, and is new again", function(t)
  local passed = 0
  for _ = 1, 2 do
    local tasks = {}
    for i = 1, 3 do
      tasks[i] = co.spawn(function()
        provium:barrier("gate", 3, "100s")
        passed = passed + 1
      end)
    end
    for _, task in ipairs(tasks) do task:join("120s") end
  end
  t:assert_eq(passed, 6)
  local err = tostring(t:assert_raises(function() provium:barrier("gate", 3, "100ms") end))
  t:assert_contains(err, "1 of 3")
end)

test("a claim bounds what the file boots", function(t)
  local held = tostring(t:assert_raises(function() provium:claim{memory = "300M", cpus = 2} end))
  t:assert_contains(held, "claims 300 MiB, but the file's VMs hold 356 MiB already; claim more memory, or claim first")
  provium:claim{memory = "1G", cpus = 2}
  t:assert_contains(tostring(t:assert_raises(function()
    provium:claim{memory = "1G", cpus = 2}
  end)), "claim already taken")
  local err = tostring(t:assert_raises(function()
    provium:vm("big", "default", {memory = "800M"}):boot()
  end))
  t:assert_contains(err, "needs 900 MiB, but the file's claim has 668 MiB left; claim more memory",
    "what ran before the claim counts")
  local cpus = tostring(t:assert_raises(function()
    provium:vm("wide", "default", {memory = "64M", cpus = 2}):boot()
  end))
  t:assert_contains(cpus, "needs 2 vCPUs, but the file's claim has 1 vCPU left; claim more vCPUs")
  local fits = provium:vm("fits", "default", {memory = "128M"}):boot()
  t:assert_raises(function() provium:vm("past", "default", {memory = "32M"}):boot() end)
  fits:shutdown()
  provium:vm("again", "default", {memory = "128M"}):boot()
end)

test("more than the pool can ever give raises at once", function(t)
  local err = tostring(t:assert_raises(function()
    provium:vm("huge", "default", {memory = "100T"}):boot()
  end))
  t:assert_contains(err, "MiB")
end)
