-- Streams: tails of files and descriptors, and the surface all streams share.
local vm = provium:vm("v", "default"):boot()

test("a tail sees what is added", function(t)
  vm:write_file("/tmp/log", "old\n")
  local tail = vm:tail_file("/tmp/log")
  t:assert_eq(tail:next("300ms"), nil)
  vm:run("echo new >> /tmp/log")
  t:assert_eq(tail:read_until("\n", "60s"), "new\n")
  tail:close()
end)

test("a tail may begin anywhere", function(t)
  vm:write_file("/tmp/log", "0123456789")
  t:assert_eq(vm:tail_file("/tmp/log", {start = "beginning"}):read_until("9", "60s"), "0123456789")
  t:assert_eq(vm:tail_file("/tmp/log", {start = 4}):read_until("9", "60s"), "456789")
  t:assert_eq(vm:tail_file("/tmp/log", {start = -3}):read_until("9", "60s"), "789")
  t:assert_raises(function() vm:tail_file("/tmp/log", {start = "middle"}) end)
  local err = tostring(t:assert_raises(function() vm:tail_file("/tmp/log", {start = 1/0}) end))
  t:assert_contains(err, "option `start`: must be an integer")
  err = tostring(t:assert_raises(function() vm:tail_file("/tmp/log", -3) end))
  t:assert_contains(err, "options must be a table, got -3")
end)

test("a pattern that backtracks ends at its limit, and other tasks run meanwhile", {timeout = "200s"}, function(t)
  vm:write_file("/tmp/log", ("a"):rep(20000))
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  local steps = 0
  local ticker = co.spawn(function()
    while true do
      host.sleep(0.05)
      steps = steps + 1
    end
  end)
  local began = host.now_ns()
  local err = tostring(t:assert_raises(function() tail:expect_match(("a-"):rep(3) .. "b", "2s") end))
  t:assert((host.now_ns() - began) / 1e9 < 100, "it did not wait for the test's limit")
  t:assert(steps >= 3, steps .. " steps of the other task")
  ticker:cancel()
  t:assert_contains(err, "expect_match timed out waiting for `a-a-a-b`")
  t:assert_contains(err, "the pattern backtracks: one try on 20000 bytes")
  tail:expect_match("^a+$", "60s")
end)

test("a stream at its end keeps no snapshot from being taken, and a closed one is not at its end", {timeout = "200s"}, function(t)
  local process = vm:run_async("echo all")
  local out = process:stdout_stream()
  t:assert_eq(process:wait(20):assert_ok().stdout, "all\n")
  t:assert_contains(tostring(t:assert_raises(function() vm:snapshot() end)), "1 stream(s) are open")
  t:assert_eq(table.concat(out:drain("20s")), "all\n")
  t:assert_eq(out:eof(), true)
  t:assert_eq(vm:open_stream_count(), 0)
  vm:snapshot():delete()
  for call, arguments in pairs{drain = {"50s"}, expect = {"never", "50s"}, expect_match = {"never", "50s"}} do
    local tail = vm:tail_file("/proc/version")
    local waiting = co.spawn(function() return tail[call](tail, table.unpack(arguments)) end)
    host.sleep(0.1)
    tail:close()
    t:assert_contains(tostring(t:assert_raises(function() waiting:join("60s") end)), "stream closed", call)
  end
end)

test("messages show bytes as they are", function(t)
  vm:write_file("/tmp/log", "abc\xff" .. ("\0"):rep(400) .. "end")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  local err = tostring(t:assert_raises(function() tail:expect("no\xfe", "100ms") end))
  t:assert_contains(err, "expect(\"no\\xfe\"): ")
  t:assert_contains(err, "waiting for `no\\xfe`")
  t:assert_contains(err, "abc\\xff\\x00 (400 times)end")
  err = tostring(t:assert_raises(function() vm:read_file("/tmp/\xff") end))
  t:assert_contains(err, "read_file(\"/tmp/\\xff\"): ENOENT")
end)

test("what follows a match is kept", function(t)
  vm:write_file("/tmp/log", "alpha beta gamma\n")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  t:assert_eq(tail:expect("beta", "60s"), nil)
  t:assert_eq(tail:read_until("gamma", "60s"), " gamma")
  local key, value = (function()
    vm:run("echo 'key=value;' >> /tmp/log")
    return tail:expect_match("(%w+)=(%w+);", "60s")
  end)()
  t:assert_eq(key, "key")
  t:assert_eq(value, "value")
end)

