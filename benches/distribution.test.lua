-- A stock Debian with systemd, whose root is on a disk: booted cold, and from its template without warm VMs, for which
-- the file claims the whole pool (`benches/run` says how large that is).
local figures = require "figures"
local row, seconds, median = figures.row, figures.seconds, figures.median

local ROUNDS = 5
provium:claim{memory = assert(os.getenv("PROVIUM_BENCH_POOL"))}

-- The time from the call of `boot` to the answer of systemd, which has reached its target by then.
local function boot(name, opts)
  local vm = provium:vm(name, "debian", opts)
  local took = seconds(function()
    vm:boot()
    assert(vm:run("systemctl is-system-running").stdout == "running\n")
  end)
  local kind = vm:stats().boot_kind
  vm:close()
  return took, kind
end

test("a systemd root on a disk", {timeout = "1200s"}, function(t)
  -- The first boot makes the image of the disk, and the template.
  boot("first")
  local colds, templates = {}, {}
  for i = 1, ROUNDS do
    local kind
    if i <= 2 then colds[i] = boot("cold" .. i, {cold = true}) end
    templates[i], kind = boot("template" .. i)
    t:assert_eq(kind, "template")
  end
  local cold, template = median(colds), median(templates)
  row("Debian with systemd on a disk: cold boot", cold, "s", "to the answer of systemctl, all units started")
  row("Debian with systemd on a disk: template boot", template, "s", "no warm VM")
  row("Debian with systemd: template boot / cold boot", template / cold, "ratio", "aim: 0.12 at most")
end)
