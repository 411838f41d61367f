-- A small random generator with its own state (xorshift64*), so that each task draws its own
-- repeatable sequence whatever the other tasks do meanwhile.
local Random = {}
Random.__index = Random

-- A generator for the seed and a stream number; equal arguments give equal sequences.
function Random.new(seed, stream)
  local state = (seed * 0x9E3779B97F4A7C15) ~ ((stream + 1) * 0xBF58476D1CE4E5B9)
  local random = setmetatable({state = state ~= 0 and state or 1}, Random)
  for _ = 1, 8 do random:next() end
  return random
end

function Random:next()
  local x = self.state
  x = x ~ (x >> 12)
  x = x ~ (x << 25)
  x = x ~ (x >> 27)
  self.state = x
  return x * 0x2545F4914F6CDD1D
end

-- A whole number from `low` to `high`.
function Random:int(low, high) return low + (self:next() >> 1) % (high - low + 1) end

function Random:chance(percent) return self:int(1, 100) <= percent end

function Random:pick(list) return list[self:int(1, #list)] end

-- `size` bytes of any value.
function Random:bytes(size)
  local words = {}
  for i = 1, (size + 7) // 8 do words[i] = string.pack("<i8", self:next()) end
  return table.concat(words):sub(1, size)
end

return Random
