-- The functions of Lua's standard library whose C code could run without end, reimplemented so that a
-- time limit can interrupt them.
local calls, native = ...

local check, raise, wrap = calls.check, calls.raise, calls.wrap
local type, sub, rep = type, string.sub, string.rep
local concat, move = table.concat, table.move
local tointeger = math.tointeger
local maxinteger = math.maxinteger

string.find = wrap(native.find)
string.match = wrap(native.match)

function string.gmatch(...)
  return wrap(check(native.gmatch(...)))
end

-- A function or a table with an `__index` may call the author's code, which may wait.
local function gsub_each(text, pattern, replacement, most)
  text = text .. ""
  local next_match = check(native.gsub_walk(text, pattern, replacement, most))
  local parts, count, from = {}, 0, 1
  local call = type(replacement) == "function"
  local function take(first, last, ...)
    if not first then return false end
    local value
    if call then value = replacement(...) else value = replacement[(...)] end
    if not value then
      value = sub(text, first, last)
    elseif type(value) ~= "string" and type(value) ~= "number" then
      raise("invalid replacement value (a " .. type(value) .. ")")
    end
    count = count + 1
    parts[#parts + 1] = sub(text, from, first - 1)
    parts[#parts + 1] = value
    from = last + 1
    return true
  end
  while take(check(next_match())) do end
  if count == 0 then return text, 0 end
  parts[#parts + 1] = sub(text, from)
  return concat(parts), count
end

function string.gsub(...)
  local text, _, replacement = ...
  local kind = type(replacement)
  if (kind == "function" or kind == "table") and (type(text) == "string" or type(text) == "number") then
    return gsub_each(...)
  end
  return check(native.gsub(...))
end

-- Nothing, many times: Lua's own counts through all of them.
function string.rep(...)
  local text, times, separator = ...
  if text == "" and (separator == nil or separator == "") and times and tointeger(times) then
    return ""
  end
  return calls.standard("rep", rep, ...)
end

-- Over more places than a table can have, Lua's own walks without end.
local FEW = 100000

local function whole(value)
  return value ~= nil and tointeger(value) or nil
end

function table.move(...)
  local from, first, last, at, to = ...
  first, last, at = whole(first), whole(last), whole(at)
  local numbers = first and last and at
  if not numbers or last < first or last - first < FEW and last - first >= 0 then
    return calls.standard("move", move, ...)
  end
  to = to == nil and from or to
  -- Looks at the arguments as Lua's own does.
  calls.standard("move", move, from, 1, 0, 1, to)
  if first <= 0 and last >= maxinteger + first then
    raise("bad argument #3 to 'move' (too many elements to move)")
  end
  if at > maxinteger - (last - first + 1) + 1 then
    raise("bad argument #4 to 'move' (destination wrap around)")
  end
  if at > last or at <= first or (to ~= from) then
    for i = 0, last - first do to[at + i] = from[first + i] end
  else
    for i = last - first, 0, -1 do to[at + i] = from[first + i] end
  end
  return to
end