test("a match that does not come shows what was seen", function(t)
  vm:write_file("/tmp/log", "something else\n")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  local err = tostring(t:assert_raises(function() tail:read_until("never", "500ms") end))
  t:assert_contains(err, "read_until timed out waiting for `never`")
  t:assert_contains(err, "something else")
end)

test("a descriptor's stream ends with its writer", function(t)
  local r = vm:syscall("pipe", {bufs = {{out = 8}}, ptrs = {0}})
  local rd, wr = string.unpack("<i4i4", r.out_bufs[1])
  local stream = vm:fd_stream(rd)
  vm:syscall("write", {args = {wr, 0, 5}, bufs = {"hello"}, ptrs = {1}})
  t:assert_eq(stream:next("60s"), "hello")
  t:assert_eq(stream:eof(), false)
  vm:syscall("close", wr)
  t:assert_eq(stream:next("60s"), nil)
  t:assert_eq(stream:eof(), true)
  t:assert_contains(tostring(t:assert_raises(function() stream:read_until("x", 1) end)), "EOF")
  vm:syscall("close", rd)
end)

test("the stream of an opened file begins at its offset and follows it", function(t)
  vm:write_file("/tmp/log", "before after")
  local f = vm:open_file("/tmp/log", {read = true})
  f:seek(7, "set")
  local stream = f:tail_stream()
  t:assert_eq(stream:read_until("after", "60s"), "after")
  vm:run("echo added >> /tmp/log")
  t:assert_eq(stream:read_until("added\n", "60s"), "added\n")
  t:assert_eq(f:tell(), 7, "its own offset stays")
  t:assert_eq(stream:eof(), false)
end)

test("an opened file is a descriptor for fd_stream, too", function(t)
  vm:write_file("/tmp/whole", "first second")
  local f = vm:open_file("/tmp/whole", {read = true})
  local stream = vm:fd_stream(f)
  t:assert_eq(stream:read_until("second", "60s"), "first second")
  t:assert_eq(stream:next("60s"), nil)
  t:assert_eq(stream:eof(), true)
end)

test("a stream that ends shows the last that it carried", function(t)
  local p = vm:run_async("echo the end is near")
  local err = tostring(t:assert_raises(function() p:stdout_stream():read_until("never", "60s") end))
  t:assert_contains(err, "stream EOF")
  t:assert_contains(err, "the end is near")
  local long = vm:run_async("seq 1 1000"):stdout_stream()
  err = tostring(t:assert_raises(function() long:expect("never", "60s") end))
  t:assert_contains(err, "1000")
  t:assert(not err:find("\n100\n", 1, true), "only the last 512 bytes")
end)

test("drain collects until it is quiet", function(t)
  vm:write_file("/tmp/log", "abc")
  local pieces = vm:tail_file("/tmp/log", {start = "beginning"}):drain("300ms")
  t:assert_eq(table.concat(pieces), "abc")
end)

test("after close: next is nil, the others raise", function(t)
  local tail = vm:tail_file("/proc/version", {start = "beginning"})
  tail:close()
  tail:close()
  t:assert_eq(tail:next(), nil)
  t:assert_eq(tail:eof(), true, "a loop until the end of the stream ends")
  for _, call in ipairs{"read_until", "expect"} do
    local err = t:assert_raises(function() tail[call](tail, "x") end)
    t:assert_contains(tostring(err), "stream closed")
  end
  t:assert_contains(tostring(t:assert_raises(function() tail:drain() end)), "stream closed")
end)

test("a stream knows where it was made", function(t)
  local tail = vm:tail_file("/proc/version")
  local site = tail:creation_site()
  t:assert_contains(site.file, "streams.test.lua")
  t:assert_eq(site.line, debug.getinfo(1, "l").currentline - 3)
  t:assert_eq(vm:open_stream_count(), 1)
  t:assert_eq(vm:is_quiescent(), false)
  tail:close()
  t:assert_eq(vm:is_quiescent(), true)
end)

