-- Boots from templates, restores and saves without warm VMs: the file claims the whole pool (`benches/run`
-- says how large that is), so one does not fit.
local figures = require "figures"
local row, seconds, median = figures.row, figures.seconds, figures.median

local ROUNDS = 7
provium:claim{memory = assert(os.getenv("PROVIUM_BENCH_POOL"))}

-- The time from the call of `boot` to the answer of the guest's first call.
local function boot_and_call(name, opts)
  local vm = provium:vm(name, "default", opts)
  local took = seconds(function()
    vm:boot()
    vm:syscall("getpid")
  end)
  local kind = vm:stats().boot_kind
  return took, kind, vm
end

-- Boots until there is a template that a boot was from.
local function have_template(name, opts)
  for i = 1, 3 do
    local _, kind, vm = boot_and_call(name .. "-first-" .. i, opts)
    vm:close()
    if kind == "template" then return end
  end
  error("no boot is from a template")
end

local cold, full_stream

-- The time from the call of `boot` to the output of the guest's first command, which is what a person
-- waits for.
local function boot_and_output(name, opts)
  local vm = provium:vm(name, "default", opts)
  local took = seconds(function()
    vm:boot()
    assert(vm:run("echo hello").stdout == "hello\n")
  end)
  local kind = vm:stats().boot_kind
  vm:close()
  return took, kind
end

test("a boot from a template", {timeout = "600s"}, function(t)
  have_template("t256", {})
  local plain = figures.from("%s/plain-restore %s %s 256 %d", figures.folder, figures.kernel, figures.initrd, ROUNDS)
  row("full stream: save of a 256 MiB guest", table.remove(plain, 1), "s", "plain QEMU, `migrate exec:`")
  local colds, templates, kinds = {}, {}, {}
  for i = 1, ROUNDS do
    local vm
    colds[i], _, vm = boot_and_call("cold" .. i, {cold = true})
    vm:close()
    templates[i], kinds[i], vm = boot_and_call("template" .. i)
    t:assert_eq(kinds[i], "template")
    vm:close()
  end
  cold, full_stream = median(colds), median(plain)
  row("full stream: restore to first answer", median(plain), "s", "plain QEMU, `-incoming exec:`")
  row("cold boot to first call", cold, "s")
  row("template boot to first call", median(templates), "s", "no warm VM")
  row("template boot / cold boot", median(templates) / cold, "ratio", "aim: 0.12 at most")
  row("template boot / full-stream restore", median(templates) / median(plain), "ratio", "aim: 0.35 at most")
end)

test("the first command's output", {timeout = "600s"}, function(t)
  have_template("output", {})
  local colds, templates = {}, {}
  for i = 1, ROUNDS do
    local kind
    colds[i] = boot_and_output("output-cold" .. i, {cold = true})
    templates[i], kind = boot_and_output("output" .. i)
    t:assert_eq(kind, "template")
  end
  local first = median(colds)
  row("cold boot to the first command's output", first, "s")
  row("template boot to the first command's output", median(templates), "s", "no warm VM")
  row("template boot / cold boot, to the output", median(templates) / first, "ratio", "aim: 0.08 at most")
end)

test("the guest's memory costs nothing", {timeout = "600s"}, function(t)
  for _, memory in ipairs{"128M", "512M", "2G"} do
    local opts = {memory = memory}
    have_template("t" .. memory, opts)
    local templates = {}
    for i = 1, ROUNDS do
      local vm
      templates[i], _, vm = boot_and_call(memory .. i, opts)
      vm:close()
    end
    row(("template boot, %s guest"):format(memory), median(templates), "s", "aim: flat from 128 MiB to 2 GiB")
  end
end)

test("NICs", {timeout = "600s"}, function(t)
  local function check(vm) t:assert_eq(vm:stats().boot_kind, "template") end
  local without, with = figures.boots_with_nics("template boot", ROUNDS, function() end, check)
  row("template boot: one NIC / the boot without", (with - without) / without, "ratio", "aim: 0.15 at most")
end)

test("snapshots", {timeout = "300s"}, function(t)
  for _, from in ipairs{"template", "cold"} do
    local vm = provium:vm("s-" .. from, "default", {cold = from == "cold"}):boot()
    vm:syscall("getpid")
    local saves, restores, size = {}, {}, nil
    for i = 1, ROUNDS do
      local s
      saves[i] = seconds(function() s = vm:snapshot() end) * 1000
      size = s:size()
      restores[i] = seconds(function()
        vm:restore(s)
        vm:syscall("getpid")
      end)
      s:delete()
      -- What is restored is on its snapshot; the next round saves the booted one again.
      vm:close()
      vm = provium:vm(("s-%s-%d"):format(from, i), "default", {cold = from == "cold"}):boot()
      vm:syscall("getpid")
    end
    local beside = ("256 MiB guest, booted %s: %.1f MiB written"):format(
      from == "cold" and "cold" or "from a template", size / 2 ^ 20)
    row("snapshot save", median(saves), "ms", beside .. (from == "template" and "; aim: 50 ms at most" or ""))
    row("restore to first call", median(restores), "s", from == "cold" and "whole, no warm VM" or "on its base, no warm VM")
    row("restore / cold boot", median(restores) / cold, "ratio")
    row("restore / full-stream restore", median(restores) / full_stream, "ratio")
    vm:close()
  end
end)

test("a fixture", {timeout = "300s"}, function(t)
  local restores = {}
  -- The first of all builds it.
  for i = 0, ROUNDS do
    local lab = provium:lab("fixture" .. i)
    local took = seconds(function() lab:vm_fixture("base.fixture.lua"):syscall("getpid") end)
    if i > 0 then restores[i] = took end
    lab:shutdown()
  end
  row("fixture restore to first call", median(restores), "s", "256 MiB guest, no warm VM")
  row("fixture restore / cold boot", median(restores) / cold, "ratio")
  row("fixture restore / full-stream restore", median(restores) / full_stream, "ratio")
end)
