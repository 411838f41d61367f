-- Faults on a bridge, measured in the guests: each acts on the pair and the direction that it names, and on no other.
--
-- What must take at least as long as was asked for is exact; upper bounds leave room for a host that is busy. A bound
-- on what is drawn by chance says how often it fails without a fault.

provium.timeout = "180s"

local lan = provium:bridge("lan", { seed = 1 })
local a = provium:vm("a", "default", { nics = { lan } })
local b = provium:vm("b", "default", { nics = { lan } })
local c = provium:vm("c", "default", { nics = { lan } })
provium:boot()
-- Each knows the others' hardware addresses.
for _, pair in ipairs { { a, b }, { b, c }, { c, a } } do pair[1]:check("ping -c 1 " .. pair[2]:name()) end

-- What `ping` has measured: packets received, the duplicates among them, milliseconds.
local function ping(from, to, options)
  local out = from:run("ping -W 10 " .. options .. " " .. to:name()).stdout
  local sent, received = out:match("(%d+) packets transmitted, (%d+) packets received")
  local least, most = out:match("min/avg/max = ([%d.]+)/[%d.]+/([%d.]+)")
  return {
    sent = tonumber(sent),
    received = tonumber(received),
    duplicates = tonumber(out:match("(%d+) duplicates") or 0),
    least = tonumber(least),
    most = tonumber(most),
    text = out,
  }
end

-- Of what was asked for, that is measured at least: the clock of a guest is calibrated at its boot, and the times of a
-- capture are those of the host's clock, which NTP may slow down.
local CLOCK = 0.99

