-- Traffic between guests, and many of them on one bridge.
local figures = require "figures"
local row, seconds, median = figures.row, figures.seconds, figures.median

local ROUNDS = 5

-- Mebibytes per second from one guest to the other, of a file in memory.
local SIZE = 16
local function throughput(from, to)
  return SIZE / seconds(function() to:check("wget -q -O /dev/null http://" .. from:name() .. ":9000/zeros") end)
end

-- The average of the round trips of a ping, milliseconds.
local function round_trip(from, options)
  local said = from:check("ping -q -i 0.02 " .. options).stdout
  return tonumber(said:match("= [%d.]+/([%d.]+)/"))
end

test("two guests on a bridge", {timeout = "300s"}, function(t)
  local lan = provium:bridge("lan")
  local a = provium:vm("a", "default", {nics = {lan}}):boot()
  local b = provium:vm("b", "default", {nics = {lan}}):boot()
  local serve = "mkdir /tmp/www; head -c %d /dev/zero > /tmp/www/zeros; httpd -p 9000 -h /tmp/www"
  a:check(serve:format(SIZE << 20))
  round_trip(a, "-c 20 b")
  local rates, trips, own = {}, {}, {}
  for i = 1, ROUNDS do
    rates[i] = throughput(a, b)
    trips[i] = round_trip(a, "-c 50 b")
    own[i] = round_trip(a, "-c 50 127.0.0.1")
  end
  row("TCP from guest to guest, through a bridge", median(rates), "MiB/s", "httpd and wget of busybox")
  row("ping from guest to guest, through a bridge", median(trips), "ms", "mean of 50")
  row("ping within a guest", median(own), "ms", "the same, to its own loopback interface")
  a:close()
  b:close()
  lan:close()
end)

-- All boot, and each runs as many pings as there are others: of the others on a bridge, or of itself.
local function boot_and_ping(t, name, count, net)
  local lab, took = provium:lab(name), nil
  local lan = net and lab:bridge("lan")
  for i = 1, count do lab:vm("m" .. i, "default", {nics = lan and {lan} or {}}) end
  local replies = {}
  took = seconds(function()
    lab:boot()
    local tasks = {}
    for i = 1, count do
      tasks[i] = co.spawn(function()
        local vm, script = lab:vm("m" .. i), {}
        for j = 1, count do
          local to = net and "m" .. j or "127.0.0.1"
          -- On a host that is so busy, a guest may give up asking for an address.
          local ping = ("until ping -q -c 1 -W 1 %s > /dev/null; do echo again; done; echo reply"):format(to)
          if j ~= i then script[#script + 1] = ping end
        end
        replies[i] = select(2, vm:run(table.concat(script, "\n")).stdout:gsub("reply\n", ""))
      end)
    end
    for _, task in ipairs(tasks) do task:join("240s") end
  end)
  for i = 1, count do t:assert_eq(replies[i], count - 1) end
  lab:shutdown()
  return took
end

test("32 VMs on one bridge", {timeout = "900s"}, function(t)
  for _, net in ipairs{false, true} do boot_and_ping(t, "first-" .. tostring(net), 2, net) end
  local alone = boot_and_ping(t, "alone", 32, false)
  row("32 VMs without NICs, 31 pings in each", alone, "s", "boot from a template; to the loopback interface")
  local together = boot_and_ping(t, "together", 32, true)
  row("32 VMs on one bridge, each pings all others", together, "s", "boot from a template; to each other")
  row("32 VMs on one bridge / without NICs", together / alone, "ratio", "aim: 1.5 at most")
end)
