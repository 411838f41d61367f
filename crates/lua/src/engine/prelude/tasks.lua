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

-- A bridge's `during`: what the function returned, or what it raised, as it was raised.
function calls.during(bridge, time, faults, fn)
  if fn ~= nil then expect_function("bridge:during", fn) end
  expect_waiting("bridge:during")
  return deliver(check(native.during(bridge, time, faults, fn)))
end

-- A disk's `crash_states`: what came of calling `fn(image, vm)` for each state.
function calls.crash_states(disk, fn, options)
  expect_waiting("disk:crash_states")
  return deliver(check(native.crash_states(disk, fn, options)))
end

-- A port's `on_frame`: a task that calls `fn` for each frame, until the port is closed.
function calls.on_frame(port, fn)
  expect_function("port:on_frame", fn)
  calls.expect_running("port:on_frame")
  return check(native.spawn(function()
    while true do
      local frame, time = check(native.port_next(port))
      if type(frame) ~= "string" then return end
      fn(frame, time)
    end
  end))
end

-- `lab:vm(…, {nics = …})`: waits only where the VM is to be attached.
function calls.attaching(method)
  return function(...)
    local vm, bridges = method(...)
    if bridges ~= nil then
      expect_waiting("lab:vm")
      check(native.attach_new(vm, bridges))
    end
    return vm
  end
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
