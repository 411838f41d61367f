-- Finalisers (`__gc`) of a test's objects: bounded, and none is left when the Lua state is closed.
--
-- By then the harness's functions are gone, and a finaliser that called one would crash the whole run.
-- So each object with a finaliser is recorded; at the file's end all finalisers run while everything
-- still exists, and are then removed. A finaliser runs in a coroutine of its own, where
-- the hook that watches the time is active (Lua switches hooks off for it otherwise).
local calls = ...

local setmetatable, rawget, rawset = setmetatable, rawget, rawset
local type, pairs, next = type, pairs, next
local pcall, raise, kind = pcall, calls.raise, calls.kind
local create, resume, close, sort = coroutine.create, coroutine.resume, coroutine.close, table.sort

-- Objects that have a finaliser: {number, metatable}, in the order in which they were given one.
local weak = { __mode = "k" }
local pending = setmetatable({}, weak)
-- Finalisers that are guarded already.
local guards = setmetatable({}, weak)
local count, over = 0, false

local function run(finaliser, object)
  pending[object] = nil
  calls.set_finalising(true)
  local co = create(finaliser)
  -- As in Lua, an error of a finaliser stops nothing.
  resume(co, object)
  close(co)
  calls.set_finalising(false)
end

local function guard(finaliser)
  local function guarded(object) run(finaliser, object) end
  guards[guarded] = finaliser
  return guarded
end

local function note(object, meta)
  local finaliser = rawget(meta, "__gc")
  if over then
    rawset(meta, "__gc", nil)
    return
  end
  if finaliser == nil and not pending[object] then return end
  if type(finaliser) == "function" and not guards[finaliser] then
    rawset(meta, "__gc", guard(finaliser))
  end
  count = count + 1
  pending[object] = { count, meta }
end

function _G.setmetatable(object, meta, ...)
  if type(object) ~= "table" then
    raise("bad argument #1 to 'setmetatable' (table expected, got " .. kind(object) .. ")")
  end
  if type(meta) == "table" then
    note(object, meta)
  elseif meta ~= nil then
    raise("bad argument #2 to 'setmetatable' (nil or table expected)")
  end
  local ok, why = pcall(setmetatable, object, meta)
  if not ok then raise(why) end
  return object
end

-- Takes all finalisers away from Lua. What there was to run, newest first.
local function take()
  local list = {}
  for object, entry in pairs(pending) do
    local finaliser = rawget(entry[2], "__gc")
    list[#list + 1] = { entry[1], object, guards[finaliser] or finaliser, entry[2] }
  end
  pending = setmetatable({}, weak)
  for index = 1, #list do rawset(list[index][4], "__gc", nil) end
  sort(list, function(one, other) return one[1] > other[1] end)
  return list
end

-- Runs all finalisers, also those of objects that a finaliser makes.
function calls.finalise()
  while next(pending) do
    local list = take()
    for index = 1, #list do
      if type(list[index][3]) == "function" then run(list[index][3], list[index][2]) end
    end
  end
end

-- No finaliser is left, and none is added.
function calls.disarm()
  over = true
  take()
end
