-- Snapshots of labs: all VMs at one instant, sub-labs with them.

local function lab_of_two(name)
  local lab = provium:lab(name)
  lab:vm("a", "default")
  lab:vm("b", "default", { memory = "192M" })
  lab:lab("inner"):vm("c", "default")
  lab:boot()
  lab:lab("inner"):boot()
  return lab
end

-- A lab with a VM whose agent does not quiesce. An agent may take a minute for it, so a task waits for that
-- while the other tests run; the last test looks at what came of it.
local stuck_lab = provium:lab("stuck")
local good = stuck_lab:vm("good", "default"):boot()
-- Beside an init of the image's own, the agent is a process that can be stopped.
local init = "#!/bin/sh\nmount -t proc proc /proc\nexec sleep 100000\n"
local stuck = stuck_lab:vm("stuck", "default", {files = {{path = "/init", content = init, mode = 0x1ed}}}):boot()
local agent
wait_until(function() agent = stuck:run("cat /proc/$PPID/stat").stdout:match("%) %a (%d+) ") return agent end, {timeout = 60})
-- No agent answers this call.
local stopping = co.spawn(function()
  pcall(stuck.run, stuck, "kill -STOP " .. agent .. "; echo it is stopped > /dev/console")
end)
stuck:console():expect("it is stopped", "60s")
stopping:cancel()
local refused = co.spawn(function() return pcall(stuck_lab.snapshot, stuck_lab) end)

test("a lab is put back as a whole, with its sub-labs", function(t)
  local lab = lab_of_two("one")
  local vms = { lab:vm("a"), lab:vm("b"), lab:lab("inner"):vm("c") }
  for _, vm in ipairs(vms) do vm:write_file("/tmp/who", vm:name()) end
  local s = lab:snapshot()
  t:assert(s:size() > 0)
  for _, vm in ipairs(vms) do vm:unlink("/tmp/who") end
  lab:vm("b"):shutdown()
  lab:restore(s)
  for _, vm in ipairs(vms) do
    t:assert_eq(vm:state(), "booted")
    t:assert_eq(vm:read_file("/tmp/who"), vm:name())
    t:assert_eq(vm:run("hostname").stdout, vm:name() .. "\n")
  end
  s:delete()
  t:assert_eq(s:size(), 0)
  t:assert_contains(tostring(t:assert_raises(function() lab:restore(s) end)), "was deleted")
end)

test("VMs that were off are off again; one that streams keeps all from being saved", function(t)
  local lab = provium:lab("two")
  local on = lab:vm("on", "default"):boot()
  local off = lab:vm("off", "default")
  local s = lab:snapshot()
  off:boot()
  lab:restore(s)
  t:assert_eq(off:state(), "shutdown")
  t:assert_eq(on:state(), "booted")
  local tail = on:tail_file("/etc/passwd")
  local err = tostring(t:assert_raises(function() lab:snapshot() end))
  t:assert_contains(err, "vm `on`")
  t:assert_contains(err, "1 stream(s) are open")
  tail:close()
  on:run("true"):assert_ok()
end)

test("a folder holds a lab for later, wherever it is restored", function(t)
  local folder = os.tmpname()
  os.remove(folder)
  local lab = lab_of_two("three")
  lab:vm("a"):write_file("/tmp/x", "from a")
  lab:lab("inner"):vm("c"):write_file("/tmp/x", "from c")
  t:assert_eq(lab:snapshot(folder), folder)
  lab:close()

  local copy = provium:lab("copy")
  copy:restore(folder)
  t:assert_eq(copy:vm("a"):read_file("/tmp/x"), "from a")
  t:assert_eq(copy:lab("inner"):vm("c"):read_file("/tmp/x"), "from c")
  t:assert_near(copy:vm("b"):stats().guest_memory_total / 2 ^ 20, 150, 45)
  local vm = provium:vm("single", "default")
  local err = tostring(t:assert_raises(function() vm:restore(folder) end))
  t:assert_contains(err, "it holds the snapshot of a lab")
  os.execute("rm -rf " .. folder)
end)

