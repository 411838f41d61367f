-- How long things take, for tests that ask for it.
local timing = {}

-- Seconds that `fn` takes.
function timing.seconds(fn)
  local before = host.now_ns()
  fn()
  return (host.now_ns() - before) / 1e9
end

-- What `fn` returns to `pcall`, if it comes back within `limit` seconds.
function timing.bounded(t, what, limit, fn)
  local task = co.spawn(function() return pcall(fn) end)
  local done, ok, value = pcall(task.join, task, limit)
  if not done then task:cancel() end
  t:assert(done, what .. ": no answer within " .. limit .. " s")
  return ok, value
end

return timing
