-- `require` and `dofile` in Lua, so that a helper may wait at its top level; a C function in
-- between could not be yielded across.
local calls, native = ...

local error, type, load, running = error, type, load, coroutine.running
local searchpath, tostring = package.searchpath, tostring
local raise, kind = calls.raise, calls.kind

-- The coroutine that loads a module, and what wakes those that wait for it, by the module's name.
local loading = {}

local function read_chunk(path)
  local source, name = calls.check(native.read_source(path))
  local chunk, why = load(source, name, "t")
  if not chunk then error(why, 0) end
  return chunk
end

local function find(name)
  local preload = package.preload[name]
  if preload then return preload, ":preload:" end
  local path, tried = searchpath(name, package.path)
  native.searched(name, path)
  if not path then raise("require: module `" .. name .. "` not found:" .. tried) end
  return read_chunk(path), path
end

function _G.require(name)
  if type(name) ~= "string" then
    raise("require: the module's name must be a string, got " .. kind(name))
  end
  local loaded = package.loaded
  while loading[name] do
    local load = loading[name]
    if load.thread == running() then raise("require: `" .. name .. "` requires itself") end
    calls.check(native.await_load(name, load.ended))
  end
  if loaded[name] ~= nil then return loaded[name] end
  local chunk, path = find(name)
  local ended = native.new_load()
  loading[name] = { thread = running(), ended = ended }
  -- Also if the module raises, or the task that loads it is stopped; another task then loads it again.
  local done <close> = setmetatable({}, {
    __close = function()
      loading[name] = nil
      native.end_load(ended)
    end,
  })
  local value = chunk(name, path)
  if value ~= nil then
    loaded[name] = value
  elseif loaded[name] == nil then
    loaded[name] = true
  end
  return loaded[name], path
end

function _G.dofile(path)
  if type(path) ~= "string" then raise("dofile: the path must be a string, got " .. kind(path)) end
  return read_chunk(path)()
end
