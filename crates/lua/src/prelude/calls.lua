-- Raises refusals of native functions at the author's line, and takes failures where they happen.
local RAISE, SKIP, native = ...

local error, rawequal, type, tostring = error, rawequal, type, tostring
local pcall, xpcall, sub = pcall, xpcall, string.sub

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

local function describe(value)
  if type(value) == "string" then return value end
  local ok, text = pcall(tostring, value)
  if not ok then return "an error value that cannot be shown" end
  if type(value) == "table" and sub(text, 1, 6) == "table:" then
    return "(error value is a " .. text .. ")"
  end
  return text
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
  if type(first) == "userdata" then return pack(...) end
  return pack(first, ...)
end
function calls.unpack(first, ...)
  if type(first) == "userdata" then return unpack(...) end
  return unpack(first, ...)
end

-- A method of the root lab that may also be called without it: `provium.vm_fixture(path)`.
function calls.rooted(method)
  return function(first, ...)
    if type(first) == "string" then return method(native.root(), first, ...) end
    return method(first, ...)
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
