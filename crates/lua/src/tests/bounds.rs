//! No test uses up the host's memory or runs without end, whatever its code does.

use super::*;

#[test]
fn patterns_end_with_their_test() {
    let ran = Case::new(
        r#"
local long = ("a"):rep(10000)
local pattern = (".-"):rep(12) .. "b"
for name, run in pairs{
  find = function() long:find(pattern) end,
  match = function() long:match(pattern) end,
  gsub = function() long:gsub(pattern, "") end,
  gmatch = function() for _ in long:gmatch(pattern) do end end,
  pcall = function() while true do pcall(string.find, long, pattern) end end,
  assert_match = function(t) t:assert_match(long, pattern) end,
  balance = function() for _ = 1, 1e9 do ("("):rep(100000):find("%b()%b()") end end,
  rep = function() while true do (""):rep(1e15) end end,
  move = function() table.move({}, 1, 1e15, 2) end,
} do
  test(name, {timeout = "200ms"}, run)
end
test("a callback may wait", function(t)
  local text = ("a b"):gsub("%w", function(c) host.sleep(0.001) return c .. c end)
  t:assert_eq(text, "aa bb")
  t:assert_same({("abc"):gsub("%w", setmetatable({}, {__index = function(_, k) return k:upper() end}))}, {"ABC", 3})
  t:assert_same(table.move({1, 2, 3}, 1, 3, 2), {1, 1, 2, 3})
  t:assert_same(table.move({1, 2, 3}, 2, 3, 1), {2, 3, 3})
  t:assert_eq((""):rep(3), "")
  t:assert_eq(("x"):rep(3, ","), "x,x,x")
end)
"#,
    )
    .run();
    for (name, verdict) in &ran.tests {
        if name == "a callback may wait" {
            assert_eq!(verdict.status, TestStatus::Passed, "{}", verdict.message);
        } else {
            let message = ran.failure(name);
            assert!(
                message.starts_with("timed out after 200ms in Lua code"),
                "{name}: {message}"
            );
        }
    }
}

#[test]
fn pipes_do_not_hold_up_the_run() {
    let case = Case::new("");
    let folder = case.folder.path();
    let pipes = ["one", "two", "three", "four"].map(|name| folder.join(name));
    let made = std::process::Command::new("mkfifo").args(&pipes).status();
    assert!(made.unwrap().success());
    let source = format!(
        r#"
local folder = "{}/"
local fifo = folder .. "four"
test("read", {{timeout = "200ms"}}, function() io.open(folder .. "one"):read("a") end)
test("write", {{timeout = "200ms"}}, function() io.open(folder .. "two", "w") end)
test("lines", {{timeout = "200ms"}}, function() for _ in io.lines(folder .. "three") do end end)
test("both ends", function(t)
  local writer = co.spawn(function()
    local f = assert(io.open(fifo, "w"))
    f:write("first\n")
    host.sleep(0.05)
    f:write("second")
    f:close()
  end)
  local f = assert(io.open(fifo))
  t:assert_eq(f:read(), "first")
  t:assert_eq(f:read("a"), "second")
  writer:join()
  f:close()
end)
test("code from a pipe", {{timeout = "2s"}}, function(t)
  t:assert_contains(select(2, loadfile(fifo)), "not a regular file")
  t:assert_contains(t:assert_raises(function() dofile(fifo) end), "not a regular file")
end)
"#,
        folder.display()
    );
    fs_err::write(&case.job.path, source).unwrap();
    let ran = case.run();
    for (name, call) in [
        ("read", "io.open"),
        ("write", "io.open"),
        ("lines", "io.open"),
    ] {
        let message = ran.failure(name);
        assert!(
            message.starts_with(&format!("timed out after 200ms in {call}")),
            "{message}"
        );
    }
    for name in ["both ends", "code from a pipe"] {
        assert_eq!(
            ran.test(name).status,
            TestStatus::Passed,
            "{}",
            ran.test(name).message
        );
    }
}

