-- Tasks: `co.spawn`, `co.wrap`, `parallel`.
local calls, native = ...

local error, type, unpack = error, type, table.unpack
local raise, check, kind = calls.raise, calls.check, calls.kind
local expect_function = calls.expect_function

co = {}

function co.spawn(fn, ...)
  expect_function("co.spawn", fn)
  return check(native.spawn(fn, ...))
end

function co.wrap(fn)
  expect_function("co.wrap", fn)
  return function(...)
    return check(native.spawn(fn, ...))
  end
end

local function deliver(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

-- The task's `join`: what the function returned, or what it raised, as it was raised.
function calls.join(...)
  return deliver(check(native.join(...)))
end

function _G.parallel(fns)
  if type(fns) ~= "table" then raise("parallel: must be given a list of functions, got " .. kind(fns)) end
  local count = #fns
  for index = 1, count do
    expect_function("parallel: entry " .. index, fns[index])
  end
  local tasks = {}
  for index = 1, count do
    tasks[index] = check(native.spawn(fns[index]))
  end
  return deliver(check(native.join_all(unpack(tasks, 1, count))))
end
