//! Bridges, ports, captures and what happens to frames, as far as no guest is needed: two ports of the script are the
//! members.

use super::objects::with_profile;
use super::*;

/// Functions that the files of these tests begin with.
const PRELUDE: &str = r#"
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, part in ipairs{...} do t:assert_contains(err, part) end
end
-- A frame to a member, or to all.
local function frame(to, from, text)
  local function bytes(mac) return (mac:gsub("(%x%x):?", function(hex) return string.char(tonumber(hex, 16)) end)) end
  local payload = text or ""
  return bytes(to == "all" and "ff:ff:ff:ff:ff:ff" or to:mac()) .. bytes(from:mac()) .. "\x88\xb5"
    .. payload .. ("\0"):rep(46 - #payload)
end
"#;

fn case(source: &str) -> Case {
    with_profile(&format!("{PRELUDE}{source}"))
}

#[test]
fn bridges_have_names_scopes_and_values() {
    case(
        r#"
local lan = provium:bridge("lan")
local inner = provium:lab("inner")
local wan = inner:bridge("wan", {subnet = "192.168.7.0/24", seed = -1, mtu = 9000})
test("look-up", function(t)
  t:assert_eq(provium:bridge("lan"), lan)
  t:assert_eq(provium.lan, lan)
  t:assert_eq(inner.wan, wan)
  t:assert_eq(provium.wan, nil)
  t:assert_eq(({[lan] = 1})[provium.lan], 1)
  t:assert_eq(tostring(lan), "bridge `lan`")
  t:assert_eq(lan:name(), "lan")
  t:assert_eq(wan:subnet(), "192.168.7.0/24")
  t:assert_eq(wan:mtu(), 9000)
  t:assert_match(lan:subnet(), "^10%.%d+%.%d+%.0/24$")
  local mine = provium:bridge("mine")
  t:assert_same(provium:bridge_names(), {"mine"})
  t:assert_same(provium:members(), {{kind = "bridge", name = "mine"}})
  t:assert_same(inner:bridge_names(), {"wan"})
  mine:close()
  mine:close()
  t:assert_eq(tostring(mine), "bridge `mine` (closed)")
  t:assert_eq(provium.mine, nil)
  refused(t, function() mine:partition_all() end, "bridge `mine`: partition_all(): the bridge is closed")
end)
test("membership of labs", function(t)
  inner:include{lan}
  t:assert_same(inner:bridge_names(), {"wan", "lan"})
  inner:remove("lan")
  t:assert_same(inner:bridge_names(), {"wan"})
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn refusals_of_bridges() {
    case(
        r#"
local lan = provium:bridge("lan")
local vm = provium:vm("v", "p")
test("refused", function(t)
  local a, b = lan:port("a"), lan:port("b")
  refused(t, function() provium:bridge("x", {sbunet = "10.0.0.0/8"}) end, "did you mean `subnet`?")
  refused(t, function() provium:bridge("x", {subnet = "10.0.0.1/8"}) end, "option `subnet`", "the network is `10.0.0.0/8`")
  refused(t, function() provium:bridge("x", {mtu = 10}) end, "bridge `x`: bridge(): mtu is 10")
  refused(t, function() provium:bridge("lan", {mtu = 1500}) end, "exists already")
  refused(t, function() provium:bridge("v") end, "a vm `v`")
  refused(t, function() lan:attatch(vm) end, "bridge has no method `attatch`; did you mean `attach`?")
  refused(t, function() lan:attach(1) end, "a.test.lua:24: bridge `lan`: attach(): needs a vm or the name of one, got 1")
  refused(t, function() lan:attach("w") end, "VM `w` does not exist", "`v`")
  refused(t, function() lan:attach{} end, "the list of VMs is empty")
  refused(t, function() lan:attach{vm, "v"} end, "names vm `v` twice")
  refused(t, function() lan:attach{vm, 3} end, "entry 2: needs a vm")
  refused(t, function() lan:detach(vm) end, "bridge `lan`: detach()", "vm `v` is not attached to it")
  refused(t, function() lan:nic(vm) end, "vm `v` is not attached to it")
  refused(t, function() lan:route(lan) end, "bridge `lan`: route(): a bridge is not routed to itself")
  refused(t, function() lan:route("wan") end, "bridge `wan` does not exist")
  refused(t, function() vm:nic("lan") end, "vm `v`: nic(\"lan\")", "not attached to a bridge")
  refused(t, function() lan:partition(a) end, "partition(): needs a vm, a port or the name of one, got nil")
  refused(t, function() lan:partition(a, a) end, "`from` and `to` are both `a`")
  refused(t, function() lan:partition(a, "c") end, "`c` is not attached to it")
  refused(t, function() lan:partition(a, vm) end, "vm `v` is not attached to it; its members are a, b")
  refused(t, function() lan:partition{} end, "give `from` or `to`")
  refused(t, function() lan:partition{form = a} end, "unknown option `form`; did you mean `from`?")
  refused(t, function() lan:partition{a, b, "c"} end, "between two members, got 3")
  refused(t, function() lan:partition_groups{{a, b}} end, "at least two")
  refused(t, function() lan:partition_groups{a, b} end, "must be a list of lists")
  refused(t, function() lan:partition_groups{{a}, {a, b}} end, "`a` is in two groups")
  refused(t, function() lan:isolate("aa") end, "`aa` is not attached to it; did you mean `a`?")
  refused(t, function() lan:add_latency() end, "must be a number of milliseconds", "got nil")
  refused(t, function() lan:add_latency("20") end, "has no unit")
  refused(t, function() lan:add_latency{from = a, p = 5} end, "unknown option `p`")
  refused(t, function() lan:add_latency{from = a} end, "option `ms` is missing")
  refused(t, function() lan:add_directional_latency{from = a, ms = 5} end, "option `to` is missing")
  refused(t, function() lan:add_directional_latency(5) end, "needs a table {from = …, to = …, ms = …}, got 5")
  refused(t, function() lan:drop_rate(101) end, "bridge `lan`: drop_rate(): the value: must be a percentage, 0 to 100, got 101")
  refused(t, function() lan:drop_rate{p = 0/0} end, "option `p`: must be a percentage")
  refused(t, function() lan:bandwidth_limit("10MB") end, "`10MB` is not a bit rate")
  refused(t, function() lan:impair{from = a} end, "say what to do")
  refused(t, function() lan:impair{latncy = 1} end, "did you mean `latency`?")
  refused(t, function() lan:impair{latency = 100} end, "option `latency`: must be at most 60s, got 100 (a number is seconds")
  refused(t, function() lan:impair{burst = 0.5} end, "option `burst`: must be the mean length")
  refused(t, function() lan:impair{queue = "x"} end, "option `queue`: `x` is not a size")
  refused(t, function() lan:impair{from = 1, loss = 1} end, "option `from`: needs a vm, a port")
  refused(t, function() lan:port("a") end, "`a` is attached to it already")
  refused(t, function() lan:port("c", {mac = "x"}) end, "option `mac`: \"x\" is not a MAC address")
  refused(t, function() lan:port("c", {mac = "01:00:00:00:00:01"}) end, "is a group address")
  refused(t, function() lan:port("c", {mac = a:mac()}) end, "belongs to `a`")
  refused(t, function() lan:port("c", {ip = "fast"}) end, "is not an IPv4 address")
  refused(t, function() lan:port("c", {ip = "9.9.9.9"}) end, "9.9.9.9 is not a host of its subnet")
  refused(t, function() lan:counters(a, "x") end, "it has no path from `a` to `x`")
  refused(t, function() lan:during(1, {}) end, "bridge `lan`: during(): give at least one of")
  refused(t, function() lan:during(1, {los = 5}) end, "did you mean `loss`?")
  refused(t, function() lan:during(1, {loss = 5}, 7) end, "bridge:during: must be given a function, got a number")
  refused(t, function() lan:during(1, {partition = a}) end, "option `partition`: must be {a, b}")
  refused(t, function() lan:during(1, {from = a, isolate = b}) end, "`from` and `to` are for impairments")
  refused(t, function() provium:vm("w", "p", {nics = lan}) end, "option `nics`: must be a list of bridges", "got bridge `lan`")
  refused(t, function() provium:vm("w", "p", {nics = {"lna"}}) end, "option `nics`: bridge `lna` does not exist; did you mean `lan`?")
  t:assert_eq(provium.w, nil)
  b:close()
  b:close()
  t:assert_eq(tostring(b), "port `b` of bridge `lan` (closed)")
  refused(t, function() b:send("x") end, "port `b` of bridge `lan`: send(): the port is closed")
  refused(t, function() lan:partition(a, b) end, "port `b` of bridge `lan` is not attached to it")
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn vms_are_attached_before_they_boot() {
    case(
        r#"
local lan = provium:bridge("lan", {subnet = "10.9.0.0/24"})
test("attached", function(t)
  local wan = provium:bridge("wan")
  local v = provium:vm("v", "p", {nics = {lan, "wan"}})
  local w = provium:vm("w", "p")
  lan:attach("w")
  t:assert_same(lan:members(), {"v", "w"})
  local nic = lan:nic(v)
  t:assert_eq(v:nic("lan"), nic)
  t:assert_eq(v:nic("eth0"), nic)
  t:assert_eq(v:nic(lan), nic)
  t:assert_eq(v:nic("eth1"), wan:nic("v"))
  t:assert_eq(tostring(nic), "nic `eth0` of vm `v`")
  t:assert_eq(nic:name(), "eth0")
  t:assert_eq(nic:vm_name(), "v")
  t:assert_eq(nic:bridge(), lan)
  t:assert_eq(nic:ip(), "10.9.0.2")
  t:assert_eq(lan:nic(w):ip(), "10.9.0.3")
  t:assert_match(nic:ip6(), "^fd00:")
  t:assert_match(nic:mac(), "^52:%x%x:%x%x:%x%x:%x%x:%x%x$")
  t:assert_same(nic:counters(), {rx_bytes = 0, tx_bytes = 0, rx_packets = 0, tx_packets = 0, errors = 0, dropped = 0})
  refused(t, function() lan:attach(w) end, "vm `w` is attached to it already")
  lan:partition(v, nic == nil and "" or "w")
  t:assert(lan:is_partitioned(nic, w))
  lan:detach{v, w}
  t:assert_same(lan:members(), {})
  refused(t, function() nic:ip() end, "not attached to it any more")
  nic:close()
end)
test("all of them or none", function(t)
  local v = provium:vm("v", "p")
  local w = provium:vm("w", "p", {nics = {lan}})
  refused(t, function() lan:attach{v, w} end, "vm `w` is attached to it already")
  t:assert_same(lan:members(), {"w"})
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn frames_pass_between_ports() {
    case(
        r#"
local lan = provium:bridge("lan", {subnet = "10.9.0.0/24", seed = 7})
test("there and back", function(t)
  local a = lan:port("a", {mac = "52:54:00:00:00:0a", ip = "10.9.0.77"})
  local b = lan:port("b")
  t:assert_eq(a:mac(), "52:54:00:00:00:0a")
  t:assert_eq(a:ip(), "10.9.0.77")
  t:assert_eq(a:bridge(), lan)
  t:assert_eq(lan:port("c"):ip(), "10.9.0.3")
  local before = host.now_ns()
  a:send(frame(b, a, "hello"))
  local got, time = b:recv()
  t:assert_eq(got, frame(b, a, "hello"))
  t:assert(time >= before and time <= host.now_ns(), time)
  t:assert_eq(b:recv("1ms"), nil)
  refused(t, function() b:recv(-1) end, "port `b` of bridge `lan`: recv(): the timeout: `-1` is negative")
end)
test("in a task", function(t)
  local a, b = lan:port("a"), lan:port("b")
  local task = b:on_frame(function(got, time)
    t:assert_eq(math.type(time), "integer")
    b:send(frame(a, b, "echo " .. got:sub(15, 18)))
  end)
  for number = 1, 3 do
    a:send(frame(b, a, "no " .. number))
    t:assert_contains(a:recv(), "echo no " .. number)
  end
  t:assert_eq(task:status(), "running")
  b:close()
  task:join(5)
  local c = lan:port("c")
  local failing = c:on_frame(function() error("seen") end)
  a:send(frame(c, a))
  t:assert_contains(t:assert_raises(function() failing:join(5) end), "seen")
end)
test("captured", function(t)
  local a, b = lan:port("a"), lan:port("b")
  local capture = lan:capture()
  a:send(frame(b, a))
  b:send(frame("all", b))
  local packets = capture:packets()
  t:assert_eq(#packets, 2)
  local first = packets[1]
  t:assert_same({first.from, first.proto, first.src, first.dst, first.length, first.src_port},
    {"a", "0x88b5", a:mac(), b:mac(), 60})
  t:assert_near(first.time, host.now_ns() / 1e9, 60)
  t:assert_eq(packets[2].dst_mac, "ff:ff:ff:ff:ff:ff")
  t:assert_match(capture:expect_match("b: ([^\n]+)"), "ethertype 0x88b5")
  t:assert_match(capture:creation_site().file, "a.test.lua")
  local path = os.tmpname()
  capture:save(path)
  local file <close> = io.open(path, "rb")
  -- Times in nanoseconds.
  t:assert_eq(("<I4"):unpack(file:read(4)), 0xa1b23c4d)
  t:assert_eq(file:seek("end"), 24 + 2 * (16 + 60))
  os.remove(path)
  capture:close()
  capture:close()
  t:assert_eq(capture:next(), nil)
  refused(t, function() capture:expect("x") end, "capture closed")
  t:assert_eq(#capture:packets(), 2)
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn impairments_act_on_what_they_name() {
    case(
        r#"
local lan = provium:bridge("lan")
local function passes(from, to)
  local before = lan:counters(from, to)
  from:send(frame(to, from))
  local after = lan:counters(from, to)
  return after.delivered - before.delivered == 1
end
test("partitions and isolation", function(t)
  local a, b, c = lan:port("a"), lan:port("b"), lan:port("c")
  lan:partition(a, "b")
  t:assert(not passes(a, b) and not passes(b, a) and passes(a, c))
  t:assert(lan:is_partitioned(a, b) and lan:is_partitioned("b", "a"))
  lan:unpartition{a, b}
  lan:partition{from = a, to = b}
  t:assert(not passes(a, b) and passes(b, a))
  t:assert(not lan:is_partitioned(b, a))
  lan:unpartition{from = a}
  lan:partition_groups{{a, b}, {c}}
  t:assert(passes(a, b) and not passes(a, c) and not passes(c, b))
  lan:partition_all()
  t:assert(not passes(a, b))
  lan:restore_all()
  t:assert(passes(a, b) and not passes(a, c))
  lan:reset()
  lan:isolate(c)
  t:assert(passes(a, b) and not passes(a, c) and not passes(c, a))
  t:assert(lan:is_isolated(c) and not lan:is_isolated(a))
  lan:unisolate("c")
  t:assert(passes(a, c))
  local counters = lan:counters(a, c)
  t:assert_same({counters.from, counters.to, counters.drops}, {"a", "c", {partition = 2, isolated = 1}})
  t:assert_eq(counters.dropped, 3)
  local all = lan:counters()
  t:assert_eq(#all, 7)
  t:assert_same(all[7], {from = "c", dropped = 1, drops = {at_sender = 1}})
end)
test("values", function(t)
  local a, b = lan:port("a"), lan:port("b")
  t:assert_same({lan:latency_ms(), lan:drop_rate_pct(), lan:bandwidth_bps()}, {0.0, 0.0})
  lan:add_latency(20)
  lan:drop_rate(5)
  lan:bandwidth_limit("1M")
  t:assert_same({lan:latency_ms(), lan:drop_rate_pct(), lan:bandwidth_bps()}, {20.0, 5.0, 1000000})
  lan:add_latency{from = a, to = b, ms = "5ms"}
  lan:add_directional_latency{from = b, to = a, ms = 1}
  lan:directional_drop_rate{from = b, to = a, p = 100}
  t:assert_near(lan:latency_ms(a, b), 25, 1e-6)
  t:assert_near(lan:latency_ms(b, a), 21, 1e-6)
  t:assert_eq(lan:drop_rate_pct(b, a), 100.0)
  t:assert_same(lan:impairments(), {
    {latency = 0.02, loss = 5.0, rate = 1000000},
    {from = "a", to = "b", latency = 0.005},
    {from = "b", to = "a", latency = 0.001, loss = 100.0},
  })
  -- What is listed can be set.
  local listed = lan:impairments()
  lan:reset()
  t:assert_same(lan:impairments(), {})
  for _, impairment in ipairs(listed) do lan:impair(impairment) end
  t:assert_same(lan:impairments(), listed)
  -- Nothing ends it.
  lan:impair{latency = 0, loss = 0, rate = 0}
  t:assert_eq(#lan:impairments(), 2)
end)
test("effects", function(t)
  local a, b = lan:port("a"), lan:port("b")
  lan:reset()
  lan:add_latency{from = a, to = b, ms = 30}
  local before = host.now_ns()
  a:send(frame(b, a))
  local _, time = b:recv()
  t:assert(time - before >= 30e6, time - before)
  lan:reset()
  lan:impair{from = a, duplicate = 100}
  a:send(frame(b, a))
  t:assert(b:recv() and b:recv())
  local counters = lan:counters(a, b)
  t:assert_eq(counters.duplicated, 1)
  lan:drop_rate{to = b, p = 100}
  t:assert(not passes(a, b))
  t:assert_eq(lan:counters(a, b).drops.loss, 1)
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn faults_last_as_long_as_their_function() {
    case(
        r#"
local lan = provium:bridge("lan")
test("while it runs", function(t)
  local a, b, c = lan:port("a"), lan:port("b"), lan:port("c")
  lan:add_latency(1)
  local one, none, two = lan:during(10, {latency = "5ms", partition = {a, b}, isolate = c}, function()
    t:assert_near(lan:latency_ms(a, b), 6, 1e-6)
    t:assert(lan:is_partitioned(a, b) and lan:is_isolated(c))
    -- What others set meanwhile stays.
    lan:isolate(b)
    lan:add_latency(2)
    return 1, nil, 2
  end)
  t:assert_same({one, none, two}, {1, nil, 2})
  t:assert(not lan:is_partitioned(a, b) and not lan:is_isolated(c) and lan:is_isolated(b))
  t:assert_near(lan:latency_ms(a, b), 2, 1e-6)
  t:assert_eq(#lan:impairments(), 1)
end)
test("one in another", function(t)
  local a, b = lan:port("a"), lan:port("b")
  lan:reset()
  lan:during(10, {groups = {{a}, {b}}}, function()
    lan:during(10, {partition = {from = a}}, function() end)
    t:assert(lan:is_partitioned(a, b))
  end)
  t:assert(not lan:is_partitioned(a, b))
end)
test("undone after an error", function(t)
  local a = lan:port("a")
  local err = t:assert_raises(function()
    lan:during(10, {isolate = {a}}, function() error({code = 7}) end)
  end)
  t:assert_eq(err.code, 7)
  t:assert(not lan:is_isolated(a))
end)
test("undone when the time is up", function(t)
  local a = lan:port("a")
  refused(t, function() lan:during("20ms", {isolate = a}, function() host.sleep(30) end) end,
    "a.test.lua:50: bridge `lan`: during(): the function timed out after 20ms, so the faults were undone",
    "it was in host.sleep(30) at a.test.lua:50")
  t:assert(not lan:is_isolated(a))
  local before = host.now_ns()
  lan:during("20ms", {isolate = a})
  t:assert(host.now_ns() - before >= 20e6)
  t:assert(not lan:is_isolated(a))
end)
test("undone when its task is cancelled", function(t)
  local a = lan:port("a")
  local begun
  local task = co.spawn(function()
    lan:during(30, {isolate = a}, function() begun = true; host.sleep(30) end)
  end)
  wait_until(function() return begun end)
  t:assert(lan:is_isolated(a))
  task:cancel()
  wait_until(function() return not lan:is_isolated(a) end)
end)
test("over its time", {timeout = "100ms", expect_fail = "it waits"}, function()
  lan:during(30, {loss = 100}, function() host.sleep(30) end)
end)
test("undone when the test is over", function(t)
  t:assert_same(lan:impairments(), {})
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn a_failed_test_lists_its_bridges() {
    let ran = case(
        r#"
local lan = provium:bridge("lan", {subnet = "10.9.0.0/24"})
test("fails", function(t)
  local a, b = lan:port("a"), lan:port("b")
  local own = provium:bridge("own")
  lan:drop_rate{from = b, p = 100}
  lan:partition{from = b, to = a}
  a:send(frame(b, a))
  b:recv()
  b:send(frame(a, b))
  lan:unpartition{from = b, to = a}
  b:send(frame(a, b))
  lan:partition(a, b)
  lan:isolate(b)
  b:send(frame(a, b))
  t:fail("it did")
end)
"#,
    )
    .run();
    let verdict = ran.test("fails");
    let notes = verdict.notes.join("\n");
    for part in [
        "bridges:\n",
        "\n  bridge `lan` (10.9.0.0/24 and fd00:",
        "\n    members: a 10.9.0.2, b 10.9.0.3 (isolated)\n",
        "\n    impaired, from b: loss 100 %\n",
        "\n    b → a: 0 delivered, 2 dropped (partition 1, loss 1)\n    a → b: 1 delivered\n    b: 1 dropped as they came from it (isolated,",
        "\n    last frames:\n",
        " s ago, a → b, delivered: ethertype 0x88b5, 60 bytes",
        " s ago, b → a, dropped: partition: ethertype 0x88b5",
        "\n  bridge `own` (",
        "\n    members: none",
    ] {
        assert!(notes.contains(part), "{part:?} is not in:\n{notes}");
    }
    let ran = case("test('fails', function(t) t:fail() end)").run();
    assert!(ran.test("fails").notes.is_empty());
}

#[test]
fn listing_attaches_nothing() {
    let listing = case(
        r#"
local lan = provium:bridge("lan")
local v = provium:vm("v", "p", {nics = {lan}}):boot()
lan:attach(v)
local address = lan:nic(v):ip() .. v:nic("eth0"):ip()
local port = lan:port("x")
lan:during(5, {loss = 5}, function() end)
test("listed", function() end)
"#,
    )
    .list();
    let listing = listing.expect("a list");
    assert_eq!(listing.tests.len(), 1, "{listing:?}");
}
