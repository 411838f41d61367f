-- Networks in snapshots: connections and frames in flight continue after both ends were put back.

provium.timeout = "180s"

local lab = provium:lab("pair")
local lan = lab:bridge("lan")
local a = lab:vm("a", "default", { nics = { lan } })
local b = lab:vm("b", "default", { nics = { lan } })
lab:boot()
a:check("ping -c 1 b")

local function got() return b:exists("/tmp/got") and b:read_file("/tmp/got") or "" end

local function wait_for_lines(lines)
  wait_until(function() return got() == lines end, { timeout = 60, desc = lines })
end

test("a connection continues after both ends were put back", function(t)
  b:run_async("nc -l -p 6000 > /tmp/got")
  b:wait_for { succeeds = "netstat -tln | grep -q :6000", timeout = 60 }
  local client = a:run_async("nc b 6000")
  client:stdin_write("one\n")
  wait_for_lines("one\n")
  local saved = lab:snapshot()
  client:stdin_write("two\n")
  wait_for_lines("one\ntwo\n")
  lab:restore(saved)
  t:assert_eq(got(), "one\n")
  client:stdin_write("three\n")
  wait_for_lines("one\nthree\n")
  client:close()
end)

test("a frame that was being delayed arrives", function(t)
  -- Without questions for hardware addresses, whose answers would be late, too.
  for at, of in pairs { [a] = b, [b] = a } do
    at:check("ip neigh flush dev eth0; arp -s " .. lan:nic(of):ip() .. " " .. lan:nic(of):mac())
  end
  lan:add_latency { from = a, to = b, ms = "8s" }
  t:defer(function() lan:reset() end)
  local before = lan:counters(a, b)
  local ping = a:run_async("ping -c 1 -W 60 b")
  wait_until(function() return lan:counters(a, b).entered > before.entered end, { timeout = 60 })
  local saved = lab:snapshot()
  t:assert_eq(lan:counters(a, b).delivered, before.delivered)
  wait_until(function() return lan:counters(a, b).delivered > before.delivered end, { timeout = 60 })
  lab:restore(saved)
  t:assert_eq(lan:counters(a, b).delivered, before.delivered, "in flight again")
  t:assert_eq(lan:latency_ms(a, b), 8000.0)
  t:assert_contains(ping:wait(60):assert_ok().stdout, "1 packets received")
end)

test("rules, members and addresses are those of the snapshot", function(t)
  t:defer(function() lan:reset() end)
  lan:partition(a, b)
  lan:impair { loss = 5 }
  local saved = lab:snapshot()
  local listed, address = lan:impairments(), lan:nic(a):ip()
  lan:reset()
  lan:detach(a)
  lan:port("other")
  lab:restore(saved)
  t:assert_same(lan:members(), { "a", "b" })
  t:assert(lan:is_partitioned(a, b))
  t:assert_same(lan:impairments(), listed)
  t:assert_eq(lan:nic(a):ip(), address)
  lan:reset()
  a:check("ping -c 1 -W 20 b")
end)

test("a bridge that was attached to a running guest is put back with it", function(t)
  local wan = lab:bridge("wan")
  wan:attach { a, b }
  a:check("ping -c 1 b.wan")
  local saved = lab:snapshot()
  wan:detach(b)
  lab:restore(saved)
  a:check("ping -c 1 -W 20 b.wan")
  b:check("ping -c 1 a.lan")
  wan:close()
  a:check("ping -c 1 b.lan")
end)

test("a VM alone is put back on the bridge that it is on", function(t)
  local saved = a:snapshot()
  a:check("touch /tmp/later")
  a:restore(saved)
  t:assert(not a:exists("/tmp/later"))
  a:check("ping -c 1 -W 20 b")
end)

test("a fixture has its network", function(t)
  local pair = provium:lab_fixture("fixtures/network.fixture.lua")
  local net = pair.net
  t:assert_same(net:members(), { "left", "right" })
  pair.left:check("ping -c 1 -W 20 right.net")
  local gateway = net:nic(pair.left):ip():gsub("%.%d+$", ".1")
  local route = "10.%d+.%d+.0/24 via " .. gateway:gsub("%.", "%%.")
  t:assert_match(pair.left:check("ip route").stdout, route)
  t:assert_same(net:routes(), { "other" })
  net:partition("left", "right")
  t:assert_neq(pair.left:run("ping -c 1 -W 1 right").exit_code, 0)
  local again = provium:lab("again"):lab_fixture("fixtures/network.fixture.lua")
  again.right:check("ping -c 1 -W 20 left")
end)
