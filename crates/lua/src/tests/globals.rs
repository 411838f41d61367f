//! The small standard library.

use super::*;

#[test]
fn codecs() {
    passes(
        r#"
test("json", function(t)
  t:assert_eq(json.encode(9223372036854775807), "9223372036854775807")
  t:assert_eq(json.encode(math.mininteger), "-9223372036854775808")
  t:assert_eq(json.decode("9223372036854775807"), math.maxinteger)
  t:assert_eq(json.decode("18446744073709551615"), -1)
  t:assert_eq(math.type(json.decode("1.0")), "float")
  t:assert_eq(json.encode({}), "{}")
  t:assert_eq(json.encode(json.array{}), "[]")
  t:assert_eq(json.encode({1, 2, {a = json.null}}), '[1,2,{"a":null}]')
  t:assert_eq(json.encode({1, nil, 3}), "[1,null,3]")
  t:assert_eq(json.encode({1, x = 2}), '{"1":1,"x":2}')
  t:assert_eq(json.encode(1.5), "1.5")
  t:assert_eq(json.encode("é\n\"" ), '"é\\n\\""')
  t:assert_same(json.decode('{"a": [1, null, 3], "b": null}'), {a = {1, nil, 3}})
  t:assert_eq(json.decode('{"b": null}', {null = json.null}).b, json.null)
  t:assert_eq(json.encode(json.decode("[[],{}]")), "[[],{}]")
  local loop = {} loop.x = {loop}
  t:assert_contains(t:assert_raises(function() json.encode(loop) end), "contains itself (at .x[1])")
  t:assert_contains(t:assert_raises(function() json.encode({f = print}) end), "function (at .f)")
  t:assert_contains(t:assert_raises(function() json.encode(0/0) end), "cannot encode the number")
  t:assert_contains(t:assert_raises(function() json.encode("\255") end), "UTF-8")
  t:assert_contains(t:assert_raises(function() json.decode('{"a":\n  nope}') end), "line 2 column")
  t:assert_raises(function() json.decode("1 2") end)
end)
test("msgpack", function(t)
  local v = {1, "two", {three = 3.5}, false, "\255\0"}
  t:assert_same(msgpack.decode(msgpack.encode(v)), v)
  t:assert_eq(msgpack.encode({1, 2}), "\x92\1\2")
  t:assert_same(msgpack.decode(msgpack.encode({[5] = {}, x = 1})), {[5] = {}, x = 1})
  t:assert_raises(function() msgpack.decode("\x92\1") end)
  t:assert_contains(t:assert_raises(function() msgpack.decode("\1\2\3") end), "2 bytes follow the value")
end)
"#,
    );
}

#[test]
fn numbers_clock_and_hash() {
    passes(
        r#"
test("errno", function(t)
  t:assert_eq(errno.ENOENT, 2)
  t:assert_eq(errno.name(11), "EAGAIN")
  t:assert_eq(errno.name(99999), nil)
  t:assert_eq(sysno.read, 0)
  t:assert_eq(sysno.openat, 257)
end)
test("host", function(t)
  local before = host.now_ns()
  host.sleep("20ms")
  local passed = host.now_ns() - before
  t:assert(passed >= 20000000, "slept")
end)
test("hash", function(t)
  t:assert_eq(hash.sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
end)
test("wait_until", function(t)
  local n = 0
  t:assert_eq(wait_until(function() n = n + 1 return n > 3 and "yes" end, {interval = "1ms"}), "yes")
  local err = t:assert_raises(function()
    wait_until(function() return false end, {timeout = 0.05, interval = 0.01, desc = "the moon"})
  end)
  t:assert_eq(err, "a.test.lua:22: wait_until: the moon not met within 50ms")
  local err = t:assert_raises(function() wait_until(function() error("own") end) end)
  t:assert_eq(err, "a.test.lua:25: own")
  t:assert_eq(t:assert_raises(function() wait_until() end), "a.test.lua:27: wait_until: must be given a function, got nil")
  local err = t:assert_raises(function() wait_until(function() end, {timeout = -1}) end)
  t:assert_contains(err, "option `timeout`: `-1` is negative")
end)
"#,
    );
}
