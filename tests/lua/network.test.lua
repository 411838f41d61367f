-- Bridges: addresses and names, who is attached when, ports of the script, routes and services.

provium.timeout = "120s"

local lan = provium:bridge("lan")
local a = provium:vm("a", "default", { nics = { lan } })
local b = provium:vm("b", "default", { nics = { "lan" } })
local c = provium:vm("c", "default")
provium:boot()

local function ping(from, to, options)
  return from:run("ping -c 1 -W 20 " .. (options or "") .. " " .. to)
end

local function answers(from, to, options) return ping(from, to, options):ok() end

-- All that the interface has: link, addresses.
local function interface(vm, name) return vm:run("ip address show dev " .. name).stdout end

test("guests have the addresses that their NICs have, and know each other's names", function(t)
  t:assert_same(lan:members(), { "a", "b" })
  for _, vm in ipairs { a, b } do
    local nic = lan:nic(vm)
    local shown = interface(vm, "eth0")
    t:assert_contains(shown, "link/ether " .. nic:mac())
    t:assert_contains(shown, "inet " .. nic:ip() .. "/24")
    t:assert_contains(shown, "inet6 " .. nic:ip6() .. "/64")
    t:assert_eq(vm:nic("eth0"), nic)
  end
  for _, name in ipairs { "b", "b.lan", lan:nic(b):ip() } do ping(a, name):assert_ok() end
  ping(a, "b.lan", "-6"):assert_ok()
  ping(b, "a", "-6"):assert_ok()
end)

test("the hardware address depends on the names only", function(t)
  t:assert_eq(lan:nic(a):mac(), "52:a0:49:7a:6c:33")
  t:assert_neq(lan:nic(b):mac(), lan:nic(a):mac())
end)

test("guest and bridge count what passes", function(t)
  local nic = lan:nic(a)
  local before, path = nic:counters(), lan:counters(a, b)
  a:check("ping -c 3 b")
  local after = nic:counters()
  t:assert(after.tx_packets >= before.tx_packets + 3)
  t:assert(after.rx_packets >= before.rx_packets + 3)
  t:assert(after.tx_bytes >= before.tx_bytes + 3 * 98)
  t:assert_eq(after.errors, before.errors)
  t:assert(lan:counters(a, b).delivered >= path.delivered + 3)
  t:assert_eq(lan:counters(a, b).dropped, path.dropped)
end)

test("only members speak on a bridge", function(t)
  local quiet = provium:bridge("quiet")
  local port = quiet:port("listener")
  local frames = quiet:capture()
  t:assert_eq(port:recv("500ms"), nil)
  t:assert_same(frames:packets(), {})
  quiet:attach(a)
  ping(a, quiet:nic(a):ip()):assert_ok()
  port:recv()
  for _, packet in ipairs(frames:packets()) do t:assert_eq(packet.from, "a", packet.summary) end
end)

test("a guest that runs is attached and detached", function(t)
  local wan = provium:bridge("wan")
  wan:attach { a, c }
  t:assert_contains(interface(a, "eth1"), wan:nic(a):ip())
  -- The first NIC of this one.
  t:assert_contains(interface(c, "eth0"), wan:nic(c):ip())
  ping(a, "c.wan"):assert_ok()
  ping(a, "c"):assert_ok()
  ping(c, "a", "-6"):assert_ok()
  t:assert(not answers(c, "b", "-W 1"), "b is not on this bridge")
  wan:detach(c)
  t:assert_contains(ping(a, "c").stderr, "bad address")
  t:assert(not c:exists("/sys/class/net/eth0"))
  wan:close()
  t:assert(not a:exists("/sys/class/net/eth1"))
  ping(a, "b"):assert_ok()
end)

-- Each time in the slot of the one before, whose interface a busy guest takes a while to make.
test("a NIC is set up also in the slot of one that was detached", function(t)
  for _ = 1, 3 do c:run_async("while :; do :; done") end
  local wan = provium:bridge("wan")
  for _ = 1, 8 do
    wan:attach(c)
    t:assert_contains(interface(c, "eth0"), wan:nic(c):ip())
    wan:detach(c)
  end
end)

test("a guest that is paused has its NIC when it is resumed", function(t)
  local wan = provium:bridge("wan")
  wan:attach(a)
  c:pause()
  wan:attach(c)
  c:resume()
  ping(c, "a.wan"):assert_ok()
  c:pause()
  wan:detach(c)
  c:resume()
  t:assert(not c:exists("/sys/class/net/eth0"))
end)

test("interfaces have the order of attachment, and the first bridge has the short names", function(t)
  local nets = { provium:bridge("x"), provium:bridge("y"), provium:bridge("z") }
  for _, net in ipairs(nets) do net:attach { a, c } end
  for index, net in ipairs(nets) do
    t:assert_eq(net:nic(a):name(), "eth" .. index)
    t:assert_eq(net:nic(c):name(), "eth" .. index - 1)
    ping(a, "c." .. net:name()):assert_ok()
  end
  t:assert_contains(ping(a, "c").stdout, "(" .. nets[1]:nic(c):ip() .. ")")
  nets[1]:close()
  -- The others keep theirs.
  t:assert_eq(nets[2]:nic(c):name(), "eth1")
  ping(a, "c.z"):assert_ok()
end)