test("a lab's folder that is taken again holds the new state, and one that is cut short leaves nothing", {timeout = "200s"}, function(t)
  local parent = os.tmpname()
  os.remove(parent)
  assert(os.execute("mkdir " .. parent))
  t:defer(function() os.execute("rm -rf " .. parent) end)
  local folder = parent .. "/snap"
  local lab = provium:lab("again")
  local a, b = lab:vm("a", "default"), lab:vm("b", "default")
  lab:boot()
  for round = 1, 3 do
    for _, vm in ipairs { a, b } do vm:write_file("/tmp/round", tostring(round)) end
    lab:snapshot(folder)
    for _ = 1, 3 do
      a:write_file("/tmp/round", "later")
      lab:restore(folder)
      t:assert_eq(a:read_file("/tmp/round") .. b:read_file("/tmp/round"), round .. "" .. round)
      host.sleep(0.2)
    end
  end
  for _, wait in ipairs { 0, 0.002, 0.01, 0.05 } do
    local task = co.spawn(function() lab:snapshot(folder) end)
    host.sleep(wait)
    task:cancel()
    for _, vm in ipairs { a, b } do vm:run("true"):assert_ok() end
  end
  lab:snapshot(folder)
  local list = io.popen("ls -A " .. parent)
  t:assert_eq(list:read("a"), "snap\n")
  list:close()
  assert(os.execute("printf x >> " .. folder .. "/vm-0/devices"))
  t:assert_contains(tostring(t:assert_raises(function() lab:restore(folder) end)), "is damaged: `vm-0/devices` has")
  t:assert_eq(a:state(), "booted")
end)

test("a VM that is in two labs is saved and put back once", function(t)
  local outer = provium:lab("outer")
  local vm = outer:vm("shared", "default"):boot()
  outer:lab("inner"):include(vm)
  local s = outer:snapshot()
  vm:write_file("/tmp/new", "x")
  outer:restore(s)
  t:assert_raises(function() vm:stat("/tmp/new") end)
end)

test("saving and restoring the same VMs at once does not deadlock", {timeout = "200s"}, function(t)
  local lab = provium:lab("busy")
  local a, b = lab:vm("a", "default"):boot(), lab:vm("b", "default"):boot()
  local both, each = lab:snapshot(), {a = a:snapshot(), b = b:snapshot()}
  for round = 1, 6 do
    local vm = round % 2 == 0 and a or b
    parallel {
      function() vm:restore(each[vm:name()]) end,
      function() host.sleep(0.01) lab:snapshot() end,
      function() host.sleep(0.03) lab:restore(both) end,
      function() host.sleep(0.03) lab:restore(both) end,
    }
  end
  t:assert_eq(a:run("hostname").stdout .. b:run("hostname").stdout, "a\nb\n")
end)

test("VMs that are made from a folder are booted with all that the saved ones were made with", {timeout = "200s"}, function(t)
  local place = os.tmpname()
  os.remove(place)
  t:defer(function() os.execute("rm -rf " .. place) end)
  local function options()
    return {
      memory = "192M", kernel_cmdline_append = "made=yes", initial_time = 1000000000,
      files = {{path = "/etc/made", content = "here\0\xff", perm = 0x180}},
    }
  end
  local first = provium:lab("first")
  first:vm("off", "default", options())
  first:vm("on", "default", options()):boot()
  first:snapshot(place)
  local copy = provium:lab("copy")
  copy:restore(place)
  t:assert_eq(copy:vm("off"):state(), "created")
  copy:vm("on"):shutdown()
  copy:boot()
  for _, name in ipairs{"off", "on"} do
    local vm = copy:vm(name)
    t:assert_contains(vm:read_file("/proc/cmdline"), "made=yes", name)
    t:assert_eq(vm:read_file("/etc/made"), "here\0\xff", name)
    t:assert_eq(vm:stat("/etc/made").perm, 0x180)
    t:assert_near(vm:clock():get(), 1000000000, 60, name)
  end
end)

test("a lab's restore that is cut short leaves all its VMs as they were", {timeout = "200s"}, function(t)
  local lab = provium:lab("cut")
  local a, b = lab:vm("a", "default"), lab:vm("b", "default")
  lab:boot()
  local s = lab:snapshot()
  for _, vm in ipairs{a, b} do vm:write_file("/tmp/after", "x") end
  for ms = 5, 85, 20 do
    local task = co.spawn(function() lab:restore(s) end)
    host.sleep(ms / 1000)
    task:cancel()
    -- Both were restored, or neither, and no call made from now on is cancelled.
    local kept = {}
    for i, vm in ipairs{a, b} do kept[i] = vm:run("ls /tmp/after 2> /dev/null").exit_code == 0 end
    t:assert_eq(kept[1], kept[2], ("cancelled after %d ms"):format(ms))
    for _, vm in ipairs{a, b} do vm:write_file("/tmp/after", "x") end
  end
end)

test("one whose agent does not quiesce keeps all from being saved, and the others continue", {timeout = "250s"}, function(t)
  local saved, err = refused:join("230s")
  t:assert_eq(saved, false)
  t:assert_contains(tostring(err), "vm `stuck`")
  t:assert_contains(tostring(err), "did not quiesce")
  t:assert_eq(good:run("echo on").stdout, "on\n")
  good:snapshot():delete()
end)