#[test]
fn deep_and_shared_tables_are_compared() {
    let ran = Case::new(
        r#"
local function list(n) local first = {} local at = first for i = 1, n do at.next = {} at = at.next end return first, at end
local function shared(n) local x = {} for i = 1, n do x = {x, x} end return x end
test("deep", function(t) t:assert_same(list(100000), list(100000)) end)
test("deep, and different", function(t)
  local one, other, last = list(1000), list(1000)
  last.value = 1
  t:assert_same(one, other)
end)
test("shared", function(t) t:assert_same(shared(40), shared(40)) end)
test("cycles", function(t)
  local a, b = {}, {}
  a.self, b.self = {a}, {b}
  t:assert_same(a, b)
  b.self[2] = 1
  t:assert_raises(function() t:assert_same(a, b) end)
end)
test("encoded", {timeout = "30s"}, function(t)
  t:assert_contains(t:assert_raises(function() json.encode((list(1000))) end), "nested so deeply")
  t:assert_contains(t:assert_raises(function() msgpack.encode((list(1000))) end), "nested so deeply")
  t:log(list(100000), shared(40))
end)
test("in time", {timeout = "100ms"}, function() while true do json.encode(shared(22)) end end)
"#,
    )
    .run();
    for name in ["deep", "shared", "cycles", "encoded"] {
        assert_eq!(
            ran.test(name).status,
            TestStatus::Passed,
            "{name}: {}",
            ran.test(name).message
        );
    }
    let message = ran.failure("deep, and different");
    assert!(
        message.contains("985 levels …") && message.contains(".value: missing ~= 1"),
        "{message}"
    );
    assert!(ran.failure("in time").starts_with("timed out"));
}

