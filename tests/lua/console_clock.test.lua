-- Console and clock.
local machines = require "helpers.machines"

local vm = provium:vm("v", "default", {initial_time = 1000000000.25, kernel_cmdline = "loglevel=7"})
local before = vm:console():read_log()
vm:boot()

test("the log is there before the boot, and grows", function(t)
  t:assert_eq(before, "")
  local log = vm:console():read_log()
  t:assert_contains(log, "Linux version")
end)

test("expect searches the whole log and consumes nothing", function(t)
  local console = vm:console()
  console:expect("Linux version")
  console:expect("Linux version")
  t:assert(console:count("Linux version") >= 1)
  local err = tostring(t:assert_raises(function() console:expect("no such text", "300ms") end))
  t:assert_contains(err, "no such text")
end)

test("marks, lines, expect_any, never", function(t)
  local console = vm:console()
  local mark = console:mark()
  vm:write_file("/dev/kmsg", "<1>first\n")
  t:assert_eq(console:expect_any({"nothing", "first"}, "60s"), 2)
  t:assert_contains(console:since(mark), "first")
  -- The kernel may have printed something as well.
  local found
  for _, line in ipairs(console:lines(mark)) do
    if line:find("first") then found = line end
  end
  t:assert(found and not found:find("\r"), found)
  console:never("second", "200ms")
  local task = co.spawn(function() console:never("third", "120s") end)
  host.sleep(0.05)
  vm:write_file("/dev/kmsg", "<1>third\n")
  t:assert_contains(t:assert_raises(function() task:join("100s") end), "came")
end)

-- The message of a `never` that runs while `fn` does.
local function never_while(console, fn)
  local has_begun = false
  local task = co.spawn(function()
    has_begun = true
    return pcall(console.never, console, "no such text", "120s")
  end)
  wait_until(function() return has_begun end, {timeout = 60})
  fn()
  local ok, why = task:join("100s")
  return not ok and tostring(why)
end

test("never raises when the guest ends by itself", {kernel_log = "ignore"}, function(t)
  local own = provium:vm("own", "default"):boot()
  local console = own:console()
  for how, command in pairs {
    ["the guest's kernel panicked"] = machines.PANIC,
    ["the guest powered itself off"] = machines.POWER_OFF,
  } do
    local why = never_while(console, function() machines.end_by(own, command) end)
    t:assert(why, "it raises")
    t:assert_contains(why, 'console of vm `own`: never("no such text")')
    t:assert_contains(why, how)
    t:assert_eq(own:state(), "dead")
    t:assert_contains(t:assert_raises(function() console:never("no such text", 0) end), how)
    own:boot()
  end
  local has_begun = false
  local task = co.spawn(function()
    has_begun = true
    console:never("Kernel panic", "120s")
  end)
  wait_until(function() return has_begun end, {timeout = 60})
  machines.end_by(own, machines.PANIC)
  t:assert_contains(t:assert_raises(function() task:join("100s") end), "`Kernel panic` came")
end)

test("waits for a text say how the guest ended", {kernel_log = "ignore"}, function(t)
  local own = provium:vm("ended", "default", {kernel_cmdline = "loglevel=7"}):boot()
  local console = own:console()
  local function check_waits(how)
    for call, argument in pairs {expect = "no such text", expect_any = {"no such text", "nor this"}} do
      local why = t:assert_raises(function() console[call](console, argument, "10s") end)
      t:assert_contains(why, "console of vm `ended`: " .. call .. '(')
      t:assert_contains(why, "no such text")
      t:assert_contains(why, how)
    end
    local stream = console:read()
    for _, call in ipairs {"expect", "read_until", "expect_match"} do
      local why = t:assert_raises(function() stream[call](stream, "no such text", "10s") end)
      t:assert_contains(why, "stream EOF before `no such text`")
      t:assert_match(why, "\nvm `ended`: [^\n]*" .. how)
    end
    t:assert_eq(console:expect("before the end", 0), "before the end")
  end
  own:check("echo before the end > /dev/console")
  -- One that waits already while the guest ends.
  local has_begun = false
  local task = co.spawn(function()
    has_begun = true
    console:expect("no such text", "120s")
  end)
  wait_until(function() return has_begun end, {timeout = 60})
  machines.end_by(own, machines.PANIC)
  t:assert_contains(t:assert_raises(function() task:join("100s") end), "the guest's kernel panicked")
  check_waits("the guest's kernel panicked")
  own:boot()
  own:check("echo before the end > /dev/console")
  own:shutdown()
  check_waits("the VM was shut down")
end)

