-- Tasks: `co.spawn`, `co.wrap`, `parallel`.
local calls, native = ...

local type, unpack = type, table.unpack
local raise, check, kind = calls.raise, calls.check, calls.kind
local expect_function, expect_waiting, deliver = calls.expect_function, calls.expect_waiting, calls.deliver

co = {}

function co.spawn(fn, ...)
  expect_function("co.spawn", fn)
  calls.expect_running("co.spawn")
  return check(native.spawn(fn, ...))
end

function co.wrap(fn)
  expect_function("co.wrap", fn)
  return function(...)
    calls.expect_running("co.wrap")
    return check(native.spawn(fn, ...))
  end
end

-- The task's `join`: what the function returned, or what it raised, as it was raised.
function calls.join(...)
  expect_waiting("task:join")
  return deliver(check(native.join(...)))
end

function _G.parallel(fns)
  if type(fns) ~= "table" then raise("parallel: must be given a list of functions, got " .. kind(fns)) end
  local count = #fns
  for index = 1, count do
    expect_function("parallel: entry " .. index, fns[index])
  end
  expect_waiting("parallel")
  local tasks = {}
  for index = 1, count do
    tasks[index] = check(native.spawn(fns[index]))
  end
  return deliver(check(native.join_all(unpack(tasks, 1, count))))
end
