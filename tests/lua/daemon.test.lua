-- Daemons: waiting until they run, talking to them, clients on the host, directories of files for them.
local machines = require "helpers.machines"

local vm = provium:vm("v", "default"):boot()

-- An echo server that serves any number of clients.
vm:run_async("nc -ll -p 7 -e cat")
vm:wait_for{port = 7, timeout = "60s"}

-- A folder of the host, deleted when the test ends.
local function host_folder(t)
  local path = os.tmpname()
  os.remove(path)
  t:assert(os.execute("mkdir '" .. path .. "'"), "a folder on the host")
  t:defer(function() os.execute("chmod -R u+rwx '" .. path .. "'; rm -rf '" .. path .. "'") end)
  return path
end

local function shell(t, command)
  t:assert(os.execute(command), command)
end

local function raises(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
  return err
end

test("exists follows links and knows what is absent", function(t)
  vm:write_file("/tmp/there", "")
  vm:symlink("/tmp/there", "/tmp/link")
  vm:symlink("/tmp/nowhere", "/tmp/dangling")
  t:assert_eq(vm:exists("/tmp/there"), true)
  t:assert_eq(vm:exists("/tmp/link"), true)
  t:assert_eq(vm:exists("/tmp/dangling"), false)
  t:assert_eq(vm:exists("/tmp/nowhere"), false)
  t:assert_eq(vm:exists("/tmp/there/below"), false, "ENOTDIR")
  vm:symlink("/tmp/loop", "/tmp/loop")
  raises(t, function() vm:exists("/tmp/loop") end, "ELOOP")
end)

test("wait_for gives what it has found", function(t)
  vm:run_async("sleep 0.3; printf abc > /tmp/late")
  local stat = vm:wait_for{file = "/tmp/late", timeout = "60s"}
  t:assert_eq(stat.entry_type, "file")
  t:assert_eq(vm:wait_for{port = 7}, true)

  local sleeps = {vm:run_async({"sleep", "1001"}), vm:run_async({"sleep", "1002"})}
  local first, second, third = vm:wait_for{process = "sleep"}
  t:assert_same({first, second}, {sleeps[1]:pid(), sleeps[2]:pid()})
  t:assert_eq(third, nil)
  for _, process in ipairs(sleeps) do process:kill("kill") end

  local result = vm:wait_for{succeeds = "test -s /tmp/late && cat /tmp/late", timeout = "60s"}
  t:assert_eq(result.stdout, "abc")
  t:assert_eq(vm:wait_for{succeeds = {"echo", "a b"}}.stdout, "a b\n")
end)

test("wait_for a server does not connect to it", function(t)
  -- It serves one client and ends.
  local once = vm:run_async("echo hello | nc -l -p 8")
  vm:wait_for{port = 8, timeout = "60s"}
  t:assert_eq(once:status(), "running")
  t:assert_eq(vm:connect(8):read_until("\n", "60s"), "hello\n")
end)

test("wait_for says what it has seen last", function(t)
  raises(t, function() vm:wait_for{file = "/tmp/never", timeout = "200ms"} end,
    'wait_for{file = "/tmp/never"}', "timed out after 200ms", "last: ENOENT")
  raises(t, function() vm:wait_for{port = 9, timeout = 0.1} end, "last: ECONNREFUSED")
  raises(t, function() vm:wait_for{socket = "/tmp/never", timeout = 0.1} end, "last: ENOENT")
  raises(t, function() vm:wait_for{process = "never", timeout = 0.1} end, "last: ESRCH")
  raises(t, function() vm:wait_for{succeeds = "echo not yet >&2; exit 3", timeout = 10} end,
    "last: exit code 3, stderr: not yet")
  raises(t, function() vm:wait_for{succeeds = {"no-such-program"}, timeout = 2} end, "last:", "ENOENT")
  raises(t, function() vm:wait_for{succeeds = "sleep 1000", timeout = 0.3} end, "last: still running")
end)

test("wait_for takes exactly one condition", function(t)
  raises(t, function() vm:wait_for{timeout = 1} end, "exactly one of `file`, `socket`", "got none")
  raises(t, function() vm:wait_for{file = "/a", port = 1} end, "got file and port")
  raises(t, function() vm:wait_for{files = "/a"} end, "did you mean `file`?")
  raises(t, function() vm:wait_for{port = 0} end, "from 1 to 65535")
  raises(t, function() vm:wait_for{file = "/a", interval = 0} end, "`interval`")
end)

test("a wait ends with its task", function(t)
  local waiting = co.spawn(function() vm:wait_for{file = "/tmp/never", timeout = "300s"} end)
  waiting:cancel()
  pcall(waiting.join, waiting, "30s")
  t:assert_eq(waiting:status(), "cancelled")
end)

test("a VM that dies ends a wait, and says how", function(t)
  local dying = provium:vm("dying", "default"):boot()
  local waiting = co.spawn(function()
    return pcall(dying.wait_for, dying, {file = "/never", timeout = "300s"})
  end)
  machines.end_by(dying, "poweroff -f")
  local ok, err = waiting:join("60s")
  t:assert_eq(ok, false)
  t:assert_match(tostring(err), "dead")
end)

test("a connection is a stream in both directions", function(t)
  local conn = vm:connect(7)
  t:assert_match(tostring(conn), "connection to port 7 of vm `v`")
  t:assert_eq(conn:send("key=value; rest\n"), 16)
  t:assert_eq(conn:expect_match("(%w+)=value", "60s"), "key")
  t:assert_eq(conn:read_until("\n", "60s"), "; rest\n")
  t:assert_eq(conn:eof(), false)
  conn:send("last")
  conn:close_write()
  t:assert_eq(conn:read_until("last", "60s"), "last")
  t:assert_eq(conn:next("60s"), nil)
  t:assert_eq(conn:eof(), true)
  raises(t, function() conn:read_until("x", 1) end, "EOF")
  raises(t, function() conn:send("more") end, "clos")
  t:assert_contains(conn:creation_site().file, "daemon.test.lua")
end)

test("much data passes, as fast as it is read", function(t)
  local conn = vm:connect(7)
  local data = string.rep("0123456789abcdef", 131072)
  local sending = co.spawn(function()
    conn:send(data)
    conn:close_write()
  end)
  local pieces = {}
  for piece in function() return conn:next("60s") end do pieces[#pieces + 1] = piece end
  sending:join()
  t:assert(table.concat(pieces) == data, "2 MiB come back as they were sent")
end)

test("what was sent before close arrives", function(t)
  vm:run_async("nc -l -p 10 > /tmp/received")
  vm:wait_for{port = 10, timeout = "60s"}
  local conn = vm:connect(10)
  conn:send(string.rep("x", 500000))
  conn:close()
  conn:close()
  vm:wait_for{succeeds = "test $(stat -c %s /tmp/received) = 500000", timeout = "60s"}
  raises(t, function() conn:send("x") end, "connection closed")
  raises(t, function() conn:read_until("x") end, "connection closed")
  t:assert_eq(conn:next(), nil)
end)

test("a refused connection raises at once", function(t)
  raises(t, function() vm:connect(9) end, "connect(9)", "ECONNREFUSED")
  raises(t, function() vm:connect("unix:/tmp/none") end, 'connect("unix:/tmp/none")', "ENOENT")
  raises(t, function() vm:connect("/tmp/none") end, 'or "unix:/path"')
  raises(t, function() vm:connect(70000) end, "65535")
end)

test("a reset is an error and no end", function(t)
  local server = vm:run_async("nc -l -p 11 -e sleep 1000")
  vm:wait_for{port = 11, timeout = "60s"}
  local conn = vm:connect(11)
  conn:send("this is not read")
  -- Data that has arrived and is not read makes the end of the server a reset.
  vm:wait_for{succeeds = "netstat -tn | grep -q '^tcp *16 .*:11 '", timeout = "60s"}
  server:kill("kill")
  raises(t, function() conn:next("60s") end, "ECONNRESET")
  raises(t, function() conn:send("more") end, "ECONNRESET")
end)

test("sockets of the Unix domain, by path and by name", function(t)
  for _, name in ipairs{"/tmp/unix", "@unix"} do
    local listener = vm:syscall("socket", 1, 1, 0).ret
    local address = string.pack("<I2", 1) .. (name:sub(1, 1) == "@" and "\0" .. name:sub(2) or name .. "\0")
    local bind = {args = {listener, 0, #address}, bufs = {address}, ptrs = {1}}
    t:assert_eq(vm:syscall("bind", bind).ret, 0)
    raises(t, function() vm:wait_for{socket = name, timeout = 0.1} end, "ECONNREFUSED")
    t:assert_eq(vm:syscall("listen", listener, 5).ret, 0)
    t:assert_eq(vm:wait_for{socket = name}, true)
    local conn = vm:connect("unix:" .. name)
    local peer = vm:syscall("accept", listener, 0, 0).ret
    local stream = vm:fd_stream(peer)
    conn:send("to the server")
    t:assert_eq(stream:read_until("server", "60s"), "to the server")
    stream:close()
    vm:syscall("close", peer)
    t:assert_eq(conn:next("60s"), nil)
    t:assert_eq(conn:eof(), true)
    vm:syscall("close", listener)
  end
end)

test("an open connection counts, and a snapshot refuses it", function(t)
  t:assert_eq(vm:open_stream_count(), 0, "those of earlier tests were closed")
  local conn = vm:connect(7)
  t:assert_eq(vm:open_stream_count(), 1)
  raises(t, function() vm:snapshot() end, "connection to port 7 of vm `v`", "daemon.test.lua")
  conn:close()
  t:assert_eq(vm:open_stream_count(), 0)
end)

test("a worker connects from its own network", function(t)
  local worker = vm:spawn_worker{namespaces = {"net"}}
  raises(t, function() worker:connect(7) end, "connect(7)", "worker")
  raises(t, function() worker:wait_for{port = 7, timeout = 0.1} end, "last: E")
  local plain = vm:spawn_worker()
  local conn = plain:connect(7)
  conn:send("x")
  t:assert_eq(conn:read_until("x", "60s"), "x")
end)

test("a client of the host talks to a server of the guest", function(t)
  if not os.execute("command -v curl > /dev/null") then t:skip("needs curl on the host") end
  vm:mkdir("/tmp/www")
  vm:write_file("/tmp/www/index.html", "from the guest\n")
  vm:run_async("httpd -f -p 80 -h /tmp/www")
  vm:wait_for{port = 80, timeout = "60s"}
  local address = vm:forward(80)
  t:assert_match(address, "^127%.0%.0%.1:%d+$")
  -- These block the thread of the test, and the server is reached all the same.
  local page = io.popen("curl -s --max-time 60 http://" .. address .. "/"):read("a")
  t:assert_eq(page, "from the guest\n")
  local refused = vm:forward(81)
  t:assert_eq(os.execute("curl -s --max-time 60 http://" .. refused .. "/"), nil)
end)

test("a directory comes back as it was pushed", function(t)
  local folder = host_folder(t)
  local from, to = folder .. "/from", folder .. "/to"
  shell(t, string.format([[
    cd '%s' && mkdir -p from/sub/empty && printf content > from/sub/file && chmod 640 from/sub/file &&
    ln -s sub/file from/link && ln -s /nowhere from/dangling && truncate -s 64M from/sparse &&
    printf end >> from/sparse && mkfifo from/fifo && touch -d @1000000000 from/sub/file from/sub &&
    touch -h -d @1000000001 from/link && chmod 550 from/sub]], folder))
  local pushed = vm:push_dir(from, "/tmp/trees/deep")
  t:assert_same(pushed.skipped, {"fifo"})
  t:assert_same({pushed.files, pushed.directories, pushed.links}, {2, 2, 2})
  local file = vm:stat("/tmp/trees/deep/sub/file")
  t:assert_same({file.perm, file.mtime_ns}, {tonumber("640", 8), 1000000000 * 10 ^ 9 // 1})
  local sub = vm:stat("/tmp/trees/deep/sub")
  t:assert_same({sub.perm, sub.mtime}, {tonumber("550", 8), 1e9})
  t:assert_eq(vm:readlink("/tmp/trees/deep/dangling"), "/nowhere")
  t:assert_eq(vm:stat("/tmp/trees/deep/sparse").size, 64 * 2 ^ 20 + 3)
  t:assert(tonumber(vm:check("du -k /tmp/trees/deep/sparse").stdout:match("%d+")) < 1024, "it has holes")

  vm:check("mkfifo /tmp/trees/deep/pipe")
  local pulled = vm:pull_dir("/tmp/trees/deep", to)
  t:assert_same(pulled.skipped, {"pipe"})
  shell(t, string.format("rm '%s/fifo' && diff -r --no-dereference '%s' '%s'", from, from, to))
  local describe = "cd '%s' && find . -printf '%%p %%m %%l %%T@\\n' | sort"
  local function listing(path) return io.popen(describe:format(path)):read("a") end
  -- The time of the top was changed above.
  t:assert_eq(listing(to .. "/sub"), listing(from .. "/sub"))
  local blocks = io.popen("du -k '" .. to .. "/sparse'"):read("a")
  t:assert(tonumber(blocks:match("%d+")) < 1024, "it has holes here, too")
end)

test("what is there is merged, and an error names the path", function(t)
  local folder = host_folder(t)
  shell(t, "cd '" .. folder .. "' && mkdir -p from/dir && echo new > from/dir/file && echo x > from/name")
  vm:mkdir("/tmp/merge/dir", {parents = true, perm = "0700"})
  vm:write_file("/tmp/merge/dir/kept", "kept")
  vm:push_dir(folder .. "/from", "/tmp/merge")
  t:assert_eq(vm:read_file("/tmp/merge/dir/kept"), "kept")
  t:assert_eq(vm:read_file("/tmp/merge/dir/file"), "new\n")
  t:assert_eq(vm:stat("/tmp/merge/dir").perm, tonumber("700", 8))
  vm:unlink("/tmp/merge/name")
  vm:mkdir("/tmp/merge/name")
  raises(t, function() vm:push_dir(folder .. "/from", "/tmp/merge") end, "cannot create `name`: EISDIR")
  raises(t, function() vm:push_dir(folder .. "/none", "/tmp/merge") end, "/none")
  raises(t, function() vm:push_dir(folder .. "/from/name", "/tmp/merge") end, "from/name", "on the host")
  raises(t, function() vm:pull_dir("/tmp/none", folder .. "/to") end, "ENOENT")
  t:assert_eq(os.execute("test -e '" .. folder .. "/to'"), nil, "nothing was created")
end)

test("a guest writes nothing outside of the folder that is pulled into", function(t)
  local folder = host_folder(t)
  shell(t, "cd '" .. folder .. "' && mkdir outside to && ln -s ../outside to/way")
  vm:mkdir("/tmp/escape/way", {parents = true})
  vm:write_file("/tmp/escape/way/file", "x")
  raises(t, function() vm:pull_dir("/tmp/escape", folder .. "/to") end, "to/way")
  shell(t, "test -z \"$(ls -A '" .. folder .. "/outside')\"")
end)
