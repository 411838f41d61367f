-- Raises refusals of native functions at the author's line, and takes failures where they happen.
local RAISE, SKIP, native = ...

local error, rawequal, type, tostring = error, rawequal, type, tostring
local pcall, xpcall = pcall, xpcall
local select, isyieldable, getmetatable = select, coroutine.isyieldable, getmetatable
local table_unpack = table.unpack

local calls = {}

local function raise(text, kind)
  if kind == "skip" then error(SKIP, 0) end
  error(native.located(text, kind), 0)
end
calls.raise = raise

local function check(first, ...)
  if rawequal(first, RAISE) then return raise(...) end
  return first, ...
end
calls.check = check

-- The type of a value, in the words of a refusal.
local function kind(value)
  if value == nil then return "nil" end
  return "a " .. type(value)
end
calls.kind = kind

function calls.expect_function(call, fn)
  if type(fn) ~= "function" then
    raise(call .. ": must be given a function, got " .. kind(fn))
  end
end

-- What the author calls: the native function, with its refusals raised at the author's line.
function calls.wrap(raw)
  return function(...) return check(raw(...)) end
end

-- Whether a finaliser (`__gc`) of the author's runs; see `finalisers.lua`.
local finalising = false
function calls.set_finalising(value) finalising = value end

-- A call that waits yields to the driver of the task. Where it cannot, it must not even begin.
local function expect_waiting(call)
  if finalising then
    raise(call .. ": cannot be called by a finaliser (__gc); what a test makes is closed at its end, "
      .. "and t:defer(fn) or a variable marked <close> runs code of your own then")
  end
  if not isyieldable() then
    raise(call .. ": waits, and cannot be called where C code of Lua calls back (the function given to "
      .. "table.sort or load, a metamethod such as __tostring); call it before, and use its result there")
  end
end
calls.expect_waiting = expect_waiting

-- A task that a finaliser starts would outlive what it belongs to.
function calls.expect_running(call)
  if finalising then expect_waiting(call) end
end

-- The same for a call that waits.
function calls.wrap_waiting(raw, call)
  return function(...)
    if finalising or not isyieldable() then expect_waiting(call) end
    return check(raw(...))
  end
end

-- The text of an error value that may not be a string.
local function describe(value)
  local kind = type(value)
  if kind == "string" then return value end
  if kind == "table" then
    local meta = getmetatable(value)
    if type(meta) ~= "table" or meta.__tostring == nil then
      return "(error value is a table: " .. native.shown(value) .. ")"
    end
  end
  local ok, text = pcall(tostring, value)
  if not ok then return "an error value that cannot be shown" end
  if kind == "number" or kind == "boolean" or kind == "nil" then
    return "(error value is " .. (kind == "nil" and "nil" or "the " .. kind .. " " .. text) .. ")"
  end
  return text
end

-- `assert` as Lua has it, but that the result of a command is always true, so it cannot be meant.
function _G.assert(...)
  local value, message = ...
  if value then
    if type(value) == "userdata" and native.is_result(value) then
      raise("assert: " .. native.always_true, "assertion")
    end
    return ...
  end
  if select("#", ...) == 0 then raise("bad argument #1 to 'assert' (value expected)") end
  if select("#", ...) == 1 then error("assertion failed!" .. native.command_asserted(), 0) end
  error(message, 0)
end

-- A function of Lua's own, whose errors are to name the author's line and not the prelude's.
local function settle(name, ok, ...)
  if ok then return ... end
  local why = ...
  if type(why) ~= "string" or why == "not enough memory" then error(why, 0) end
  raise(native.named(why, name))
end
function calls.standard(name, fn, ...)
  return settle(name, pcall(fn, ...))
end

-- What a task's function returned, or what it raised, as it was raised.
function calls.deliver(ok, ...)
  if not ok then error((...), 0) end
  return ...
end

local function failure(value)
  return {
    value = value,
    message = describe(value),
    frames = native.frames(),
    skip = rawequal(value, SKIP),
  }
end

-- `lab:pack` and `lab:unpack` are Lua's own; a lab in front is passed over.
local pack, unpack = string.pack, string.unpack
function calls.pack(first, ...)
  if type(first) == "userdata" then return calls.standard("pack", pack, ...) end
  return calls.standard("pack", pack, first, ...)
end
function calls.unpack(first, ...)
  if type(first) == "userdata" then return calls.standard("unpack", unpack, ...) end
  return calls.standard("unpack", unpack, first, ...)
end

-- A method of the root lab that may also be called without it: `provium.vm_fixture(path)`.
function calls.rooted(method)
  return function(first, ...)
    if type(first) == "string" then return method(native.root(), first, ...) end
    return method(first, ...)
  end
end

-- `file:write(…)`, which need not wait where it goes to the log.
function calls.writing(write)
  return function(file, ...)
    if check(native.write_now(file, ...)) then return file end
    return write(file, ...)
  end
end

-- The iterator of `file:lines(…)`.
function calls.lines(file, ...)
  local formats, count = { ... }, select("#", ...)
  return function()
    local line, why = file:read(table_unpack(formats, 1, count))
    if line == nil and why then raise(why) end
    return line
  end
end

-- Runs `fn` so that what it raises comes back as a failure, taken where it was raised.
function calls.guarded(fn, ...)
  return xpcall(fn, failure, ...)
end

-- A handler that an interrupted loop cannot hide in.
function _G.xpcall(fn, handler, ...)
  return xpcall(fn, function(value)
    if native.expired() then return value end
    return handler(value)
  end, ...)
end

return calls