#[test]
fn memory_is_bounded() {
    let ran = Case::new(
        r#"
test("a growing table", {timeout = "60s"}, function()
  local a = {}
  while true do a[#a + 1] = ("x"):rep(1000000) .. #a end
end)
test("a growing text", {timeout = "60s"}, function()
  local s = "x"
  while true do s = s .. s end
end)
test("continues", function() local a = ("x"):rep(1000000) end)
test("print", {timeout = "300ms"}, function() while true do print("still waiting for the thing") end end)
test("attach", {timeout = "1s"}, function(t)
  local s = ("x"):rep(1000000)
  for i = 1, 1000 do t:attach("a", s) end
end)
test("steps", function(t) for i = 1, 20000 do t:step("s", function() end) end end)
test("deferred", function(t) while true do t:defer(print) end end)
test("tasks", function(t) while true do co.spawn(print) end end)
"#,
    )
    .run();
    for name in ["a growing table", "a growing text"] {
        let message = ran.failure(name);
        assert!(
            message.contains("not enough memory") && message.contains("1024 MiB"),
            "{message}"
        );
    }
    assert_eq!(ran.test("continues").status, TestStatus::Passed);
    let size = |name: &str| ran.test(name).log.iter().map(String::len).sum::<usize>();
    assert!(size("print") < 9 << 20);
    let attached: usize = ran
        .test("attach")
        .attachments
        .iter()
        .map(|one| one.content.len())
        .sum();
    assert!(attached <= 64 << 20 && attached > 60 << 20, "{attached}");
    assert!(
        ran.test("attach").log.concat().contains("attachments (93"),
        "{:?}",
        ran.test("attach").log
    );
    assert_eq!(ran.test("steps").steps.len(), 10_000);
    assert!(
        ran.test("steps")
            .log
            .concat()
            .contains("10000 steps are not shown")
    );
    assert!(
        ran.failure("deferred")
            .contains("may defer 10000 functions")
    );
    assert!(
        ran.failure("tasks")
            .contains("there are 10000 tasks already")
    );
}

#[test]
fn finalisers_end_and_call_nothing_of_the_harness() {
    let mut case = Case::new(
        r#"
local log = ...
test("guards", function(t)
  for i, fn in ipairs{
    function() host.sleep(0.01) end,
    function() os.execute("true") end,
    function() co.spawn(function() end) end,
    function() wait_until(function() return true end) end,
    function() io.popen("true") end,
    function() tostring(provium) print(provium:name(), json.encode({1})) end,
    function() setmetatable({}, getmetatable(GUARDS[1])) end,
    function() while true do end end,
    function() setmetatable({}, {__gc = function() host.sleep(1) end}) end,
  } do
    GUARDS = GUARDS or {}
    GUARDS[i] = setmetatable({}, {__gc = fn})
  end
  local late = {__gc = true}
  LATE = setmetatable({}, late)
  late.__gc = function() host.sleep(1) end
end)
test("collected while it runs", {timeout = "30s"}, function(t)
  local seen = {}
  for i = 1, 3 do
    setmetatable({}, {__gc = function() seen[#seen + 1] = select(2, pcall(host.sleep, 10)) end})
  end
  collectgarbage()
  t:assert_eq(#seen, 3)
  t:assert_contains(seen[1], "cannot be called by a finaliser")
end)
test("loops while it runs", {timeout = "200ms"}, function(t)
  setmetatable({}, {__gc = function() while true do end end})
  collectgarbage()
end)
test("errors as Lua's own", function(t)
  t:assert_eq(t:assert_raises(function() setmetatable(1, {}) end),
    "a.test.lua:36: bad argument #1 to 'setmetatable' (table expected, got a number)")
  local protected = setmetatable({}, {__metatable = "no"})
  t:assert_contains(t:assert_raises(function() setmetatable(protected, {}) end), "protected metatable")
end)
"#,
    );
    case.job.file_timeout = Some(Duration::from_secs(50));
    let ran = case.run();
    for name in ["guards", "collected while it runs", "errors as Lua's own"] {
        assert_eq!(
            ran.test(name).status,
            TestStatus::Passed,
            "{name}: {}",
            ran.test(name).message
        );
    }
    assert!(
        ran.failure("loops while it runs")
            .starts_with("timed out after 200ms")
    );
    // The file's list, and a fixture's script, end in the same way.
    assert!(
        Case::new("G = setmetatable({}, {__gc = function() host.sleep(1) end})")
            .list()
            .is_ok()
    );
}

#[test]
fn limits_hold_in_what_cannot_be_interrupted() {
    let ran = Case::new(
        r#"
test("a task loops", {timeout = "200ms"}, function()
  co.spawn(function() while true do end end)
  host.sleep(0.05)
end)
test("a deferred loop", {timeout = "100ms"}, function(t)
  for i = 1, 30 do t:defer(function() while true do end end) end
end)
test("a predicate waits", {timeout = "20s"}, function(t)
  local err = t:assert_raises(function()
    wait_until(function() host.sleep(15) end, {timeout = "100ms", desc = "never"})
  end)
  t:assert_eq(err, "a.test.lua:11: wait_until: never not met within 100ms; its predicate was in host.sleep(15) at a.test.lua:11")
  local err = t:assert_raises(function()
    wait_until(function() while true do end end, {timeout = "100ms", desc = "never"})
  end)
  t:assert_contains(err, "never not met within 100ms; its predicate was in a.test.lua:15")
  t:assert_eq(wait_until(function() host.sleep(0.01) return 5 end, {timeout = "5s"}), 5)
end)
test("a waiting predicate names its call", {timeout = "100ms"}, function()
  wait_until(function() host.sleep(30) end, {timeout = "60s"})
end)
"#,
    )
    .run();
    let message = ran.failure("a task loops");
    assert_eq!(message, "timed out after 200ms in a task at a.test.lua:3");
    let message = ran.failure("a deferred loop");
    assert!(
        message.contains("deferred function: timed out after"),
        "{message}"
    );
    assert!(
        message.contains("deferred functions were not run"),
        "{message}"
    );
    assert_eq!(
        ran.test("a predicate waits").status,
        TestStatus::Passed,
        "{}",
        ran.test("a predicate waits").message
    );
    assert_eq!(
        ran.failure("a waiting predicate names its call"),
        "timed out after 100ms in host.sleep(30)"
    );
}
