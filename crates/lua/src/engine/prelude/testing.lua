-- What calls back into the author's code: assert_raises, step, wait_until, batch.
local calls, native = ...

local error, pcall, tostring = error, pcall, tostring
local raise, check, expect_function = calls.raise, calls.check, calls.expect_function
local expect_waiting = calls.expect_waiting

function calls.assert_raises(t, fn, msg)
  expect_function("assert_raises", fn)
  local before = check(native.sticky(t))
  local ok, value = pcall(fn)
  if ok then
    raise((msg == nil and "assert_raises" or tostring(msg)) .. ": expected to raise", "assertion")
  end
  if native.expired() then error(value, 0) end
  check(native.restore(t, before))
  return value
end

function calls.step(t, name, fn)
  local step <close> = check(native.step(t, name))
  expect_function("step", fn)
  return fn()
end

function _G.wait_until(pred, options)
  expect_function("wait_until", pred)
  expect_waiting("wait_until")
  local timer, desc = check(native.wait_timer(options))
  while true do
    local ok, value = check(native.wait_look(desc, timer, pred))
    if not ok then error(value, 0) end
    -- While tests are only listed, what waits gives a stand-in.
    if ok ~= true then return ok end
    if value then return value end
    check(native.wait_turn(desc, timer))
  end
end

function calls.batch(surface, fn)
  expect_function("batch", fn)
  expect_waiting("batch")
  local recorder = check(native.batch_recorder(surface))
  fn(recorder)
  return check(native.batch_run(surface, recorder))
end
