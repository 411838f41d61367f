-- provium.parallel: each test has a copy of the file's bridges, and two copies never meet.

provium.parallel = true
provium.timeout = "120s"

local lan = provium:bridge("lan")
local a = provium:vm("a", "default", { nics = { lan } })
local b = provium:vm("b", "default", { nics = { lan } })
local port = lan:port("script")
provium:boot()
local nic = lan:nic(a)

-- A broadcast frame of the script with a text in it.
local function frame(text)
  local mac = port:mac():gsub("(%x%x):?", function(hex) return string.char(tonumber(hex, 16)) end)
  return ("\xff"):rep(6) .. mac .. "\x88\xb5" .. text .. ("\0"):rep(46 - #text)
end

for number = 1, 3 do
  test("copy " .. number, function(t)
    t:assert_eq(provium.lan, lan)
    t:assert_same(lan:members(), { "a", "b", "script" })
    t:assert_same(lan:impairments(), {})
    local listener = lan:port("listener")
    lan:impair { loss = 0.5 * number, from = port, to = b }
    -- All copies exist at once here, if there is room for them.
    for round = 1, 5 do
      port:send(frame(("copy %d round %d"):format(number, round)))
      local received = ("copy %d round %d"):format(number, round)
      -- Guests may speak, too.
      repeat
        local got = listener:recv()
        t:assert(got, "nothing has arrived")
        local text = got:match("copy %d round %d")
        t:assert(text == nil or text == received, text)
      until text
      a:check("ping -c 1 -W 20 b")
    end
    t:assert_eq(#lan:impairments(), 1)
    t:assert_eq(lan:impairments()[1].loss, 0.5 * number)
    t:assert_eq(nic:bridge(), lan)
    t:assert(nic:counters().tx_packets > 0)
    if number == 2 then lan:partition_all() end
    t:assert_eq(lan:is_partitioned(a, b), number == 2)
  end)
end
