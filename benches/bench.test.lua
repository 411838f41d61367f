-- The figures that are promised, each taken next to what it is compared with. `make bench` runs
-- this and prints the rows; the file named by PROVIUM_BENCH_ROWS gets them, tabs between the fields.
local figures = require "figures"
local row, seconds, quantile = figures.row, figures.seconds, figures.quantile

test("cold boot to first answer", {timeout = "300s"}, function(t)
  local ours, plain, ratios = {}, {}, {}
  for i = 1, 5 do
    plain[i] = figures.from("%s/plain-boot %s %s", figures.folder, figures.kernel, figures.initrd)[1]
    local vm = provium:vm("cold" .. i, "default", {cold = true})
    ours[i] = seconds(function() vm:boot() end)
    vm:close()
    ratios[i] = ours[i] / plain[i]
  end
  row("cold boot to first answer", quantile(ours, 0.5), "s")
  row("plain QEMU, distribution's kernel", quantile(plain, 0.5), "s", "to the first program's first word")
  row("cold boot / plain QEMU", quantile(ratios, 0.5), "ratio", "aim: 0.8 at most")
end)

local vm = provium:vm("v", "default", {memory = "512M"}):boot()

test("round trip", {timeout = "120s"}, function(t)
  local times = {}
  for i = 1, 50 do vm:syscall("getpid") end
  for i = 1, 1000 do times[i] = seconds(function() vm:syscall("getpid") end) * 1000 end
  row("round trip of vm:syscall(\"getpid\"), p50", quantile(times, 0.5), "ms", "aim: 1 ms at most")
  row("round trip of vm:syscall(\"getpid\"), p99", quantile(times, 0.99), "ms")
end)

test("calls per second", {timeout = "120s"}, function(t)
  local count = 2000
  local one = seconds(function() for _ = 1, count do vm:stat("/") end end)
  row("calls per second, 1 task", count / one, "1/s", "vm:stat(\"/\")")
  local many = seconds(function()
    local tasks = {}
    for i = 1, 16 do
      tasks[i] = co.spawn(function() for _ = 1, count / 16 do vm:stat("/") end end)
    end
    for _, task in ipairs(tasks) do task:join("100s") end
  end)
  row("calls per second, 16 tasks", count / many, "1/s", "vm:stat(\"/\")")
  local runs = seconds(function() for _ = 1, 50 do vm:run({"true"}) end end)
  row("commands per second, 1 task", 50 / runs, "1/s", "vm:run({\"true\"})")
end)

test("many lines", {timeout = "60s"}, function(t)
  local loop = "i=0; while [ $i -lt 6000 ]; do echo line $i; i=$((i+1)); done"
  local captured = seconds(function() vm:run(loop) end)
  local dropped = seconds(function() vm:run(loop .. " > /dev/null") end)
  row("6,000 lines captured / into /dev/null", captured / dropped, "ratio", "aim: 2 at most")
end)

test("file throughput", {timeout = "120s"}, function(t)
  local size = 64
  local bytes = string.rep("0123456789abcdef", size * 65536)
  row("write_file, 64 MiB", size / seconds(function() vm:write_file("/tmp/big", bytes) end), "MiB/s")
  row("read_file, 64 MiB", size / seconds(function() vm:read_file("/tmp/big") end), "MiB/s")
  row("stdout, 64 MiB", size / seconds(function() vm:run("cat /tmp/big") end), "MiB/s")
  vm:unlink("/tmp/big")
end)

test("memory", function(t)
  local idle = provium:vm("idle", "default"):boot()
  row("resident memory per idle VM (256 MiB guest)", idle:stats().resident_memory / 2^20, "MiB")
end)
