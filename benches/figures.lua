-- How the figures of this folder are taken and written down.
local figures = {}

local path = assert(os.getenv("PROVIUM_BENCH_ROWS"), "run this with `make bench`")
local rows = assert(io.open(path, "a"))

-- Where the comparisons are, and the guest that they boot.
figures.folder = assert(os.getenv("PROVIUM_BENCH_DIR"))
figures.kernel = assert(os.getenv("PROVIUM_BENCH_KERNEL"))
figures.initrd = assert(os.getenv("PROVIUM_BENCH_INITRD"))

-- A line of the table.
function figures.row(what, value, unit, beside)
  rows:write(("%s\t%.3f\t%s\t%s\n"):format(what, value, unit, beside or ""))
  rows:flush()
end

function figures.seconds(fn)
  local before = host.now_ns()
  fn()
  return (host.now_ns() - before) / 1e9
end

function figures.quantile(values, q)
  table.sort(values)
  return values[math.max(1, math.ceil(#values * q))]
end

function figures.median(values) return figures.quantile(values, 0.5) end

-- Times boots of VMs with 0, 1 and 2 NICs in turn, up to the first call, and writes rows with their medians.
-- `before` is called before each; `check` gets each VM.
function figures.boots_with_nics(what, rounds, before, check)
  local nets, times = {provium:bridge("one"), provium:bridge("two")}, {[0] = {}, {}, {}}
  for i = -2, rounds do
    for count = 0, 2 do
      local nics = table.pack(table.unpack(nets, 1, count))
      local name = ("%s-%d-nics-%d"):format(what:match("%a+"), count, i)
      nics.n = nil
      local vm = provium:vm(name, "default", {nics = nics})
      before()
      local took = figures.seconds(function()
        vm:boot()
        vm:syscall("getpid")
      end)
      -- The first ones make templates, and have warm VMs made.
      if i > 0 then
        check(vm)
        times[count][i] = took
      end
      vm:close()
    end
  end
  for _, net in ipairs(nets) do net:close() end
  for count = 0, 2 do
    figures.row(("%s, %d NICs"):format(what, count), figures.median(times[count]), "s")
  end
  return figures.median(times[0]), figures.median(times[1])
end

-- The numbers that a comparison prints, one a line.
function figures.from(command, ...)
  local pipe = io.popen(command:format(...))
  local numbers = {}
  for line in pipe:lines() do numbers[#numbers + 1] = tonumber(line) end
  assert(pipe:close() and #numbers > 0, command .. " failed")
  return numbers
end

return figures
