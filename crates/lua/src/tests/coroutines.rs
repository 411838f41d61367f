//! Plain coroutines work also with calls inside that wait.

use super::*;

#[test]
fn plain_coroutines_with_waiting_calls() {
    passes(
        r#"
test("generator", function(t)
  local function gen()
    for i = 1, 3 do
      host.sleep(0.001)
      coroutine.yield(i)
    end
  end
  local got = {}
  for i in coroutine.wrap(gen) do
    got[#got + 1] = i
  end
  t:assert_same(got, {1, 2, 3})
end)
test("nested", function(t)
  local outer = coroutine.create(function(a)
    local inner = coroutine.create(function(b)
      host.sleep(0.001)
      local c = coroutine.yield(b + 1)
      host.sleep(0.001)
      return c + 1
    end)
    local _, first = coroutine.resume(inner, a)
    local back = coroutine.yield(first)
    local _, last = coroutine.resume(inner, back)
    return last
  end)
  local ok, first = coroutine.resume(outer, 1)
  t:assert(ok, first)
  t:assert_eq(first, 2)
  t:assert_eq(coroutine.status(outer), "suspended")
  local ok, last = coroutine.resume(outer, 10)
  t:assert_eq(last, 11)
  t:assert_eq(coroutine.status(outer), "dead")
  t:assert_eq(select(2, coroutine.resume(outer)), "cannot resume dead coroutine")
end)
test("errors", function(t)
  local ok, err = pcall(coroutine.wrap(function() host.sleep(0.001) error("in") end))
  t:assert_eq(err, "a.test.lua:38: in")
  local co = coroutine.create(function() host.sleep("x") end)
  local ok, err = coroutine.resume(co)
  t:assert(not ok)
  t:assert_contains(err, "a.test.lua:40: host.sleep")
  t:assert(coroutine.close(co) == false)
end)
test("busy", function(t)
  local co = coroutine.create(function() host.sleep(0.05) return "done" end)
  local task = co_task
  local waiter = _G.co.spawn(function() return select(2, coroutine.resume(co)) end)
  host.sleep(0.01)
  t:assert_eq(coroutine.status(co), "normal")
  t:assert_same({coroutine.resume(co)}, {false, "cannot resume non-suspended coroutine"})
  t:assert(not pcall(coroutine.close, co))
  t:assert_eq(waiter:join(), "done")
end)
test("pcall and metamethods", function(t)
  local ok, v = pcall(function() host.sleep(0.001) return 7 end)
  t:assert_eq(v, 7)
  local lazy = setmetatable({}, {__index = function(_, k) host.sleep(0.001) return k .. "!" end})
  t:assert_eq(lazy.x, "x!")
end)
"#,
    );
}

#[test]
fn helpers_may_wait_and_keep_their_own_state() {
    Case::new(
        r#"
local a = require "helpers.a"
test("helper", function(t)
  t:assert_eq(a.value, "loaded helpers.a")
  t:assert(rawequal(require "helpers.a", a))
  local ok, err = pcall(require, "helpers.missing")
  t:assert_contains(err, "a.test.lua:6: require: module `helpers.missing` not found")
  local ok, err = pcall(require, "helpers.loop")
  t:assert_contains(err, "requires itself")
  local _, where = pcall(a.fail)
  t:assert_eq(where, "helpers/a.lua:3: from helper")
end)
"#,
    )
    .with_file(
        "helpers/a.lua",
        "local name = ...\nhost.sleep(0.001)\nlocal function fail() error('from helper') end\n\
         return {value = 'loaded ' .. name, fail = fail}",
    )
    .with_file("helpers/loop.lua", "return require 'helpers.loop'")
    .run()
    .all_passed();
}

#[test]
fn a_coroutine_whose_task_was_cancelled_can_be_closed() {
    passes(
        r#"
test("closed", function(t)
  local closed = false
  local inner = coroutine.create(function()
    local guard <close> = setmetatable({}, {__close = function() closed = true end})
    host.sleep(30)
  end)
  local task = co.spawn(function() coroutine.resume(inner) end)
  host.sleep(0.01)
  t:assert_eq(coroutine.status(inner), "normal")
  t:assert(not pcall(coroutine.close, inner))
  task:cancel()
  wait_until(function() return task:status() == "cancelled" end)
  t:assert_eq(coroutine.status(inner), "suspended")
  t:assert_eq(coroutine.close(inner), true)
  t:assert(closed)
  t:assert_eq(coroutine.status(inner), "dead")
end)
"#,
    );
}