test("a guest that is reset, or boots again, has its network", function(t)
  b:reset()
  ping(a, "b"):assert_ok()
  ping(b, "a.lan", "-6"):assert_ok()
  b:shutdown()
  t:assert(not answers(a, "b", "-W 1"))
  local wan = provium:bridge("wan")
  b:boot { nics = { lan, wan } }
  t:assert_same(wan:members(), { "b" })
  ping(b, "a"):assert_ok()
  t:assert_contains(interface(b, "eth1"), wan:nic(b):ip())
end)

test("a VM that cannot be attached leaves nothing behind", function(t)
  local small = provium:bridge("small", { subnet = "192.168.9.0/29" })
  for number = 1, 4 do small:port("p" .. number) end
  local err = t:assert_raises(function() small:attach { a, c } end)
  t:assert_contains(err, "all addresses of its subnet")
  t:assert_eq(#small:members(), 4)
  t:assert(not a:exists("/sys/class/net/eth1"))
end)

test("the script is a peer", function(t)
  local port = lan:port("peer", { mac = "52:54:00:00:00:99" })
  local function bytes(mac)
    return (mac:gsub("(%x%x):?", function(hex) return string.char(tonumber(hex, 16)) end))
  end
  local function address(ip) return (ip:gsub("(%d+)%.?", function(byte) return string.char(byte) end)) end
  local mac = bytes(port:mac())
  local asked = 0
  port:on_frame(function(frame)
    -- ARP: a request for this port's address.
    if frame:sub(13, 14) == "\x08\x06" and frame:sub(39, 42) == address(port:ip()) then
      asked = asked + 1
      local sender = frame:sub(23, 32)
      port:send(sender:sub(1, 6) .. mac .. "\x08\x06\0\1\x08\0\6\4\0\2"
        .. mac .. address(port:ip()) .. sender .. ("\0"):rep(18))
    end
  end)
  a:check("grep -q peer.lan /etc/hosts")
  local found = a:check("arping -c 1 -w 10 -I eth0 " .. port:ip()).stdout
  t:assert_contains(found:lower(), "52:54:00:00:00:99")
  t:assert(asked > 0)
  port:close()
  t:assert_neq(a:run("grep -q peer.lan /etc/hosts").exit_code, 0)
end)

test("a capture is read as packets, lines and a file", function(t)
  local all, of_b = lan:capture(), lan:nic(b):capture()
  a:check("ping -c 2 b")
  local requests, replies = 0, 0
  for _, packet in ipairs(all:packets()) do
    if packet.proto == "icmp" and packet.from == "a" then
      requests = requests + 1
      t:assert_same({ packet.src, packet.dst, packet.src_mac, packet.length },
        { lan:nic(a):ip(), lan:nic(b):ip(), lan:nic(a):mac(), 98 })
    elseif packet.proto == "icmp" then
      replies = replies + 1
    end
  end
  t:assert_same({ requests, replies }, { 2, 2 })
  of_b:expect("ICMP echo request", "60s")
  of_b:expect("ICMP echo reply", "60s")
  local path = os.tmpname()
  t:defer(function() os.remove(path) end)
  all:save(path)
  local file <close> = io.open(path, "rb")
  t:assert_eq(("<I4"):unpack(file:read(4)), 0xa1b23c4d, "pcap with nanoseconds")
end)

test("bridges of different labs with the same names and addresses never meet", function(t)
  local nets = {}
  for _, name in ipairs { "one", "another" } do
    nets[#nets + 1] = provium:lab(name):bridge("net", { subnet = "10.77.0.0/24" })
  end
  nets[1]:attach(a)
  nets[2]:attach(c)
  local ports = { nets[1]:port("p", { ip = "10.77.0.50" }), nets[2]:port("p", { ip = "10.77.0.60" }) }
  local frames = nets[2]:capture()
  a:run("arping -c 1 -w 1 -I eth1 10.77.0.60")
  t:assert(ports[1]:recv(), "the request has come to its own bridge")
  for _, packet in ipairs(frames:packets()) do t:assert_eq(packet.from, "c", packet.summary) end
end)

test("packets pass between bridges that are routed, and no others", function(t)
  local far = provium:bridge("far")
  far:attach(c)
  local there = far:nic(c)
  t:assert(not answers(a, there:ip(), "-W 1"))
  lan:route(far)
  t:assert_same(lan:routes(), { "far" })
  t:assert_same(far:routes(), { "lan" })
  local reply = ping(a, there:ip()):assert_ok().stdout
  t:assert_contains(reply, "ttl=63")
  ping(a, there:ip6(), "-6"):assert_ok()
  ping(c, lan:nic(b):ip()):assert_ok()
  a:run("ping -c 1 -t 1 -W 5 " .. there:ip())
  local hops = a:check("traceroute -n -w 20 -q 1 -m 3 " .. there:ip()).stdout
  t:assert_contains(hops, lan:nic(a):ip():gsub("%d+$", "1"))
end)

test("a bridge hands out its addresses by DHCP and names by DNS if it is asked to", function(t)
  local net = provium:bridge("net", { dhcp = true })
  net:attach { a, c }
  local nic = net:nic(c)
  local log = c:run("udhcpc -f -n -q -t 5 -s /bin/true -i " .. nic:name() .. " 2>&1"):assert_ok().stdout
  t:assert_contains(log, "lease of " .. nic:ip() .. " obtained from " .. nic:ip():gsub("%d+$", "1"))
  local answer = c:run("nslookup a.net " .. nic:ip():gsub("%d+$", "1")).stdout
  t:assert_contains(answer, net:nic(a):ip())
end)