-- Milliseconds that each ICMP packet from one guest took to another.
local function delays(from, to, run)
  local sent, arrived = lan:nic(from):capture(), lan:nic(to):capture()
  run()
  local times = {}
  local function of(capture)
    local list = {}
    for _, packet in ipairs(capture:packets()) do
      local is_wanted = packet.proto == "icmp" and packet.src == lan:nic(from):ip() and packet.dst == lan:nic(to):ip()
      if is_wanted then list[#list + 1] = packet.time_ns end
    end
    return list
  end
  local departures, arrivals = of(sent), of(arrived)
  for index, arrival in ipairs(arrivals) do times[index] = (arrival - departures[index]) / 1e6 end
  sent:close()
  arrived:close()
  return times
end

-- A transfer over TCP from one guest to another; seconds.
local function transfer(from, to, port, bytes)
  local server = to:run_async(("nc -l -p %d | wc -c"):format(port))
  to:wait_for { succeeds = ("netstat -tln | grep -q :%d"):format(port), timeout = 60 }
  local before = host.now_ns()
  from:check(("head -c %d /dev/zero | nc %s %d"):format(bytes, to:name(), port))
  assert(tonumber(server:wait(120).stdout) == bytes)
  return (host.now_ns() - before) / 1e9
end

test("latency has its magnitude and its direction, and other pairs have none", function(t)
  t:defer(function() lan:reset() end)
  lan:add_latency { from = a, to = b, ms = 300 }
  local there = delays(a, b, function() t:assert(ping(a, b, "-c 3 -i 0.2").least >= 300 * CLOCK) end)
  t:assert_eq(#there, 3)
  for _, ms in ipairs(there) do t:assert(ms >= 300 * CLOCK, ms) end
  local back = delays(b, a, function() ping(a, b, "-c 3 -i 0.2") end)
  -- A busy host delays some of them, too.
  t:assert_eq(#back, 3)
  t:assert(math.min(table.unpack(back)) < 250, back[1])
  t:assert(ping(a, c, "-c 5 -i 0.2").least < 300)
  t:assert(ping(c, b, "-c 5 -i 0.2").least < 300)
  t:assert_eq(lan:counters(b, a).delayed + lan:counters(a, c).delayed + lan:counters(c, b).delayed, 0)
  -- Of the whole bridge: on both ways, and in addition.
  lan:add_latency("200ms")
  t:assert(ping(a, b, "-c 2 -i 0.2").least >= 700 * CLOCK)
  t:assert(ping(a, c, "-c 2 -i 0.2").least >= 400 * CLOCK)
end)

test("jitter spreads the latency and does not reorder", function(t)
  t:defer(function() lan:reset() end)
  lan:impair { from = a, to = b, latency = "100ms", jitter = "100ms" }
  local times = delays(a, b, function() ping(a, b, "-c 20 -i 0.3") end)
  t:assert_eq(#times, 20)
  table.sort(times)
  -- Uniform from 0 to 200 ms: all 20 within 20 ms comes about by chance once in 10^17 runs.
  t:assert(times[20] - times[1] > 20, times[20] - times[1])
end)

test("loss has its rate and its direction", function(t)
  t:defer(function() lan:reset() end)
  lan:drop_rate { from = a, to = b, p = 30 }
  local before = lan:counters(a, b).drops.loss or 0
  local pings = ping(a, b, "-c 200 -i 0.02")
  -- Of 200, 60 are expected to be lost, with a standard deviation of 6.5; a bound of 6 of them fails once in 10^9 runs.
  local lost = pings.sent - pings.received
  t:assert(lost >= 21 and lost <= 99, lost)
  -- Requests for the hardware address may be lost, too.
  local dropped = lan:counters(a, b).drops.loss - before
  t:assert(dropped >= lost and dropped <= lost + 15, dropped)
  t:assert_eq(lan:counters(b, a).drops.loss, nil)
  t:assert_eq(ping(a, c, "-c 50 -i 0.02").received, 50)
end)

test("duplicates arrive twice", function(t)
  t:defer(function() lan:reset() end)
  lan:impair { from = a, to = b, duplicate = 100 }
  local pings = ping(a, b, "-c 5 -i 0.2")
  t:assert(pings.received >= 5 and pings.duplicates >= 4, pings.text)
  t:assert_eq(ping(a, c, "-c 5 -i 0.2").duplicates, 0)
end)

test("corrupted frames fail the checks of their receiver", function(t)
  t:defer(function() lan:reset() end)
  local before = lan:counters(a, b).corrupted
  lan:impair { from = a, to = b, corrupt = 100 }
  -- One bit is inverted, which no checksum of IP and ICMP misses.
  t:assert_eq(ping(a, b, "-c 5 -i 0.2").received, 0)
  t:assert(lan:counters(a, b).corrupted >= before + 5)
  t:assert_eq(ping(a, c, "-c 3 -i 0.2").received, 3)
end)

-- A UDP datagram of a port of the script to a guest.
local function datagram(port, nic, number, text)
  local function bytes(mac)
    return (mac:gsub("(%x%x):?", function(hex) return string.char(tonumber(hex, 16)) end))
  end
  local function address(ip) return (ip:gsub("(%d+)%.?", function(byte) return string.char(byte) end)) end
  -- No checksum, which IPv4 allows.
  local udp = (">I2I2I2I2"):pack(7000, number, 8 + #text, 0) .. text
  local function header(checksum)
    return (">BBI2I2I2BBI2"):pack(0x45, 0, 20 + #udp, 0, 0, 64, 17, checksum) .. address(port:ip()) .. address(nic:ip())
  end
  local sum, plain = 0, header(0)
  for at = 1, 20, 2 do sum = sum + (">I2"):unpack(plain, at) end
  sum = (sum & 0xffff) + (sum >> 16)
  sum = (sum & 0xffff) + (sum >> 16)
  return bytes(nic:mac()) .. bytes(port:mac()) .. "\x08\x00" .. header(~sum & 0xffff) .. udp
end

test("reordered frames are overtaken, and none is lost", function(t)
  t:defer(function() lan:reset() end)
  local port = lan:port("sender")
  -- A UDP socket on port 7001 of all addresses.
  local socket = b:syscall("socket", 2, 2, 0).ret
  local bound = b:syscall("bind", {
    args = { socket, 0, 16 },
    bufs = { "\2\0" .. (">I2"):pack(7001) .. ("\0"):rep(12) },
    ptrs = { 1 },
  })
  t:assert_eq(bound.ret, 0, bound.errname)
  t:defer(function() b:syscall("close", socket) end)
  lan:impair { from = port, to = b, reorder = 30 }
  local sent = {}
  for number = 100, 149 do
    sent[#sent + 1] = tostring(number)
    port:send(datagram(port, lan:nic(b), 7001, tostring(number)))
  end
  local arrived = {}
  while #arrived < 50 do
    -- Waits for one.
    local pending = b:syscall_async("recvfrom", { args = { socket, 0, 3, 0, 0, 0 }, bufs = { { out = 3 } }, ptrs = { 1 } })
    arrived[#arrived + 1] = pending:await(60).out_bufs[1]
  end
  -- All in order, which takes that the first 49 are not held back: once in 10^7 runs.
  t:assert_neq(table.concat(arrived, " "), table.concat(sent, " "))
  table.sort(arrived)
  t:assert_same(arrived, sent)
  t:assert(lan:counters(port, b).reordered > 0)
end)

test("a rate is not exceeded", function(t)
  t:defer(function() lan:reset() end)
  lan:bandwidth_limit { from = a, to = b, bps = "2M" }
  local function delayed(from, to) return lan:counters(from, to).delayed end
  local there, back, elsewhere = delayed(a, b), delayed(b, a), delayed(a, c)
  -- 2 Mbit, less what one frame takes.
  local slow = transfer(a, b, 5001, 250000)
  t:assert(slow >= 0.98, slow)
  transfer(a, c, 5001, 250000)
  t:assert(delayed(a, b) > there)
  t:assert_eq(delayed(b, a), back)
  t:assert_eq(delayed(a, c), elsewhere)
end)

test("all at once, on one pair", function(t)
  t:defer(function() lan:reset() end)
  lan:impair { from = a, to = b, latency = "100ms", loss = 20, duplicate = 50, rate = "10M" }
  lan:add_latency { from = b, to = a, ms = 100 }
  local pings = ping(a, b, "-c 50 -i 0.05")
  t:assert(pings.least >= 200 * CLOCK, pings.least)
  -- None lost of 50: once in 70,000; none twice of those that arrive: once in 10^9.
  t:assert(pings.received < 50 and pings.duplicates > 0, pings.text)
  t:assert_eq(ping(a, c, "-c 20 -i 0.05").received, 20)
end)

-- A connection of TCP from `a` to `b`, over which lines are sent.
local function connection(port)
  local server = b:run_async("nc -l -p " .. port)
  b:wait_for { succeeds = ("netstat -tln | grep -q :%d"):format(port), timeout = 60 }
  local client = a:run_async("nc b " .. port)
  local output = server:stdout_stream()
  local self = {}
  function self.send(line) client:stdin_write(line .. "\n") end
  function self.expect(line) output:expect(line .. "\n", 60) end
  function self.is_silent() return output:next(0.3) == nil end
  function self.close()
    client:close()
    server:close()
  end
  self.send("hello")
  self.expect("hello")
  return self
end

-- Each cuts the way from `a` to `b`, and is undone.
local CUTS = {
  ["of a pair"] = { function() lan:partition(a, b) end, function() lan:unpartition(a, b) end },
  ["in one direction"] = {
    function() lan:partition { from = "a", to = "b" } end,
    function() lan:unpartition { from = "a", to = "b" } end,
  },
  ["from one to all"] = { function() lan:partition { from = a } end, function() lan:unpartition { from = a } end },
  ["of groups"] = {
    function() lan:partition_groups { { a, c }, { b } } end,
    function() lan:unpartition { to = b } lan:unpartition { from = b } end,
  },
  ["of all"] = { function() lan:partition_all() end, function() lan:restore_all() end },
  ["by isolation"] = { function() lan:isolate(b) end, function() lan:unisolate(b) end },
  ["by reset"] = { function() lan:partition_all() lan:isolate(a) end, function() lan:reset() end },
}

local kinds = {}
for kind in pairs(CUTS) do kinds[#kinds + 1] = kind end
table.sort(kinds)
for number, kind in ipairs(kinds) do
  test("a partition cuts a connection and heals it: " .. kind, function(t)
    local cut, heal = table.unpack(CUTS[kind])
    t:defer(function() lan:reset() end)
    local line = connection(6000 + number)
    cut()
    local passed = lan:counters(a, b).delivered
    line.send("cut")
    t:assert(line.is_silent())
    t:assert_eq(lan:counters(a, b).delivered, passed)
    heal()
    line.expect("cut")
    line.send("healed")
    line.expect("healed")
    line.close()
    t:assert_eq(ping(a, b, "-c 1").received, 1)
  end)
end

test("others reach each other during a partition", function(t)
  t:defer(function() lan:reset() end)
  lan:partition_groups { { a }, { b, c } }
  t:assert_eq(ping(b, c, "-c 1").received, 1)
  t:assert_eq(ping(a, c, "-c 1 -W 1").received, 0)
  lan:reset()
  lan:isolate(c)
  t:assert_eq(ping(a, b, "-c 1").received, 1)
  t:assert_eq(ping(b, c, "-c 1 -W 1").received, 0)
end)

test("a partition drops what is in flight", function(t)
  t:defer(function() lan:reset() end)
  lan:add_latency { from = a, to = b, ms = "10s" }
  local before = lan:counters(a, b)
  local proc = a:run_async("ping -c 1 -W 30 b")
  wait_until(function() return lan:counters(a, b).entered > before.entered end, { timeout = 60 })
  lan:partition(a, b)
  local after = lan:counters(a, b)
  t:assert(after.drops.partition > (before.drops.partition or 0))
  t:assert_eq(after.delivered, before.delivered)
  proc:kill()
end)

test("a fault lasts as long as its function", function(t)
  local during = lan:during(60, { loss = 100, to = b }, function() return ping(a, b, "-c 2 -W 1 -i 0.2").received end)
  t:assert_eq(during, 0)
  t:assert_eq(ping(a, b, "-c 2").received, 2)
end)

test("the guest sees its link go and come back", function(t)
  local nic = lan:nic(b)
  local function carrier() return b:read_file("/sys/class/net/eth0/carrier") end
  t:assert_eq(carrier(), "1\n")
  nic:disconnect()
  t:assert(not nic:is_connected())
  wait_until(function() return carrier() == "0\n" end, { timeout = 60 })
  t:assert_eq(ping(a, b, "-c 1 -W 1").received, 0)
  -- Also after a reset.
  b:reset()
  t:assert_eq(ping(a, b, "-c 1 -W 1").received, 0)
  nic:reconnect()
  wait_until(function() return carrier() == "1\n" end, { timeout = 60 })
  t:assert_eq(ping(a, b, "-c 1 -W 20").received, 1)
end)
