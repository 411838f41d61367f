-- The way from guests to the network of the host. A server on an address of the host stands for that network.

provium.timeout = "200s"

local missing = nil
if not os.execute("command -v passt >/dev/null") then
  missing = "passt is not installed"
elseif not os.execute("grep -q '^[^ \t]*[ \t]00000000[ \t]' /proc/net/route") then
  missing = "the host has no default route, which passt needs"
end

local lan = provium:bridge("lan", {dhcp = true})
local a = provium:vm("a", "default")
local b = provium:vm("b", "default")
if not missing then
  lan:attach({a, b})
  provium:boot()
end

-- A server that says hello to each client, on the host's first address.
local function server()
  local program = [[
    use IO::Socket::INET; $| = 1;
    my $udp = IO::Socket::INET->new(Proto => "udp", PeerAddr => "192.0.2.1", PeerPort => 9);
    my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => $udp->sockhost, LocalPort => 0) or die $!;
    print $s->sockhost, " ", $s->sockport, "\n"; close STDOUT;
    alarm 250; while (my $c = $s->accept) { print $c "hello ", $c->peerhost, "\n"; close $c; }
  ]]
  local started = io.popen("perl -e '" .. program .. "'")
  local host, port = started:read("l"):match("(%S+) (%d+)")
  return host, port
end

test("guests reach the network of the host, and stop reaching it", function(t)
  if missing then t:skip(missing) end
  local host, port = server()
  -- Its input stays open, so that the server is the first to close.
  local client = "sleep 12 | timeout 15 nc " .. host .. " " .. port
  t:assert(not a:run(client):ok(), "no route before")
  lan:enable_uplink()
  t:assert_contains(a:check(client).stdout, "hello " .. host)
  t:assert_contains(b:check(client).stdout, "hello " .. host)
  a:check("ping -c 1 b.lan")
  t:assert_eq(a:check("ip route").stdout:match("default via (%S+)"), "10.0.1.1")
  lan:disable_uplink()
  t:assert(not a:run(client):ok(), "no route after")
  t:assert(not a:check("ip route").stdout:find("default"))
end)

test("DHCP gives the addresses that the harness has chosen, DNS their names", function(t)
  if missing then t:skip(missing) end
  local offered = a:check("udhcpc -i eth0 -n -q -f -s /bin/true 2>&1").stdout
  t:assert_contains(offered, "10.0.1.2")
  local answer = a:check("nslookup b.lan 10.0.1.1").stdout
  t:assert_contains(answer, "10.0.1.3")
end)
