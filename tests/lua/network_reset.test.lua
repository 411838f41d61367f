-- reset_between_tests puts bridges back with the file's VMs.

provium.reset_between_tests = true
provium.timeout = "120s"

local lan = provium:bridge("lan")
local a = provium:vm("a", "default", { nics = { lan } })
local b = provium:vm("b", "default", { nics = { lan } })
provium:boot()
lan:add_latency { from = a, to = b, ms = 1 }

for _, name in ipairs { "first", "second" } do
  test("the " .. name .. " test finds the network as the top level left it", function(t)
    t:assert_same(lan:impairments(), { { from = "a", to = "b", latency = 0.001 } })
    t:assert_same(lan:members(), { "a", "b" })
    a:check("ping -c 1 -W 20 b.lan")
    lan:partition(a, b)
    lan:reset()
    lan:isolate(a)
    lan:detach(b)
  end)
end
