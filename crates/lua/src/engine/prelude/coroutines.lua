-- Plain coroutines with harness calls inside: a call that waits yields the pending marker, which
-- is passed on to the driver of the outermost coroutine, until the call is done.
local PENDING = ...

local create = coroutine.create
local setmetatable = setmetatable
local raw_resume, raw_yield = coroutine.resume, coroutine.yield
local raw_status, raw_close = coroutine.status, coroutine.close
local error, rawequal, type = error, rawequal, type

-- Coroutines that wait for the harness. For all but their resumer they are busy.
local waiting = setmetatable({}, { __mode = "k" })
-- Closed also when the task that drives the coroutine is ended: then it may be resumed again.
local Wait = { __close = function(wait) waiting[wait.co] = nil end }

local function pass(co, ok, first, ...)
  if ok and rawequal(first, PENDING) then
    do
      local wait <close> = setmetatable({ co = co }, Wait)
      waiting[co] = true
      raw_yield(PENDING)
    end
    return pass(co, raw_resume(co))
  end
  return ok, first, ...
end

function coroutine.resume(co, ...)
  if waiting[co] then return false, "cannot resume non-suspended coroutine" end
  return pass(co, raw_resume(co, ...))
end

function coroutine.status(co)
  if waiting[co] and raw_status(co) == "suspended" then return "normal" end
  return raw_status(co)
end

function coroutine.close(co)
  if waiting[co] then error("cannot close a running coroutine", 2) end
  return raw_close(co)
end

local function unwrap(co, ok, ...)
  if ok then return ... end
  if raw_status(co) ~= "running" then raw_close(co) end
  error((...), 0)
end

function coroutine.wrap(fn)
  if type(fn) ~= "function" then
    error("bad argument #1 to 'wrap' (function expected, got " .. type(fn) .. ")", 2)
  end
  local co = create(fn)
  return function(...)
    return unwrap(co, coroutine.resume(co, ...))
  end
end