test("never and a VM that the test switches off and on", function(t)
  local own = provium:vm("own", "default"):boot()
  local console = own:console()
  t:assert_eq(never_while(console, function() own:shutdown() end), false)
  local task = co.spawn(function() console:never("printed by the next boot", "120s") end)
  own:boot()
  own:check("echo printed by the next boot > /dev/console")
  t:assert_contains(t:assert_raises(function() task:join("100s") end), "came")
  t:assert_eq(never_while(console, function() own:power_cut() end), false)
end)

test("a mark beyond the end of the log", function(t)
  local console = vm:console()
  for _, call in ipairs {"since", "lines"} do
    local why = t:assert_raises(function() console[call](console, 1 << 40) end)
    t:assert_contains(why, ("console of vm `v`: %s(): the mark: 1099511627776 is beyond the end of the log"):format(call))
  end
  t:assert_eq(console:since(console:mark()), "")
end)

test("a closed console", function(t)
  local console = vm:console()
  local stream = console:read()
  console:close()
  console:close()
  t:assert_eq(tostring(console), "console of vm `v` (closed)")
  for _, call in ipairs {"read", "read_log", "mark", "since", "lines", "count", "expect", "expect_any", "never", "write"} do
    local argument = ({since = 0, lines = 0, expect_any = {"x"}})[call] or "x"
    local why = t:assert_raises(function() console[call](console, argument, 0) end)
    t:assert_contains(why, "console closed")
  end
  t:assert_contains(t:assert_raises(function() stream:expect("x") end), "console closed")
  t:assert(not rawequal(vm:console(), console))
  t:assert(rawequal(vm:console(), vm:console()))
  vm:console():expect("Linux version", 0)
end)

test("a console stream has the surface of every stream", function(t)
  local stream = vm:console():read()
  stream:expect("Linux version", "60s")
  vm:write_file("/dev/kmsg", "<1>streamed\n")
  t:assert_contains(stream:read_until("streamed", "60s"), "streamed")
  stream:close()
  t:assert_contains(tostring(t:assert_raises(function() stream:expect("x") end)), "console closed")
end)

