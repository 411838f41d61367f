-- Conventions of all objects: handles, options, states, places.
local vm = provium:vm("v", "default"):boot()

local function raises(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  return err
end

-- One of each kind of handle, under the word that its text begins with.
local function handles()
  local lab = provium:lab("inner")
  return {
    {"lab `inner`", lab},
    {"worker", vm:spawn_worker()},
    {"process", vm:run_async("sleep 1000")},
    {[[file "/etc/passwd" of vm `v`]], vm:open_file("/etc/passwd", {read = true})},
    {[[tail of "/proc/version" of vm `v`]], vm:tail_file("/proc/version")},
    {"console of vm `v`", vm:console()},
    {"clock of vm `v`", vm:clock()},
    {"pending syscall of vm `v`", vm:syscall_async("pause")},
    {"task started at", co.spawn(function() end)},
    {"vm `other`", provium:vm("other", "default")},
  }
end

test("every handle prints what it is, and may be closed twice", function(t)
  for _, entry in ipairs(handles()) do
    local word, handle = table.unpack(entry)
    t:assert_contains(tostring(handle), word)
    handle:close()
    handle:close()
    t:assert_contains(tostring(handle), word, "also when it is closed")
  end
end)

test("the same resource is the same value, also as a key", function(t)
  t:assert(rawequal(vm, provium.v) and rawequal(vm, provium:vm("v")))
  t:assert(rawequal(vm:console(), vm:console()))
  t:assert(rawequal(vm:clock(), vm:clock()))
  local w = vm:spawn_worker()
  t:assert(rawequal(w:vm(), vm))
  local seen = {[vm] = "vm", [w] = "w", [vm:console()] = "console"}
  t:assert_eq(seen[provium.v], "vm")
  t:assert_eq(seen[w], "w")
  t:assert_eq(seen[vm:console()], "console")
end)

test("an unknown option raises wherever there are options, and names the nearest", function(t)
  local w = vm:spawn_worker()
  local f = vm:open_file("/etc/passwd", {read = true})
  local cases = {
    {"timout", "timeout", function() vm:run("true", {timout = 1}) end},
    {"tyt", "tty", function() vm:run({"true"}, {tyt = true}) end},
    {"en", "env", function() w:run("true", {args = {}, en = {}}) end},
    {"stdni", "stdin", function() vm:run_async("true", {stdni = ""}) end},
    {"apend", "append", function() vm:write_file("/tmp/x", "", {apend = true}) end},
    {"premm", "perm", function() vm:push_file("/etc/passwd", "/tmp/x", {premm = 1}) end},
    {"parnets", "parents", function() vm:mkdir("/tmp/x", {parnets = true}) end},
    {"wirte", "write", function() vm:open_file("/tmp/x", {wirte = true}) end},
    {"strat", "start", function() vm:tail_file("/tmp/x", {strat = 1}) end},
    {"buffs", "bufs", function() vm:syscall("getpid", {buffs = {}}) end},
    {"alin", "align", function() vm:syscall("getpid", {bufs = {{out = 1, alin = 1}}}) end},
    {"ofset", "offset", function()
      vm:syscall("getpid", {bufs = {"12345678"}, nested = {{parent = 1, child = 1, ofset = 0}}})
    end},
    {"ptr_ofsets", "ptr_offsets", function() vm:ioctl(f, 1, "", {ptr_ofsets = {}}) end},
    {"usr", "user", function() vm:spawn_worker{usr = "nobody"} end},
    {"timeot", "timeout", function() vm:console():write("", {timeot = 1}) end},
    {"memroy", "memory", function() provium:claim{memroy = "1G"} end},
    {"cpsu", "cpus", function() provium:vm("x", "default", {cpsu = 1}) end},
    {"intreval", "interval", function() wait_until(function() end, {intreval = 1}) end},
    {"premm", "perm", function() vm:batch(function(b) b:mkdir("/tmp/x", {premm = 1}) end) end},
  }
  for _, case in ipairs(cases) do
    local wrong, right, call = table.unpack(case)
    raises(t, call, ("`%s`"):format(wrong), right, "conventions.test.lua:")
  end
end)

test("durations are refused wherever they are wrong, with their value", function(t)
  local p = vm:run_async("sleep 1000")
  local tail = vm:tail_file("/proc/version")
  for _, bad in ipairs{-1, 0 / 0, math.huge, "5 parsecs", {}} do
    for _, call in ipairs{
      function() vm:run("true", {timeout = bad}) end,
      function() p:wait(bad) end,
      function() tail:next(bad) end,
      function() tail:read_until("x", bad) end,
      function() vm:console():expect("x", bad) end,
      function() provium:barrier("b", 2, bad) end,
      function() vm:clock():sleep(bad) end,
    } do
      raises(t, call, "conventions.test.lua:")
    end
  end
  raises(t, function() p:wait("5 parsecs") end, "5 parsecs")
  raises(t, function() tail:next(-1) end, "-1")
end)

test("errors name the object, the call, the cause and the author's line", function(t)
  local w = vm:spawn_worker()
  local line = debug.getinfo(1, "l").currentline + 1
  local err = raises(t, function() w:read_file("/none") end, "worker", "of vm `v`", 'read_file("/none"): ENOENT')
  t:assert_contains(err, "conventions.test.lua:" .. line .. ":")
  raises(t, function() vm:open_file("/none", {read = true}) end, "vm `v`", 'open_file("/none"', "ENOENT")
  local function helper() vm:stat("/none") end
  local inner = debug.getinfo(helper, "S").linedefined
  t:assert_contains(raises(t, helper), "conventions.test.lua:" .. inner .. ":", "the line of the call itself")
end)

test("methods are plain functions, and refuse to be called without their object", function(t)
  local w = vm:spawn_worker()
  local ok, err = pcall(w.stat, w, "/none")
  t:assert_eq(ok, false)
  t:assert_contains(tostring(err), "ENOENT")
  raises(t, function() vm.run("true") end, "needs a vm before its arguments")
  raises(t, function() vm.run(w, "true") end, "needs a vm before its arguments")
end)

test("a text made by gsub goes straight into a call", function(t)
  vm:write_file("/tmp/gsub", ("NAME=x"):gsub("NAME", "name"))
  t:assert_eq(vm:read_file("/tmp/gsub"), "name=x")
  t:assert_eq(vm:run(("echo NAME"):gsub("NAME", "hi")).stdout, "hi\n")
  t:assert_eq(vm:run_async(("echo NAME"):gsub("NAME", "hi")):wait().stdout, "hi\n")
  raises(t, function() vm:write_file("/tmp/gsub", "x", "y") end, "options must be a table")
end)

test("an empty list means no arguments, not a shell", function(t)
  vm:write_file("/tmp/two words", "#!/bin/sh\necho $#\n", {perm = "0755"})
  t:assert_eq(vm:run("/tmp/two words", {}).stdout, "0\n")
  t:assert_eq(vm:run("/tmp/two words", {args = {}}).stdout, "0\n")
end)

test("permission bits in decimal digits raise and show both readings", function(t)
  raises(t, function() vm:write_file("/tmp/perm", "", {perm = 755}) end, "0o1363", [["0755"]], "0x1ed")
  raises(t, function() vm:chmod("/tmp", 1777) end, "0o3361", [["1777"]])
  vm:write_file("/tmp/perm", "", {perm = tonumber("640", 8)})
  t:assert_eq(vm:stat("/tmp/perm").perm, tonumber("640", 8))
end)

test("the result of a command is always true, so it cannot be asserted", function(t)
  raises(t, function() t:assert(vm:run("false")) end, "always true", "result:ok()")
  raises(t, function() assert(vm:run("false")) end, "always true", "result:ok()")
  t:assert(vm:run("true"):ok())
end)

test("the text of a VM is a name for it, whatever its state", function(t)
  local seen = {[tostring(vm)] = true}
  vm:pause()
  t:defer(function() vm:resume() end)
  t:assert(seen[tostring(vm)])
end)

test("what a guest printed may be printed, logged and compared", function(t)
  local out = vm:run([[printf 'a\377b']]).stdout
  print(out)
  t:log(out)
  raises(t, function() t:assert_eq(out, "a\xfeb", out) end, [["a\xffb" ~= "a\xfeb"]])
end)

test("a tail starts at a fraction, and at the start by its other name", function(t)
  vm:write_file("/tmp/digits", "0123456789")
  for from, want in pairs{start = "0123456789", beginning = "0123456789", [-2.5] = "89", [3.9] = "3456789"} do
    local tail = vm:tail_file("/tmp/digits", {start = from})
    t:assert_eq(tail:next(5), want, tostring(from))
    tail:close()
  end
end)

test("a predicate that waits for the guest is ended with wait_until", function(t)
  local err = raises(t, function()
    wait_until(function() vm:run("sleep 2000") end, {timeout = "300ms", desc = "never"})
  end, "never not met within 300ms", [[vm:run("sleep 2000")]])
  t:assert(not err:find("timed out", 1, true), err)
  wait_until(function() return vm:run("pidof sleep").stdout == "" end, {timeout = 60, desc = "it is cancelled in the guest"})
end)
