-- Lua's `io` library: its own functions for regular files, the harness's for files that may block and
-- for the run's output.
local calls, native = ...

local check, raise, standard, expect_waiting = calls.check, calls.raise, calls.standard, calls.expect_waiting
local type, error, pcall, find = type, error, pcall, string.find
local open, lines, io_type, close = io.open, io.lines, io.type, io.close
local load, select, setmetatable, getmetatable = load, select, setmetatable, getmetatable

-- Hide the metatable of Lua's own files, which has a finaliser.
getmetatable(io.stdout).__metatable = false

local stdout = check(native.output("standard output"))
local stderr = check(native.output("standard error"))
local stdin, input
local output = stdout

local function standard_input()
  if not stdin then stdin = check(native.stdin()) end
  return stdin
end

io.stdin, io.stdout, io.stderr = nil, stdout, stderr
setmetatable(io, {
  __index = function(_, key)
    if key == "stdin" then return standard_input() end
  end,
})

function io.type(...)
  local own = check(native.io_type(...))
  return own or standard("type", io_type, ...)
end

local function is_path(value)
  return type(value) == "string" or type(value) == "number"
end

function io.open(...)
  local path, mode = ...
  if type(path) == "string" and (mode == nil or type(mode) == "string")
    and check(native.may_block(path, mode)) then
    if mode and not find(mode, "^[rwa]%+?b?$") then raise("bad argument #2 to 'open' (invalid mode)") end
    expect_waiting("io.open")
    return check(native.open(path, mode))
  end
  return standard("open", open, ...)
end

function io.popen(...)
  calls.expect_running("io.popen")
  return check(native.popen(...))
end

local function opened(path, mode)
  local file, why = io.open(path, mode)
  if not file then raise(why) end
  return file
end

function io.lines(...)
  local path = ...
  if path == nil then return io.input():lines(select(2, ...)) end
  if type(path) ~= "string" or not check(native.may_block(path)) then
    return standard("lines", lines, ...)
  end
  local file = opened(path)
  local next_line = calls.lines(file, select(2, ...))
  return function()
    if io.type(file) == "closed file" then raise("file is already closed") end
    local line = next_line()
    if line == nil then file:close() end
    return line
  end
end

function io.input(file)
  if file == nil then return input or standard_input() end
  if is_path(file) then
    input = opened(file)
  elseif io.type(file) then
    input = file
  else
    raise("bad argument #1 to 'input' (FILE* expected, got " .. calls.kind(file) .. ")")
  end
  return input
end

function io.output(file)
  if file == nil then return output end
  if is_path(file) then
    output = opened(file, "w")
  elseif io.type(file) then
    output = file
  else
    raise("bad argument #1 to 'output' (FILE* expected, got " .. calls.kind(file) .. ")")
  end
  return output
end

-- A method of either kind of file.
local function call(file, name, ...)
  if io_type(file) then return standard(name, file[name], file, ...) end
  return file[name](file, ...)
end

function io.read(...) return call(io.input(), "read", ...) end
function io.write(...) return call(output, "write", ...) end

function io.close(file)
  if file == nil then file = output end
  if check(native.io_type(file)) then return file:close() end
  return standard("close", close, file)
end

-- Without a path these read standard input, in C.
function _G.loadfile(path, mode, env, ...)
  if type(path) ~= "string" then raise("loadfile: the path must be a string, got " .. calls.kind(path)) end
  local ok, source, name = pcall(check, native.read_source(path))
  if not ok then return nil, source end
  -- As in Lua, an environment that is given counts, also where it is nil.
  if select("#", env, ...) > 1 or env ~= nil then return load(source, name, mode or "t", env) end
  return load(source, name, mode or "t")
end