test("a console stream is at its end when the VM is off and everything was read", function(t)
  local own = provium:vm("off", "default", {kernel_cmdline = "loglevel=7"}):boot()
  local read, unread = own:console():read(), own:console():read()
  read:expect("Linux version", "10s")
  t:assert(not read:eof())
  own:check("echo the last line > /dev/console")
  own:shutdown()
  local first = own:console():read_log()
  t:assert(not read:eof(), "the rest was not read")
  local whole = own:console():read()
  t:assert_eq(whole:next(0), first)
  t:assert(whole:eof(), "without another read")
  read:drain(0)
  t:assert(read:eof())
  t:assert(not unread:eof())
  t:assert_eq(own:open_stream_count(), 1, "the others are at their end")
  -- An end is final. A stream that has not reached it continues with the next boot.
  own:boot()
  own:check("echo from the second boot > /dev/console")
  t:assert(read:eof())
  t:assert_eq(read:next(0), nil)
  local all = unread:read_until("from the second boot", "10s")
  t:assert_eq(all:sub(1, #first), first)
  t:assert(not unread:eof())
end)

test("the output of a process is at its end without another read", function(t)
  local process = vm:run_async("echo done")
  local output = process:stdout_stream()
  t:assert_eq(output:read_until("done\n", "20s"), "done\n")
  process:wait("20s")
  wait_until(function() return output:eof() end)
end)

test("writing and reading at once", function(t)
  local p = vm:run_async("head -n 1 < /dev/ttyS0")
  wait_until(function()
    return vm:run("ls -l /proc/" .. p:pid() .. "/fd /proc/[0-9]*/fd 2>/dev/null | grep -c ttyS0").stdout:match("%d+") ~= "0"
  end, {timeout = 60, desc = "the reader has opened the console"})
  vm:console():write("typed\n")
  t:assert_contains(p:wait("60s").stdout, "typed")
  t:assert_contains(tostring(t:assert_raises(function() vm:console():write("x", {timeout_ms = 5}) end)), "timeout")
end)

-- A guest program that sends back `count` bytes, as they come.
local function start_echo(count)
  local p = vm:run_async("stty -F /dev/ttyS0 raw -echo; exec 3<>/dev/ttyS0; echo READY >&3; head -c " .. count ..
    " <&3 | tee /tmp/typed >&3; stty -F /dev/ttyS0 sane")
  vm:console():read():expect("READY", "60s")
  return p
end

test("full duplex: what a program reads and sends back at once, byte for byte", {timeout = "250s"}, function(t)
  local console = vm:console()
  local bytes = {}
  for i = 0, 65535 do bytes[#bytes + 1] = string.char((i * 7 + i // 256) % 256) end
  local data = table.concat(bytes)
  local p = start_echo(#data)
  local mark = console:mark()
  -- Both directions are busy until the end: a line is far slower than the harness.
  local typing = co.spawn(function()
    for start = 1, #data, 4096 do console:write(data:sub(start, start + 4095), {timeout = "200s"}) end
  end)
  wait_until(function() return console:mark() >= mark + #data end, {timeout = 200, desc = "all came back"})
  typing:join("60s")
  p:wait("60s"):assert_ok()
  t:assert_eq(hash.sha256(vm:read_file("/tmp/typed")), hash.sha256(data))
  t:assert(console:since(mark):find(data, 1, true), "what came back is what was typed")
end)

test("each direction has its own data", {timeout = "250s"}, function(t)
  local console = vm:console()
  local data = ("0123456789abcdef"):rep(2048)
  local p = vm:run_async("stty -F /dev/ttyS0 raw -echo; exec 3<>/dev/ttyS0; echo BOTH >&3; " ..
    "(seq 1 5000 >&3; echo PRINTED >&3) & head -c " .. #data .. " <&3 | sha256sum; wait; stty -F /dev/ttyS0 sane")
  console:expect("BOTH", "60s")
  local mark = console:mark()
  console:write(data, {timeout = "200s"})
  console:expect("PRINTED", "100s")
  t:assert_contains(p:wait("60s").stdout, hash.sha256(data))
  local printed = {}
  for number = 1, 5000 do printed[number] = number .. "\n" end
  t:assert_contains(console:since(mark), table.concat(printed))
end)

test("a guest that does not read makes a write fail in time, and says how much it took", {timeout = "250s"}, function(t)
  vm:check("mkfifo /tmp/go")
  local p = vm:run_async("stty -F /dev/ttyS0 raw -echo -ixon; exec 3<>/dev/ttyS0; echo DEAF >&3; " ..
    "read count < /tmp/go; head -c $count <&3 | wc -c; stty -F /dev/ttyS0 sane")
  vm:console():expect("DEAF", "60s")
  local err = tostring(t:assert_raises(function() vm:console():write(("y"):rep(3000000), {timeout = "500ms"}) end))
  t:assert_contains(err, "write(3000000 bytes): timed out after 500ms")
  local typed = tonumber(err:match("(%d+) bytes were handed over"))
  t:assert(typed and typed > 0 and typed < 3000000, err)
  t:assert_eq(vm:run("echo others").stdout, "others\n")
  -- What was handed over is typed, and no more.
  vm:write_file("/tmp/go", typed .. "\n")
  t:assert_eq(tonumber(p:wait("60s").stdout), typed)
end)

test("long lines, all bytes, and texts longer than a piece of the log", {timeout = "250s"}, function(t)
  local console = vm:console()
  local mark = console:mark()
  local bytes = {}
  for byte = 0, 255 do bytes[#bytes + 1] = string.char(byte) end
  local all = table.concat(bytes)
  vm:write_file("/tmp/all", all .. ("x"):rep(270000) .. "END\r\nlast\r\n")
  vm:check("stty -F /dev/ttyS0 raw -echo; cat /tmp/all > /dev/ttyS0; stty -F /dev/ttyS0 sane", {timeout = "200s"})
  console:expect(("x"):rep(270000) .. "END", "60s")
  t:assert_contains(console:since(mark), all)
  local lines = console:lines(mark)
  t:assert_eq(lines[#lines], "last")
  t:assert_eq(#lines[#lines - 1], 255 - 10 - 1 + 270000 + #"END", "CR is left out")
  t:assert_contains(tostring(t:assert_raises(function() console:expect(("x"):rep(2^20 + 1)) end)), "at most 1 MiB")
  local empty = t:assert_raises(function() console:expect_any({"a", ""}) end)
  t:assert_contains(tostring(empty), "text 2: must not be empty")
  t:assert_eq(console:expect("END", 0), "END", "what is there takes no time")
end)

local dies = {timeout = "250s", kernel_log = "ignore"}
test("the log is complete through snapshots, resets, boots and death", dies, function(t)
  local own = provium:vm("own", "default"):boot()
  local console = own:console()
  local function say(word)
    own:check("printf '" .. word .. "\\0\\377\\r\\n' > /dev/ttyS0")
    console:expect(word, "60s")
  end
  local log = ""
  -- What was there stays there, byte for byte.
  local function check(what)
    local now = console:read_log()
    t:assert(#now >= #log and now:sub(1, #log) == log, what .. " has changed what the log had")
    log = now
  end
  say("first")
  check("a command")
  local snapshot = own:snapshot()
  local saved = console:read_log()
  say("second")
  check("a snapshot")
  own:restore(snapshot)
  check("a restore")
  say("third")
  local other = provium:vm("other", "default")
  other:restore(snapshot)
  t:assert_eq(other:console():read_log():sub(1, #saved), saved, "the log of the saved VM comes along")
  own:reset()
  check("a reset")
  own:shutdown()
  check("a shutdown")
  own:boot()
  say("fourth")
  pcall(own.run, own, "echo last words > /dev/ttyS0; echo c > /proc/sysrq-trigger")
  t:assert_eq(own:state(), "dead")
  check("death")
  t:assert_contains(log, "last words")
  t:assert_contains(log, "Kernel panic")
  for _, word in ipairs{"first", "second", "third", "fourth"} do
    t:assert_eq(console:count(word .. "\0\xff"), 1, word)
  end
  t:assert_contains(tostring(t:assert_raises(function() console:write("x") end)), "the machine is off")
end)

test("the log of a failed boot", {timeout = "200s", kernel_log = "ignore"}, function(t)
  local init = "#!/bin/sh\nprintf 'cannot \\000 \\377 boot\\n' > /dev/console; exit 3\n"
  local broken = provium:vm("broken", "default", {files = {{path = "/init", content = init, mode = "0755"}}})
  t:assert_contains(tostring(t:assert_raises(function() broken:boot() end)), "panicked")
  t:assert_contains(broken:console():read_log(), "cannot \0 \xff boot\r\n")
end)

test("the clock starts at `initial_time`", function(t)
  local now = vm:clock():get()
  t:assert(now >= 1000000000.25 and now < 1000000600, tostring(now))
end)

test("get, set, advance, to the nanosecond", function(t)
  local clock = vm:clock()
  clock:set_ns(1234567890123456789)
  local ns = clock:get_ns()
  t:assert(ns >= 1234567890123456789 and ns < 1234567890123456789 + 30 * 10^9)
  local jump = clock:get_ns()
  clock:advance("1h")
  t:assert(clock:get_ns() - jump >= 3600 * 10^9)
  clock:advance(-7200)
  t:assert(clock:get_ns() < jump)
  clock:set(-5 + 86400.5)
  t:assert(clock:get() >= 86395.5 and clock:get() < 86400)
  local refused = tostring(t:assert_raises(function() clock:set(-5) end))
  t:assert_contains(refused, "EINVAL", "Linux keeps no time before 1970, and says so itself")
  t:assert_contains(tostring(t:assert_raises(function() clock:set("noon") end)), "noon")
  clock:set(86400)
  t:assert_contains(vm:run("date -u +%Y-%m-%d").stdout, "1970-01-02")
  local before_sleep = host.now_ns()
  clock:sleep("200ms")
  t:assert(host.now_ns() - before_sleep >= 150 * 10^6)
end)

test("a closed clock", function(t)
  local clock = vm:clock()
  clock:close()
  clock:close()
  t:assert_eq(tostring(clock), "clock of vm `v` (closed)")
  for _, call in ipairs{"get", "get_ns", "set", "set_ns", "advance", "sleep"} do
    local why = t:assert_raises(function() clock[call](clock, 1) end)
    t:assert_contains(why, ("clock of vm `v`: %s(): clock closed"):format(call))
  end
  t:assert(not rawequal(vm:clock(), clock))
  t:assert(vm:clock():get_ns() > 0)
end)

test("times that no Linux keeps are refused with the kernel's errno and the reason", function(t)
  local clock = vm:clock()
  local function refusal(call, ...)
    local arguments = {...}
    return tostring(t:assert_raises(function() clock[call](clock, table.unpack(arguments)) end))
  end
  -- Since 4.3 a kernel refuses a time that puts its own boot before 1970.
  for _, err in ipairs{refusal("set", -5), refusal("set", 0), refusal("set_ns", math.mininteger)} do
    t:assert_contains(err, "EINVAL")
    t:assert_contains(err, "uptime after 1970")
  end
  t:assert_contains(refusal("set", -5), "clock of vm `v`: set(-5): ")
  -- 30 years before its nanoseconds overflow, in 2262.
  t:assert_contains(refusal("set", 9223372036), "EINVAL")
  t:assert_contains(refusal("set", 1e10), "the time: must be within 292 years of 1970, got 10000000000")
  t:assert_contains(refusal("set", 0/0), "clock of vm `v`: set(): the time: must be finite, got NaN")
  clock:set(1000)
  t:assert_contains(refusal("advance", "-2000s"), "clock of vm `v`: advance(\"-2000s\"): ")
  t:assert(clock:get() >= 1000 and clock:get() < 1060, "a refused call changes nothing")
  for _, second in ipairs{2^31 - 1, 2^31, 2^32, 4102444800, 8277292035} do
    clock:set(second)
    local now = clock:get_ns()
    t:assert(now // 10^9 >= second and now // 10^9 < second + 60, now)
  end
  local refused = provium:vm("refused", "default", {initial_time = 0})
  local err = tostring(t:assert_raises(function() refused:boot() end))
  t:assert_contains(err, "EINVAL")
  t:assert_contains(err, "`initial_time`")
  clock:set(1000000000)
end)

test("a clock is its VM's alone", function(t)
  local first, second = provium:vm("first", "default"):boot(), provium:vm("second", "default"):boot()
  -- The host's own clock is the one that it was: two readings differ by what has passed.
  local host_before, passed = os.time(), host.now_ns()
  local before = second:clock():get()
  first:clock():set(1e9)
  first:clock():advance("-1h")
  t:assert_near(second:clock():get(), before, 30)
  t:assert_near(os.time() - host_before, (host.now_ns() - passed) / 1e9, 2)

  local snapshot = first:snapshot()
  first:clock():set(2e9)
  first:restore(snapshot)
  t:assert_near(first:clock():get(), 1e9 - 3600, 60, "a restore brings back the time of the snapshot")
  first:reset()
  t:assert_near(first:clock():get(), os.time(), 30, "a reset sets the host's time")
  first:shutdown()
  first:boot()
  t:assert_near(first:clock():get(), os.time(), 30, "and so does a boot")
end)

test("sleep is by the guest's own passing time, whatever the clock is set to", function(t)
  local clock = vm:clock()
  local began = vm:uptime()
  local sleeping = co.spawn(function()
    clock:sleep("1500ms")
    return vm:uptime() - began
  end)
  host.sleep(0.1)
  clock:advance("10h")
  clock:advance("-20h")
  host.sleep(0.1)
  t:assert_eq(sleeping:status(), "running", "a jump of the clock ends no sleep")
  -- A paused guest does not sleep.
  vm:pause()
  local paused = host.now_ns()
  host.sleep(1.5)
  t:assert_eq(sleeping:status(), "running")
  vm:resume()
  local slept = sleeping:join("60s")
  t:assert(slept >= 1.5 and slept < 20, slept)
  t:assert(host.now_ns() - paused >= 1.5e9)
  clock:sleep(0)
  t:assert_raises(function() clock:sleep(-1) end)
end)

test("after a reset expect waits for the new boot, and the log has both", {timeout = "250s"}, function(t)
  local console = vm:console()
  vm:write_file("/dev/kmsg", "<1>only once\n")
  console:expect("only once", "60s")
  vm:reset()
  console:expect("Linux version", "60s")
  local err = tostring(t:assert_raises(function() console:expect("only once", "300ms") end))
  local seen = err:match("`only once`; its end since the last boot or reset:\n(.*)")
  t:assert(seen and not seen:find("only once", 1, true), "the old text was not searched, and is not shown")
  t:assert_eq(console:expect_any({"only once", "Linux version"}, "1s"), 2)
  t:assert_eq(console:count("only once"), 1)
  t:assert(console:count("Linux version") >= 2)
end)

test("never of a paused VM, and the end of a log that is one long line", {timeout = "200s"}, function(t)
  local vm = provium:vm("paused", "default"):boot()
  vm:pause()
  local err = tostring(t:assert_raises(function() vm:console():never("x", "100ms") end))
  t:assert_contains(err, "never(\"x\"): the VM is paused")
  vm:resume()
  vm:check("head -c 3000 /dev/zero | tr '\\0' y > /dev/ttyS0; echo > /dev/ttyS0")
  err = tostring(t:assert_raises(function() vm:console():expect("not there", "100ms") end))
  t:assert_contains(err, "yyyy")
end)
