-- Large things arrive byte-exact while small ones run.
local vm = provium:vm("v", "default", {memory = "512M"}):boot()
local size = 64 * 1024 * 1024

local function pattern(bytes)
  local block = {}
  for i = 0, 4095 do block[#block + 1] = string.char((i * 7 + i // 256) % 256) end
  return (table.concat(block)):rep(bytes // 4096)
end

test("64 MiB in, out, and as output, byte-exact, while other calls run", {timeout = "280s"}, function(t)
  local bytes = pattern(size)
  local going, calls = true, 0
  local small = co.spawn(function()
    while going do
      t:assert_eq(vm:syscall("getuid").ret, 0)
      calls = calls + 1
    end
  end)
  local took = {}
  local function timed(name, fn)
    local before, calls_before = host.now_ns(), calls
    fn()
    took[#took + 1] = ("%s: %.1f MiB/s, %d small calls meanwhile"):format(
      name, 64 / ((host.now_ns() - before) / 1e9), calls - calls_before)
    t:assert(calls - calls_before > 5, name .. " starved the small calls")
  end
  timed("write_file", function() vm:write_file("/tmp/big", bytes) end)
  t:assert_eq(vm:stat("/tmp/big").size, size)
  timed("read_file", function() t:assert(vm:read_file("/tmp/big") == bytes, "read_file differs") end)
  timed("stdout", function()
    local r = vm:run("cat /tmp/big")
    t:assert(r.stdout == bytes, "stdout differs")
    t:assert_eq(r.stdout_dropped, 0)
  end)
  going = false
  small:join("60s")
  t:assert_contains(vm:run("sha256sum /tmp/big").stdout, hash.sha256(bytes))
  for _, line in ipairs(took) do t:log(line) end
end)
