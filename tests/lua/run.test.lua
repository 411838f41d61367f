-- Commands: every shape of vm:run, what comes back, and what does not.
local vm = provium:vm("v", "default"):boot()

test("a string is a shell command", function(t)
  local r = vm:run("echo out; echo err >&2; exit 3")
  t:assert_eq(r.stdout, "out\n")
  t:assert_eq(r.stderr, "err\n")
  t:assert_eq(r.exit_code, 3)
  t:assert_eq(r.status, "exited")
  t:assert_eq(r.signal, nil)
  t:assert_eq(r.timed_out, false)
  t:assert_eq(r:ok(), false)
end)

test("a program and a list of arguments run without a shell", function(t)
  t:assert_eq(vm:run("echo", {"a b", "$HOME"}).stdout, "a b $HOME\n")
  t:assert_eq(vm:run({"printf", "%s|", "x", "y z"}).stdout, "x|y z|")
end)

test("options: args, env, cwd, stdin", function(t)
  local r = vm:run("sh", {args = {"-c", "echo $A; pwd; cat"}, env = {A = "one"}, cwd = "/tmp", stdin = "fed"})
  t:assert_eq(r.stdout, "one\n/tmp\nfed")
  t:assert_eq(vm:run("echo $A", {env = {A = "shell"}}).stdout, "shell\n")
  t:assert_eq(vm:run({"sh", "-c", "echo $A"}, {env = {A = "list"}}).stdout, "list\n")
  local clear = vm:run("/bin/busybox", {args = {"env"}, env = {ONLY = "1"}, env_clear = true})
  t:assert_eq(clear.stdout, "ONLY=1\n")
end)

test("standard input is empty unless it is given", function(t)
  t:assert_eq(vm:run("cat").stdout, "")
  t:assert_eq(vm:run("wc -c", {stdin = string.rep("x", 100000)}).stdout:match("%d+"), "100000")
end)

