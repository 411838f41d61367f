-- The calls that the torture draws from. Each is a function of a context and checks everything that it
-- gets back; it raises when something is wrong and leaves nothing behind.
--
-- Each kind sleeps for a number of seconds of its own, so that what is left behind shows where it is from.
--
-- A context holds `t`, `vm`, the task's generator `random`, a folder `dir` of the task's own and
-- `name()`, which gives a path below it that was never used before.
local calls = {}

local function eq(got, want, what)
  if got == want then return end
  local function shown(value)
    value = type(value) == "string" and ("%q (%d bytes)"):format(value:sub(1, 80), #value) or tostring(value)
    return value
  end
  error(("%s: got %s, expected %s"):format(what, shown(got), shown(want)), 0)
end

local function size_of(random) return random:pick{0, 1, 17, 4095, 4096, 4097, 65536, random:int(1, 300000)} end

-- Commands ---------------------------------------------------------------------------------------

function calls.shell_command(c)
  local token = c.random:int(1, 1 << 40)
  local r = c.vm:run(("echo out %d; echo err %d >&2; exit %d"):format(token, token, token % 100))
  eq(r.stdout, ("out %d\n"):format(token), "stdout")
  eq(r.stderr, ("err %d\n"):format(token), "stderr")
  eq(r.exit_code, token % 100, "exit code")
end

function calls.direct_command(c)
  local token = tostring(c.random:next())
  eq(c.vm:run({"echo", token, "a b", ""}).stdout, token .. " a b \n", "stdout")
end

function calls.standard_input(c)
  local bytes = c.random:bytes(size_of(c.random))
  eq(c.vm:run("cat", {stdin = bytes}).stdout, bytes, "what cat repeated")
end

function calls.both_outputs(c)
  local lines = c.random:int(1, 400)
  local r = c.vm:run(("i=0; while [ $i -lt %d ]; do echo $i; echo e$i >&2; i=$((i+1)); done"):format(lines))
  local out, err = {}, {}
  for i = 0, lines - 1 do out[#out + 1], err[#err + 1] = i .. "\n", "e" .. i .. "\n" end
  eq(r.stdout, table.concat(out), "stdout")
  eq(r.stderr, table.concat(err), "stderr")
end

function calls.signalled(c)
  local r = c.vm:run("kill -USR1 $$; sleep 5")
  eq(r.status .. " " .. tostring(r.signal) .. " " .. r.exit_code, "signalled 10 -1", "end of the command")
end

function calls.timed_out(c)
  local r = c.vm:run("echo before; sleep 60", {timeout = 0.2 + c.random:int(0, 30) / 100})
  eq(r.status .. " " .. r.exit_code, "timed_out -2", "end of the command")
end

function calls.environment(c)
  local value = tostring(c.random:next())
  local r = c.vm:run("echo $V; pwd", {env = {V = value}, cwd = c.dir})
  eq(r.stdout, value .. "\n" .. c.dir .. "\n", "environment and folder")
end

function calls.as_user(c)
  eq(c.vm:run("id -u; echo said > /dev/stdout", {user = 65534}).stdout, "65534\nsaid\n", "as another user")
end

function calls.terminal(c)
  eq(c.vm:run("test -t 0 && test -t 1 && echo yes", {tty = true}).stdout, "yes\r\n", "terminal")
end

function calls.missing_program(c)
  local ok, why = pcall(c.vm.run, c.vm, {"/no/such/program"})
  eq(ok, false, "a missing program")
  if not tostring(why):find("ENOENT", 1, true) then error("no ENOENT in: " .. tostring(why), 0) end
end

function calls.background_job(c)
  local began = host.now_ns()
  eq(c.vm:run("sleep 3 & echo on").stdout, "on\n", "stdout")
  if host.now_ns() - began > 2.9e9 then c.slow = (c.slow or 0) + 1 end
end

-- Processes --------------------------------------------------------------------------------------

function calls.process(c)
  local code = c.random:int(0, 255)
  local p = c.vm:run_async(("echo on; exit %d"):format(code))
  local r = p:wait("60s")
  eq(r.stdout .. r.exit_code, "on\n" .. code, "process")
  eq(p:status(), "exited", "status")
end

function calls.process_input(c)
  local p = c.vm:run_async("while read line; do echo got $line; done")
  local out = p:stdout_stream()
  for i = 1, c.random:int(1, 5) do
    p:stdin_write(i .. "\n")
    eq(out:read_until("\n", 60), ("got %d\n"):format(i), "answer")
  end
  p:close_stdin()
  eq(p:wait("60s").exit_code, 0, "exit code")
  out:close()
end

function calls.process_killed(c)
  local p = c.vm:run_async("sleep 614")
  if c.random:chance(50) then p:status() end
  p:kill(c.random:pick{"term", "kill", "int", 15})
  local r = p:wait("60s")
  eq(r.status, "signalled", "end of a killed process")
end

function calls.process_closed(c)
  local p = c.vm:run_async("sleep 615 & sleep 615")
  if c.random:chance(50) then host.sleep(c.random:int(0, 20) / 1000) end
  p:close()
  eq(p:status() ~= "running", true, "a closed process runs")
end

function calls.abandoned_command(c)
  local vm = c.vm
  local task = co.spawn(function() vm:run("sleep 616") end)
  host.sleep(c.random:int(0, 40) / 1000)
  task:cancel()
end

-- Files ------------------------------------------------------------------------------------------

function calls.whole_file(c)
  local path, bytes = c.name(), c.random:bytes(size_of(c.random))
  c.vm:write_file(path, bytes)
  eq(c.vm:stat(path).size, #bytes, "size")
  eq(c.vm:read_file(path), bytes, "content")
  c.vm:unlink(path)
  eq(pcall(c.vm.stat, c.vm, path), false, "stat of an unlinked file")
end

function calls.appended_file(c)
  local path, parts = c.name(), {}
  for i = 1, c.random:int(1, 4) do
    parts[i] = c.random:bytes(c.random:int(1, 5000))
    c.vm:write_file(path, parts[i], {append = true})
  end
  eq(c.vm:read_file(path), table.concat(parts), "content")
  c.vm:unlink(path)
end

function calls.folder(c)
  local path, names = c.name(), {}
  c.vm:mkdir(path)
  for i = 1, c.random:int(0, 6) do
    names[i] = "f" .. i
    c.vm:write_file(path .. "/f" .. i, "")
  end
  local found = {}
  for _, entry in ipairs(c.vm:listdir(path)) do found[#found + 1] = entry.name end
  table.sort(found)
  eq(table.concat(found, " "), table.concat(names, " "), "entries")
  c.vm:run({"rm", "-r", path}):assert_ok()
end

function calls.renamed_file(c)
  local from, to, link = c.name(), c.name(), c.name()
  c.vm:write_file(from, from)
  c.vm:rename(from, to)
  c.vm:symlink(to, link)
  eq(c.vm:readlink(link), to, "link")
  eq(c.vm:read_file(link), from, "content behind the link")
  c.vm:unlink(link)
  c.vm:unlink(to)
end

function calls.open_file(c)
  local path, bytes = c.name(), c.random:bytes(c.random:int(1, 20000))
  local f = c.vm:open_file(path, {read = true, write = true, create = true})
  eq(f:write(bytes), #bytes, "written")
  local offset = c.random:int(0, #bytes)
  f:seek(offset, "set")
  eq(f:tell(), offset, "offset")
  eq(f:read_all(), bytes:sub(offset + 1), "content")
  f:close()
  eq(f:fd(), 0, "descriptor of a closed file")
  c.vm:unlink(path)
end

function calls.tail(c)
  local path = c.name()
  c.vm:write_file(path, "begin\n")
  local tail = c.vm:tail_file(path, {start = "beginning"})
  tail:expect("begin\n", 60)
  local token = tostring(c.random:next())
  c.vm:write_file(path, token .. "\n", {append = true})
  eq(tail:read_until("\n", 60), token .. "\n", "appended line")
  tail:close()
  c.vm:unlink(path)
end

-- Raw calls --------------------------------------------------------------------------------------

function calls.raw_pipe(c)
  local who = c.vm
  local r = who:syscall("pipe2", {args = {0, 0}, bufs = {{out = 8}}, ptrs = {0}})
  eq(r.ret, 0, "pipe2")
  local from, to = string.unpack("<i4i4", r.out_bufs[1])
  local bytes = c.random:bytes(c.random:int(1, 4096))
  eq(who:syscall("write", {args = {to, 0, #bytes}, bufs = {bytes}, ptrs = {1}}).ret, #bytes, "write")
  local back = who:syscall("read", {args = {from, 0, #bytes}, bufs = {{out = #bytes}}, ptrs = {1}})
  eq(back.out_bufs[1], bytes, "what came through the pipe")
  eq(who:syscall("close", from).ret + who:syscall("close", to).ret, 0, "close")
end

function calls.pending_call(c)
  local r = c.vm:syscall("pipe2", {args = {0, 0}, bufs = {{out = 8}}, ptrs = {0}})
  local from, to = string.unpack("<i4i4", r.out_bufs[1])
  local pending = c.vm:syscall_async("read", {args = {from, 0, 8}, bufs = {{out = 8}}, ptrs = {1}})
  if c.random:chance(30) then
    pending:cancel()
  else
    eq(c.vm:syscall("write", {args = {to, 0, 5}, bufs = {"hello"}, ptrs = {1}}).ret, 5, "write")
    local got = pending:await(60)
    eq(got.ret .. got.out_bufs[1]:sub(1, 5), "5hello", "what the pending read got")
  end
  c.vm:syscall("close", from)
  c.vm:syscall("close", to)
end

function calls.raw_error(c)
  local r = c.vm:syscall("close", 60000)
  eq(r.ret .. " " .. r.errname, "-1 EBADF", "close")
end

function calls.batch(c)
  local path, bytes = c.name(), c.random:bytes(c.random:int(0, 9000))
  local out = c.vm:batch(function(b)
    b:write_file(path, bytes)
    b:read_file(path)
    b:run("echo in batch; exit 4")
    b:stat(path)
    b:unlink(path)
    b:stat(path)
  end)
  eq(#out, 6, "results")
  eq(out[2].ok, bytes, "content")
  eq(out[3].ok.stdout .. out[3].ok.exit_code, "in batch\n4", "command")
  eq(out[4].ok.size, #bytes, "size")
  eq(out[6].err ~= nil, true, "stat of an unlinked file")
end

-- Workers ----------------------------------------------------------------------------------------

function calls.worker(c)
  local w = c.vm:spawn_worker()
  eq(w:syscall("getpid").ret, w:pid(), "pid")
  eq(w:syscall("chdir", {bufs = {c.dir .. "\0"}, ptrs = {0}}).ret, 0, "chdir")
  eq(w:run("pwd").stdout, c.dir .. "\n", "folder of a worker's command")
  local p = w:run_async("exit 3")
  p:wait("60s")
  eq(w:join(), 3, "join")
end

function calls.worker_closed(c)
  local w = c.vm:spawn_worker()
  for _ = 1, c.random:int(0, 3) do w:run_async("sleep 628") end
  if c.random:chance(50) then w:kill(c.random:pick{"term", "kill"}) end
  w:close()
  eq(pcall(w.run, w, "true"), false, "a command of a closed worker")
end

function calls.worker_killed(c)
  local w = c.vm:spawn_worker()
  local task = co.spawn(function() return pcall(w.run, w, "sleep 629") end)
  host.sleep(c.random:int(0, 10) / 1000)
  eq(c.vm:syscall("kill", w:pid(), 9).ret, 0, "kill of a worker")
  eq(task:join("60s"), false, "a command of a killed worker")
  w:close()
end

function calls.worker_file(c)
  local path, token = c.name(), tostring(c.random:next())
  local w = c.vm:spawn_worker()
  local f = w:open_file(path, {read = true, write = true, create = true})
  f:write(token)
  eq(c.vm:read_file(path), token, "content")
  eq(w:syscall("lseek", f:fd(), 0, 0).ret, 0, "lseek")
  eq(f:read(100), token, "content through the worker's file")
  w:close()
  c.vm:unlink(path)
end

return calls
