-- How long things take, for tests that ask for it.
local timing = {}

-- Seconds that `fn` takes.
function timing.seconds(fn)
  local before = host.now_ns()
  fn()
  return (host.now_ns() - before) / 1e9
end

return timing