test("output is binary safe", function(t)
  local all = {}
  for byte = 0, 255 do all[#all + 1] = string.char(byte) end
  local bytes = table.concat(all)
  t:assert_eq(vm:run("cat", {stdin = bytes}).stdout, bytes)
end)

test("a signalled command says so", function(t)
  local r = vm:run("kill -KILL $$")
  t:assert_eq(r.status, "signalled")
  t:assert_eq(r.signal, 9)
  t:assert_eq(r.exit_code, -1)
end)

test("a command past its time is killed, and what it printed is kept", function(t)
  local r = vm:run("echo early; sleep 600; echo late", {timeout = "10s"})
  t:assert_eq(r.status, "timed_out")
  t:assert_eq(r.exit_code, -2)
  t:assert_eq(r.timed_out, true)
  t:assert_eq(r.stdout, "early\n")
  t:assert(r.duration < 300, "it was not waited for")
  t:assert_eq(vm:run("ps | grep '[s]leep 600'").stdout, "", "the whole group is gone")
end)

test("timeout_ms is the same in milliseconds", function(t)
  t:assert_eq(vm:run("sleep 60", {timeout_ms = 300}).status, "timed_out")
end)

test("assert_ok gives the result back, or tells everything", function(t)
  t:assert_eq(vm:run("echo fine"):assert_ok().stdout, "fine\n")
  local err = t:assert_raises(function() vm:run("echo what; echo why >&2; exit 4"):assert_ok() end)
  for _, part in ipairs{"exit 4", "what", "why", "4"} do t:assert_contains(tostring(err), part) end
  local killed = t:assert_raises(function() vm:run("kill -TERM $$"):assert_ok() end)
  t:assert_contains(tostring(killed):lower(), "term")
end)

test("check gives the result back, or raises with the end of the output", function(t)
  t:assert_eq(vm:check("echo fine").stdout, "fine\n")
  t:assert_eq(vm:check("cat", {stdin = "in"}).stdout, "in")
  local err = t:assert_raises(function() vm:check("sh", {"-c", "seq 1 4000; echo why >&2; exit 4"}) end)
  for _, part in ipairs {"vm `v`: check(", "exited with 4", "\n4000\n", "3960 more lines in ", "stderr: why"} do
    t:assert_contains(tostring(err), part)
  end
  t:assert(not tostring(err):find("\n1\n2\n3\n", 1, true), "the start of the output is left out")
  local worker = vm:spawn_worker()
  t:assert_eq(worker:check("echo from a worker").stdout, "from a worker\n")
  t:assert_raises(function() worker:check({"false"}) end)
end)

test("an assertion about the end of a command shows the command", function(t)
  for _, assert_it in ipairs {
    function() t:assert(vm:run("echo why >&2; exit 4"):ok()) end,
    function() t:assert(
      vm:run("echo why >&2; exit 4"):ok(), "it works"
    ) end,
    function() t:assert_eq(vm:run("echo why >&2; exit 4").exit_code, 0) end,
    function() assert(vm:run("echo why >&2; exit 4"):ok()) end,
  } do
    local err = tostring(t:assert_raises(assert_it))
    t:assert_contains(err, 'run("echo why >&2; exit 4") exited with 4')
    t:assert_contains(err, "stderr: why")
  end
  local ok = vm:run("exit 4"):ok()
  local err = tostring(t:assert_raises(function() t:assert(1 == 2) end))
  t:assert(not ok and not err:find("exited with"), err)
end)

test("a program that is not there is an error of the guest's", function(t)
  local err = t:assert_raises(function() vm:run("/no/such/program", {"arg"}) end)
  t:assert_contains(tostring(err), "ENOENT")
  t:assert_contains(tostring(err), "vm `v`")
end)

test("a background child does not hold the command", function(t)
  local before = host.now_ns()
  vm:run("sleep 300 &"):assert_ok()
  t:assert((host.now_ns() - before) / 1e9 < 200)
  -- The child may not have become `sleep` yet.
  wait_until(function() return vm:run("killall sleep"):ok() end, {timeout = 60, desc = "the child is killed"})
end)

test("zombies are reaped", function(t)
  vm:run("(sleep 0.1 & sleep 0.1 & exec true) ; true"):assert_ok()
  wait_until(function()
    return vm:run("ps -o stat,comm | grep -c '^Z' || true").stdout:match("%d+") == "0"
  end, {timeout = 60, desc = "no zombies"})
end)

test("another user", function(t)
  t:assert_eq(vm:run("id -u", {user = "nobody"}).stdout, "65534\n")
  t:assert_eq(vm:run("id -u", {user = "1234"}).stdout, "1234\n")
end)

test("a terminal of its own", function(t)
  t:assert_eq(vm:run("test -t 1 && echo tty").stdout, "")
  t:assert_contains(vm:run("test -t 1 && test -t 0 && echo tty", {tty = true}).stdout, "tty")
end)

test("a terminal's output is complete, also of a busy guest with the terminal still open", function(t)
  local busy = {}
  for i = 1, 8 do busy[i] = vm:run_async("while :; do :; done") end
  for i = 1, 20 do
    t:assert_eq(vm:run("trap '' HUP; sleep 300 & echo " .. i, {tty = true}).stdout, i .. "\r\n")
  end
  for _, process in ipairs(busy) do process:kill() end
  vm:run("killall sleep")
end)

test("bad calls are refused at the author's line", function(t)
  local err = t:assert_raises(function() vm:run("true", {timout = 1}) end)
  t:assert_contains(tostring(err), "timout")
  t:assert_contains(tostring(err), "timeout")
  t:assert_contains(tostring(err), "run.test.lua:")
  t:assert_raises(function() vm:run() end)
  t:assert_raises(function() vm:run("true", {timeout = -1}) end)
  t:assert_raises(function() vm:run("true", {timeout = 0/0}) end)
  t:assert_raises(function() vm:run("true", {timeout = "5 parsecs"}) end)
  t:assert_raises(function() vm:run("true", {env = "A=1"}) end)
end)

test("methods are plain functions, too", function(t)
  local ok, err = pcall(vm.read_file, vm, "/nope")
  t:assert_eq(ok, false)
  t:assert_contains(tostring(err), [[read_file("/nope"): ENOENT (No such file or directory)]])
  t:assert_eq(vm.run(vm, "echo x").stdout, "x\n")
end)

test("arguments that no kernel takes are E2BIG, and are not sent", function(t)
  for _, call in ipairs{
    function() vm:run("true", {("x"):rep(100000000)}) end,
    function() vm:run("true", {args = {}, env = {BIG = ("x"):rep(140000)}}) end,
    function() vm:run_async(": " .. ("x"):rep(140000)) end,
    function()
      local many = {"true"}
      for i = 1, 70 do many[#many + 1] = ("x"):rep(100000) end
      vm:run(many)
    end,
  } do
    local err = tostring(t:assert_raises(call))
    t:assert_contains(err, "E2BIG (Argument list too long)")
    t:assert_contains(err, "the limit of Linux is")
  end
  t:assert_eq(#vm:run("echo", {("x"):rep(100000)}).stdout, 100001)
end)

test("a shell that is missing is what the error names", function(t)
  vm:rename("/bin/sh", "/bin/sh.away")
  t:defer(function() vm:rename("/bin/sh.away", "/bin/sh") end)
  for _, call in ipairs{function() vm:run("ls /") end, function() vm:run_async("ls /") end} do
    local err = tostring(t:assert_raises(call))
    t:assert_contains(err, "ENOENT")
    t:assert_contains(err, "/bin/sh")
  end
  local out = vm:batch(function(b) b:run("ls /") end)
  t:assert_contains(tostring(out[1].err), "/bin/sh")
  local err = tostring(t:assert_raises(function() vm:run({"/no/such"}) end))
  t:assert(not err:find("/bin/sh", 1, true), err)
end)
