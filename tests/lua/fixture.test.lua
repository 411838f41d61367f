-- Fixtures: built once, restored as they were built, by any file that uses them.

local SERVER, CLUSTER = "fixtures/server.fixture.lua", "fixtures/cluster.fixture.lua"

local server = provium:vm_fixture(SERVER)

local function random(vm) return vm:run("head -c 32 /dev/urandom | sha256sum").stdout end

test("a VM is what it was built", function(t)
  t:assert_eq(provium.server, server)
  t:assert_eq(server:name(), "server")
  t:assert_eq(server:profile(), "default")
  t:assert_eq(server:state(), "booted")
  t:assert_eq(server:stats().boot_kind, "snapshot")
  t:assert_eq(server:read_file("/etc/word"), "hello")
  t:assert_eq(server:read_file("/etc/data.txt"), "pushed\n")
  t:assert_eq(server:stat("/etc/data.txt").perm, tonumber("600", 8))
  t:assert_contains(server:run("ps -o args").stdout, "sleep 12345")
  t:assert_contains(server:read_file("/proc/cmdline"), "fixture=yes")
  t:assert_eq(server:run("nproc").stdout, "2\n")
  local kib = tonumber(server:read_file("/proc/meminfo"):match("MemTotal:%s+(%d+)"))
  t:assert(kib < 160 * 1024 and kib > 96 * 1024, kib)
  t:assert_eq(server:run("hostname").stdout, "server\n")
  t:assert_near(server:clock():get(), host.now_ns() / 1e9, 30, "the clock is set as after a boot")
end)

test("what a test does to it is not in the fixture", function(t)
  server:write_file("/etc/word", "changed")
  server:run("pkill -f 'sleep 12345'")
  local again = provium:vm_fixture(SERVER)
  t:assert_eq(again, server, "one of that name that is there is put back")
  t:assert_eq(server:read_file("/etc/word"), "hello")
  t:assert_contains(server:run("ps -o args").stdout, "sleep 12345")
end)

test("many at a time, which differ in who they are and in nothing else", function(t)
  local twin, other = parallel {
    function() return provium:vm_fixture(SERVER, { name = "twin" }) end,
    function() return provium:lab("other"):vm_fixture(SERVER) end,
  }
  t:assert_eq(provium.twin, twin)
  t:assert_eq(provium:lab("other").server, other)
  t:assert_eq(twin:run("hostname").stdout, "twin\n")
  t:assert_eq(other:run("hostname").stdout, "server\n")
  t:assert_neq(random(twin), random(other))
  t:assert_neq(random(twin), random(server))
  for _, path in ipairs { "/etc/word", "/srv/shell", "/srv/name", "/proc/cmdline" } do
    t:assert_eq(twin:read_file(path), other:read_file(path), path)
  end
  twin:write_file("/etc/word", "mine")
  t:assert_eq(other:read_file("/etc/word"), "hello")
  twin:close()
  other:close()
end)

test("it is at file scope, wherever it was asked for", function(t)
  provium:vm_fixture(SERVER, { name = "kept" })
end)

test("and so the next test finds it", function(t)
  t:assert_eq(provium:vm("kept"):read_file("/etc/word"), "hello")
  provium.kept:close()
end)

test("what was built can be used: workers, new commands, a snapshot, a reset", function(t)
  local worker = server:spawn_worker()
  t:assert_eq(worker:run("cat /etc/word").stdout, "hello")
  local snapshot = server:snapshot()
  server:unlink("/etc/word")
  server:restore(snapshot)
  t:assert_eq(server:read_file("/etc/word"), "hello")
  server:reset()
  t:assert_contains(server:read_file("/proc/cmdline"), "fixture=yes")
  t:assert_contains(tostring(t:assert_raises(function() server:read_file("/etc/word") end)), "ENOENT")
  server:shutdown()
  server:boot()
  t:assert_eq(server:run("nproc").stdout, "2\n", "the next boot has the shape it was built with")
end)

test("a lab is what it was built, built on another fixture", function(t)
  local lab = provium:lab_fixture(CLUSTER)
  t:assert_eq(lab:name(), "cluster")
  t:assert_eq(provium.cluster, lab)
  t:assert_same(lab:vm_names(), { "first", "second" })
  t:assert_same(lab:sub_lab_names(), { "inner" })
  for _, vm in ipairs { lab.first, lab.second, lab.inner.third } do
    t:assert_eq(vm:read_file("/who"), vm:name())
    t:assert_eq(vm:run("hostname").stdout, vm:name() .. "\n")
  end
  t:assert_eq(lab.first:read_file("/etc/word"), "hello")
  t:assert_eq(lab.inner.off:state(), "created")
  local two = provium.lab_fixture(CLUSTER, { name = "two" })
  two.second:write_file("/who", "another test")
  t:assert_eq(lab.second:read_file("/who"), "second")
  provium:lab_fixture(CLUSTER, { name = "two" })
  t:assert_eq(two.second:read_file("/who"), "second", "put back")
  for _, one in ipairs { lab, two } do
    one.inner:close()
    one:close()
  end
end)

