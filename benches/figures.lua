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

-- The numbers that a comparison prints, one a line.
function figures.from(command, ...)
  local pipe = io.popen(command:format(...))
  local numbers = {}
  for line in pipe:lines() do numbers[#numbers + 1] = tonumber(line) end
  assert(pipe:close() and #numbers > 0, command .. " failed")
  return numbers
end

return figures