test("unread streams do not grow without bound", function(t)
  local worker = vm:spawn_worker()
  local zero = worker:open_file("/dev/zero", {read = true})
  -- What the processes behind the streams have read, by the kernel's count.
  local function read_so_far()
    local counts = vm:run("cd /proc; for p in [0-9]*; do grep -q ^pv-op- $p/comm && grep rchar $p/io; done 2>/dev/null")
    local sum = 0
    for count in counts.stdout:gmatch("rchar: (%d+)") do sum = sum + tonumber(count) end
    return sum
  end
  for _ = 1, 4 do
    worker:tail_file("/dev/zero", {start = "beginning"})
    worker:fd_stream(zero)
  end
  local at_rest = wait_until(function()
    local before = read_so_far()
    vm:run("sleep 2")
    return read_so_far() == before and before
  end, {timeout = 60, desc = "the guest's side has stopped reading"})
  t:assert(at_rest > 0 and at_rest < 64 * 2^20, ("%.1f MiB were read"):format(at_rest / 2^20))
  t:assert_eq(#vm:run("head -c 20000000 /dev/zero").stdout, 20000000, "other calls work")
  t:assert_eq(read_so_far(), at_rest)
  t:log(("%.1f MiB were read for eight streams"):format(at_rest / 2^20))
end)

test("an unread stream does not delay other calls", function(t)
  local p = vm:run_async("cat /dev/zero | head -c 20000000; echo done >&2")
  local idle = p:stdout_stream()
  local fifo = vm:tail_file("/dev/zero", {start = "beginning"})
  t:assert_eq(vm:run("echo quick").stdout, "quick\n")
  p:stderr_stream():read_until("done", "60s")
  idle:close()
  fifo:close()
end)

test("a pattern behind 16 MiB is found in about the time that they take to come", {timeout = "250s"}, function(t)
  vm:run("head -c 16777216 /dev/zero | tr '\\0' a > /tmp/big; echo '#key=42;rest' >> /tmp/big"):assert_ok()
  local size = 16777216 + #"#key=42;rest\n"
  local plain = vm:tail_file("/tmp/big", {start = "beginning"})
  local text
  local came = require("helpers.timing").seconds(function() text = plain:read_until("rest\n", 60) end)
  plain:close()
  -- The pattern is tried again when the text has grown by half, so all tries together cost a few of the last one.
  local try = require("helpers.timing").seconds(function() t:assert(text:find("#key=(%d+);")) end)
  text = nil

  -- The file's other tasks run meanwhile.
  local longest, last, done = 0, host.now_ns(), false
  local ticking = co.spawn(function()
    while not done do
      host.sleep(0.02)
      longest, last = math.max(longest, host.now_ns() - last), host.now_ns()
    end
  end)
  local tail = vm:tail_file("/tmp/big", {start = "beginning"})
  local key
  local took = require("helpers.timing").seconds(function() key = tail:expect_match("#key=(%d+);", 100) end)
  done = true
  ticking:join("60s")
  t:log(("%.1f s for %d bytes, one try %.1f s, found in %.1f s, others waited %.2f s"):format(came, size, try, took,
    longest / 1e9))
  t:assert_eq(key, "42")
  t:assert_eq(tail:next("60s"), "rest\n")
  t:assert(took < 10 * came + 10 * try + 20, ("it took %.1f s"):format(took))
  t:assert(longest / 1e9 < 3 * try + 15, ("another task waited %.1f s"):format(longest / 1e9))
end)

test("expect passes over more than is kept, and a search that keeps all has a limit", {timeout = "250s"}, function(t)
  local p = vm:run_async("head -c 70000000 /dev/zero; echo behind; exec sleep 1000", {max_output = "100M"})
  p:stdout_stream():expect("behind", 100)
  local err = tostring(t:assert_raises(function() p:stdout_stream():read_until("behind", 100) end))
  t:assert_contains(err, "64 MiB arrived without `behind`")
end)

test("what cannot be read is an error of the call that makes the stream", function(t)
  local function error_of(make)
    return tostring(t:assert_raises(make))
  end
  local missing = error_of(function() vm:tail_file("/tmp/missing") end)
  t:assert_contains(missing, "streams.test.lua:" .. debug.getinfo(1, "l").currentline - 1)
  t:assert_contains(missing, 'tail_file("/tmp/missing"): ENOENT')
  t:assert_contains(error_of(function() vm:tail_file("/tmp") end), "EISDIR")
  t:assert_contains(error_of(function() vm:fd_stream(9999) end), "EBADF")
  local written = vm:open_file("/tmp/written", {write = true, create = true})
  t:assert_contains(error_of(function() vm:fd_stream(written) end), "EBADF")
  t:assert_contains(error_of(function() written:tail_stream() end), "EBADF")
  t:assert_eq(vm:open_stream_count(), 0)
end)

test("a tail of the end has everything that is added after it was made", function(t)
  for round = 1, 10 do
    vm:write_file("/tmp/log", "old\n")
    local tail = vm:tail_file("/tmp/log")
    vm:write_file("/tmp/log", "new " .. round .. "\n", {append = true})
    t:assert_eq(tail:read_until("\n", "60s"), "new " .. round .. "\n")
    tail:close()
  end
end)

-- What has happened to the file of a tail, as one text.
local function changes_of(tail)
  local words = {}
  for _, change in ipairs(tail:changes()) do words[#words + 1] = change.what .. " at " .. change.at end
  return table.concat(words, ", ")
end

test("rotation, truncation and removal are reported, and lose nothing", function(t)
  vm:write_file("/tmp/log", "one\n")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  t:assert_eq(tail:read_until("\n", "60s"), "one\n")
  t:assert_eq(changes_of(tail), "")

  -- In one step, as logrotate does without `create`.
  vm:check("echo two >> /tmp/log; echo three > /tmp/next; mv /tmp/next /tmp/log")
  t:assert_eq(tail:read_until("three\n", "60s"), "two\nthree\n")
  t:assert_eq(changes_of(tail), "replaced at 8")

  vm:check("echo 4 > /tmp/log")
  t:assert_eq(tail:read_until("4\n", "60s"), "4\n")
  t:assert_eq(changes_of(tail), "replaced at 8, truncated at 14")

  vm:unlink("/tmp/log")
  wait_until(function() return changes_of(tail):find("removed", 1, true) end, {timeout = 60})
  vm:write_file("/tmp/log", "five\n")
  t:assert_eq(tail:read_until("five\n", "60s"), "five\n")
  t:assert_eq(changes_of(tail), "replaced at 8, truncated at 14, removed at 16, replaced at 16")

  local err = tostring(t:assert_raises(function() tail:read_until("six", "100ms") end))
  t:assert_contains(err, "the file was truncated after 14 bytes of this stream, removed or renamed after 16")
  t:assert_contains(err, "(earlier changes: 1)")
end)

test("a directory that has the name for a while counts as no file", function(t)
  vm:write_file("/tmp/log", "one\n")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  tail:expect("one\n", "60s")
  vm:check("rm /tmp/log; mkdir /tmp/log")
  wait_until(function() return changes_of(tail) == "removed at 4" end, {timeout = 60})
  -- The guest looks at the name at least twice a second.
  t:assert_eq(tail:next("700ms"), nil, "a directory has nothing to read, which is not an error")
  vm:check("rmdir /tmp/log; echo two > /tmp/log")
  t:assert_eq(tail:read_until("\n", "60s"), "two\n")
  t:assert_eq(changes_of(tail), "removed at 4, replaced at 4")
  tail:close()
  t:assert_contains(tostring(tail), "tail of \"/tmp/log\"")
  t:assert_contains(tostring(tail), "(closed)")
end)

test("a file that is rewritten and is not shorter is read again", function(t)
  vm:write_file("/tmp/state", "state=starting\n")
  local tail = vm:tail_file("/tmp/state", {start = "beginning"})
  tail:expect("starting\n", "60s")
  -- As long as before, in one write; then longer, between two looks.
  vm:check("printf 'state=stopping\\n' | dd of=/tmp/state conv=notrunc status=none")
  t:assert_eq(tail:read_until("\n", "60s"), "state=stopping\n")
  t:assert_eq(changes_of(tail), "rewritten at 15")
  vm:check("printf 'state=stopped by test\\n' | dd of=/tmp/state conv=notrunc status=none")
  t:assert_eq(tail:read_until("test\n", "60s"), "state=stopped by test\n")

  local opened = vm:open_file("/tmp/state", {read = true}):tail_stream()
  opened:expect("test\n", "60s")
  vm:check("echo short > /tmp/state")
  t:assert_eq(opened:read_until("\n", "60s"), "short\n")
  t:assert_eq(changes_of(opened), "truncated at 22")
end)

test("a FIFO is followed through its writers", function(t)
  vm:check("mkfifo /tmp/fifo")
  local tail = vm:tail_file("/tmp/fifo")
  for _, word in ipairs{"first", "second"} do
    vm:check("echo " .. word .. " > /tmp/fifo")
    t:assert_eq(tail:read_until("\n", "60s"), word .. "\n")
  end
  t:assert_eq(tail:eof(), false)
end)

test("a stream that waits for a socket or terminal does not delay other calls", function(t)
  local STREAM, DATAGRAM = 1, 2
  for _, kind in ipairs{STREAM, DATAGRAM} do
    local r = vm:syscall("socketpair", {args = {1, kind, 0, 0}, bufs = {{out = 8}}, ptrs = {3}})
    local ours, theirs = string.unpack("<i4i4", r.out_bufs[1])
    local stream = vm:fd_stream(ours)
    for _ = 1, 3 do
      vm:syscall("write", {args = {theirs, 0, 3}, bufs = {"a\0\xff"}, ptrs = {1}})
      t:assert_eq(stream:read_until("\xff", "60s"), "a\0\xff")
      t:assert_eq(vm:run("echo others").stdout, "others\n")
    end
    stream:close()
  end
  local terminal = vm:tail_file("/dev/ttyS0")
  t:assert_eq(vm:run("echo others").stdout, "others\n")
  terminal:close()
end)

test("texts and patterns are found across the pieces that they come in", function(t)
  vm:write_file("/tmp/log", "")
  local tail = vm:tail_file("/tmp/log")
  local text = co.spawn(function() return tail:read_until("needle", "60s") end)
  for _, piece in ipairs{"hay nee", "d", "le k", "ey=4", "2;"} do
    vm:write_file("/tmp/log", piece, {append = true})
    host.sleep(0.02)
  end
  t:assert_eq(text:join("60s"), "hay needle")
  t:assert_eq(tail:expect_match("key=(%d+);", "60s"), "42")
  t:assert_eq(tail:next("50ms"), nil)
end)

test("binary data comes as it is, in all streams of a file", function(t)
  vm:check("head -c 3000000 /dev/urandom > /tmp/random")
  local sum = vm:check("sha256sum < /tmp/random").stdout:match("%x+")
  local size = vm:stat("/tmp/random").size
  local file = vm:open_file("/tmp/random", {read = true})
  local streams = {
    vm:tail_file("/tmp/random", {start = "beginning"}),
    vm:tail_file("/tmp/random", {start = "beginning"}),
    file:tail_stream(),
    vm:run_async("cat /tmp/random"):stdout_stream(),
  }
  local cut = 0
  for _, stream in ipairs(streams) do
    local pieces, count = {}, 0
    while count < size do
      -- Waits that are cancelled lose nothing.
      local wait = co.spawn(function()
        local piece = stream:next("60s")
        pieces[#pieces + 1], count = piece, count + #piece
      end)
      host.sleep(0.0005)
      if wait:status() == "running" and cut < 20 then
        wait:cancel()
        cut = cut + 1
      else
        wait:join("60s")
      end
    end
    t:assert_eq(hash.sha256(table.concat(pieces)), sum)
  end
end)

test("times and texts at their limits", function(t)
  vm:write_file("/tmp/log", "there")
  local tail = vm:tail_file("/tmp/log", {start = "beginning"})
  tail:expect("the", "60s")
  t:assert_eq(tail:read_until("re", 0), "re", "what is there takes no time")
  t:assert_eq(tail:next(0), nil)
  t:assert_same(tail:drain(0), {})
  for _, time in ipairs{"50ms", "0.05s", 0.05} do t:assert_eq(tail:next(time), nil) end
  local waiting = co.spawn(function() return tail:next("10000h") end)
  host.sleep(0.05)
  vm:write_file("/tmp/log", "more", {append = true})
  t:assert_eq(waiting:join("60s"), "more")
  for call, what in pairs{read_until = "text", expect = "text", expect_match = "pattern"} do
    local function refusal(wanted, time)
      return tostring(t:assert_raises(function() tail[call](tail, wanted, time) end))
    end
    t:assert_contains(refusal(""), "the " .. what .. ": must not be empty")
    t:assert_contains(refusal(("x"):rep(2^20 + 1)), "at most 1 MiB long, got 1048577 bytes")
    t:assert_contains(refusal("x", -1), "negative")
    t:assert_contains(refusal("x", 1/0), "finite")
    t:assert_contains(refusal("x", "soon"), "soon")
  end
  local long = tostring(t:assert_raises(function() tail:expect(("x"):rep(2^20), "100ms") end))
  t:assert(#long < 2000, "a message does not repeat a long text")
end)

test("a malformed pattern raises at once, whatever has come", function(t)
  vm:write_file("/tmp/log", "")
  local tail = vm:tail_file("/tmp/log")
  for pattern, why in pairs{["key=(%d+"] = "unfinished capture", ["[a"] = "missing ']'", ["a%"] = "ends with '%'"} do
    local err = t:assert_raises(function() tail:expect_match(pattern, "1h") end)
    t:assert_contains(err, ("expect_match(): the pattern %q: "):format(pattern))
    t:assert_contains(err, why)
  end
end)

test("tasks that wait on one stream take turns", function(t)
  vm:write_file("/tmp/log", "")
  local tail = vm:tail_file("/tmp/log")
  local first = co.spawn(function() return tail:read_until("first", "60s") end)
  local second = co.spawn(function() return tail:read_until("second", "60s") end)
  host.sleep(0.05)
  vm:write_file("/tmp/log", "second first second")
  t:assert_eq(first:join("60s"), "second first")
  t:assert_eq(second:join("60s"), " second")
  local ahead = co.spawn(function() return tail:read_until("end", "60s") end)
  host.sleep(0.05)
  local err = tostring(t:assert_raises(function() tail:expect("x", "100ms") end))
  t:assert_contains(err, "another task was reading this stream")
  ahead:cancel()
end)

test("100 MB pass through a stream", {timeout = "250s"}, function(t)
  local tail = vm:tail_file("/dev/zero", {start = "beginning"})
  local count, longest = 0, 0
  while count < 100 * 2^20 do
    local piece = tail:next("60s")
    count, longest = count + #piece, math.max(longest, #piece)
  end
  t:assert(longest <= 2^20, longest .. " bytes were held at once")
end)

test("what was dropped of an output that is read too late is said", function(t)
  local p = vm:run_async("seq 1 100000; echo end >&2; exec sleep 1000", {max_output = "64K"})
  p:stderr_stream():expect("end", "60s")
  local stream = p:stdout_stream()
  local err
  repeat
    local ok, piece = pcall(stream.next, stream, "5s")
    if not ok then err = tostring(piece) end
  until err
  t:assert_match(err, "%d+ bytes were dropped before this stream reached them")
  t:assert_eq(stream:read_until("\n100000\n", "60s"):sub(-8), "\n100000\n", "what follows can be read")
end)

test("a reset ends streams of the guest at once, and they are not open any more", {timeout = "200s"}, function(t)
  vm:write_file("/tmp/log", "")
  local tail = vm:tail_file("/tmp/log")
  local console = vm:console():read()
  local refused = tostring(t:assert_raises(function() vm:snapshot() end))
  t:assert_contains(refused, "2 stream(s) are open")
  t:assert_contains(refused, "streams.test.lua:" .. tail:creation_site().line)
  local waiting = co.spawn(function() return tail:read_until("never", "80s") end)
  host.sleep(0.05)
  vm:reset()
  t:assert_contains(tostring(t:assert_raises(function() waiting:join("60s") end)), "rebooted or reset")
  t:assert_contains(tostring(t:assert_raises(function() tail:next() end)), "rebooted or reset")
  t:assert_eq(vm:open_stream_count(), 1, "the console's stream is of the harness and continues")
  vm:check("echo after the reset > /dev/ttyS0")
  console:expect("after the reset", "60s")
  console:close()
  vm:snapshot():delete()
end)