test("one that is made from another is a VM of its own", function(t)
  provium:vm_fixture(SERVER)
  local derived = provium:vm_fixture("fixtures/derived")
  t:assert_neq(derived, server)
  t:assert_eq(derived:name(), "derived")
  t:assert_eq(derived:run("hostname").stdout, "derived\n")
  t:assert_eq(derived:read_file("/etc/derived.txt"), "pushed\n")
  derived:write_file("/etc/word", "mine")
  t:assert_eq(server:read_file("/etc/word"), "hello")
  t:assert_eq(provium:vm_fixture("fixtures/derived"), derived)
  t:assert_eq(derived:read_file("/etc/word"), "hello", "put back")
  local function as_server() provium:vm_fixture("fixtures/derived", { name = "server" }) end
  local refused = tostring(t:assert_raises(as_server))
  -- The fixture is named by its path from where the run was started.
  t:assert_match(refused, "vm `server` exists already, from fixture `[%w/]*fixtures/server%.fixture%.lua`")
  -- The build has claimed for itself: a claim of the file's is refused for its size, and not as the second.
  local err = tostring(t:assert_raises(function() provium:claim { memory = "1M" } end))
  t:assert_contains(err, "but the file's VMs hold")
  derived:close()
end)

local function fails(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs { ... } do t:assert_contains(err, part) end
  t:assert_match(err, "^[%w/]*fixture%.test%.lua:%d+: ")
end

test("an error is reported at the author's line", function(t)
  local function wants(path) return function() provium:vm_fixture("fixtures/" .. path) end end
  fails(t, wants("missing"), "fixture `fixtures/missing` not found in any test root", "/fixtures/missing.fixture.lua`")
  fails(t, wants("sever.fixture.lua"), "fixture `fixtures/sever.fixture.lua` not found", "did you mean `server.fixture.lua`?")
  fails(t, wants("data.txt"), "not found in any test root", "is there, but the names of fixtures end in `.fixture.lua`")
  fails(t, wants("loop_a.fixture.lua"), "fixtures need each other", "loop_a.fixture.lua → loop_b.fixture.lua → loop_a.fixture.lua")
  fails(t, wants("broken.fixture.lua"), "fixtures/broken.fixture.lua:1: no luck", "fixtures/broken.fixture.lua:3")
  fails(t, wants("returns_nothing.fixture.lua"), "fixtures/returns_nothing.fixture.lua` failed: it must return vm:snapshot()", "returned nil")
  fails(t, wants("returns_vm.fixture.lua"), "and returned vm")
  fails(t, wants("has_tests.fixture.lua"), "has_tests.fixture.lua:1: test: not in a fixture")
  fails(t, wants("cluster.fixture.lua"), "lab_fixture()")
  fails(t, function() provium:lab_fixture(SERVER) end, "vm_fixture()")
  fails(t, function() provium:vm_fixture(SERVER, { nam = "x" }) end, "nam", "name")
  local sleeper = provium:lab("a lab"):vm("server", "sleeper")
  fails(t, function() provium:lab("a lab"):vm_fixture(SERVER) end, "`server` exists already", "`sleeper`", "`default`", "name =")
  sleeper:close()
  fails(t, function() provium:vm_fixture() end, "the fixture's path")
  fails(t, function() provium:depends_on_file("fixtures/missing.txt") end, "fixtures/missing.txt` is not a file of the host")
  provium:depends_on_file("fixtures/data.txt")
  t:assert_eq(provium.v, nil, "nothing is left of a build that failed")
end)

local broken = os.tmpname() -- a fixture outside of the roots
local function define(script)
  local file <close> = assert(io.open(broken .. ".fixture.lua", "w"))
  file:write(script)
end

test("a build that fails is reported whole…", function(t)
  define("local function deeper() error('no luck') end\nprovium:vm('v', 'default')\ndeeper()\n")
  local err = tostring(t:assert_raises(function() provium:vm_fixture(broken) end))
  t:assert_contains(err, ".fixture.lua:1: no luck")
  t:assert_contains(err, "from ")
end)

test("…and is not repeated for the next user, unless something that it had read has changed", function(t)
  local err = tostring(t:assert_raises(function() provium:vm_fixture(broken) end))
  t:assert_match(err, "fixture `[^`]+` failed in test `a build that fails is reported whole…`: [^\n]*: no luck$")
  define("return provium:vm('v', 'default', {memory = '96M'}):boot():snapshot()\n")
  local vm = provium:vm_fixture(broken)
  t:assert_eq(vm:run("echo on").stdout, "on\n")
  vm:close()
  t:assert(os.remove(broken .. ".fixture.lua") and os.remove(broken))
end)

test("a build has the time of the test that wants it", { timeout = "5s", expect_fail = "the build takes longer" }, function()
  provium:vm_fixture("fixtures/slow.fixture.lua")
end)

test("also where it never waits", { timeout = "1s", expect_fail = "the build never ends" }, function()
  provium:vm_fixture("fixtures/loop.fixture.lua")
end)

test("the file continues after that", function(t)
  t:assert_eq(provium:vm_fixture(SERVER):read_file("/etc/word"), "hello")
end)
