-- Boots and resets of warm VMs, and many VMs from one template.
local figures = require "figures"
local row, seconds, median = figures.row, figures.seconds, figures.median

local ROUNDS = 7
provium.reset_between_tests = true

-- Nothing shows when a warm VM is ready; it is long before this.
local function await_warm() host.sleep("1s") end

-- The names that the machines of this run were started with.
local function machine_names()
  local pipe = io.popen([[for f in /proc/$PPID/task/*/children; do cat $f 2>/dev/null; done]])
  local found = {}
  for pid in pipe:read("a"):gmatch("%d+") do
    local cmdline = io.open(("/proc/%s/cmdline"):format(pid))
    local name = cmdline and cmdline:read("a"):match("guest=([^,]*),")
    if cmdline then cmdline:close() end
    found[#found + 1] = name
  end
  pipe:close()
  return found
end

local base = provium:vm("base", "default"):boot()
base:syscall("getpid")
local cold, plain, ended, resets = nil, nil, nil, {}

test("a boot of a warm VM", {timeout = "300s"}, function(t)
  local colds, warm = {}, {}
  for i = 1, 3 do
    local vm = provium:vm("cold" .. i, "default", {cold = true})
    colds[i] = seconds(function()
      vm:boot()
      vm:syscall("getpid")
    end)
    vm:close()
  end
  cold = median(colds)
  local restores = figures.from("%s/plain-restore %s %s 256 5", figures.folder, figures.kernel, figures.initrd)
  table.remove(restores, 1) -- the save
  plain = median(restores)
  for i = 1, 3 do provium:vm("use" .. i, "default"):boot():close() end
  for i = 1, ROUNDS do
    await_warm()
    local name = "warm" .. i
    local vm = provium:vm(name, "default")
    warm[i] = seconds(function()
      vm:boot()
      vm:syscall("getpid")
    end)
    for _, started in ipairs(machine_names()) do t:assert_neq(started, name, "it was a warm VM") end
    vm:close()
  end
  local outputs = {}
  for i = 1, ROUNDS do
    await_warm()
    local vm = provium:vm("output" .. i, "default")
    outputs[i] = seconds(function()
      vm:boot()
      t:assert_eq(vm:run("echo hello").stdout, "hello\n")
    end)
    vm:close()
  end
  row("boot of a warm VM to first call", median(warm), "s")
  row("boot of a warm VM to the first output", median(outputs), "s", "aim: 0.025 s at most")
  row("boot of a warm VM / full-stream restore", median(warm) / plain, "ratio")
  row("boot of a warm VM / cold boot", median(warm) / cold, "ratio", "aim: 0.04 at most")
  ended = nil
end)

test("NICs of warm VMs", {timeout = "300s"}, function(t)
  local function check(vm)
    for _, started in ipairs(machine_names()) do t:assert_neq(started, vm:name(), "it was a warm VM") end
  end
  local without, with = figures.boots_with_nics("warm boot", ROUNDS, await_warm, check)
  row("warm boot: what one NIC adds", with - without, "s", "aim: 0.15 of a template boot at most")
  ended = nil
end)

-- The time between the tests is a reset of the file's one VM, and the closing of a scope.
for i = 1, ROUNDS + 1 do
  test("reset " .. i, function(t)
    base:syscall("getpid")
    if ended then resets[#resets + 1] = (host.now_ns() - ended) / 1e9 end
    base:write_file("/tmp/dirt", ("x"):rep(65536))
    await_warm()
    ended = host.now_ns()
  end)
end

test("resets", function(t)
  row("reset_between_tests, to first call", median(resets), "s", "with a warm VM")
  row("reset / full-stream restore", median(resets) / plain, "ratio")
  row("reset / cold boot", median(resets) / cold, "ratio")
end)

-- Many at once, all of which must answer.
local function fan_out(t, count)
  local lab = provium:lab("fan" .. count)
  for i = 1, count do lab:vm("f" .. i, "default") end
  local answers = {}
  local took = seconds(function()
    lab:boot()
    local tasks = {}
    for i = 1, count do
      tasks[i] = co.spawn(function() answers[i] = lab:vm("f" .. i):run("hostname").stdout end)
    end
    for _, task in ipairs(tasks) do task:join("120s") end
  end)
  for i = 1, count do t:assert_eq(answers[i], "f" .. i .. "\n") end
  local memory = 0
  for i = 1, count do memory = memory + lab:vm("f" .. i):stats().proportional_memory end
  row(("%d VMs from one template, all answer"):format(count), took, "s", ("%.3f s a VM"):format(took / count))
  row(("%d VMs: a VM / cold boot"):format(count), took / count / cold, "ratio")
  row(("%d VMs: a VM / full-stream restore"):format(count), took / count / plain, "ratio")
  row(("%d VMs: proportional memory of a VM"):format(count), memory / count / 2 ^ 20, "MiB", "256 MiB guest")
end

for _, count in ipairs{10, 32} do
  test(count .. " VMs from one template", {timeout = "600s"}, function(t) fan_out(t, count) end)
end
