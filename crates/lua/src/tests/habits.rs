//! What people write who know Lua, and what programs give it: surplus values, bytes, odd names.

use super::*;

#[test]
fn surplus_values_are_dropped() {
    passes(
        r#"
test("assertions take what they need", function(t)
  t:assert(("port 8080"):find("(%d)(%d)"))
  t:assert(("a=1"):match("(%w)=(%d)"))
  t:assert(pcall(tostring, 1))
  local function many() return true, "stage", 13, {} end
  t:assert(many())
  t:assert_eq(1, 1, "same", "more", {})
  t:assert_neq(1, 2, "m", "more")
  local function refused() return nil, "mount", 13 end
  local err = t:assert_raises(function() t:assert(refused()) end)
  t:assert_contains(err, "mount: got nil")
  t:assert(not err:find("argument", 1, true), err)
end)
test("a count behind a text is not taken for options", function(t)
  t:assert_eq(json.decode(("{'a':1}"):gsub("'", '"')).a, 1)
  t:assert_contains(t:assert_raises(function() json.decode("1", true) end), "options must be a table")
  t:assert_contains(t:assert_raises(function() json.decode("1", 1.5) end), "options must be a table")
  t:assert_contains(t:assert_raises(function() wait_until(print, 5) end), "timeout = 5")
end)
test("options that have no effect raise", function(t)
  t:assert_contains(t:assert_raises(function() json.encode({}, {indent = 2}) end), "takes no options")
end)
"#,
    );
}

#[test]
fn meta_and_settings_in_other_words() {
    let ran = Case::new(
        r#"
provium.timeout = "50s"
test("slow", {slow = 1}, print)
test("not slow", {slow = 0}, function(t)
  provium.timeout = "100ms"
  host.sleep("200ms")
end)
test("skipped", {skip = 1}, print)
test("not skipped", {skip = 0}, function() host.sleep(30) end)
"#,
    )
    .run();
    assert_eq!(ran.test("slow").status, TestStatus::Skipped);
    assert_eq!(ran.test("not slow").status, TestStatus::Passed);
    assert_eq!(ran.test("skipped").status, TestStatus::Skipped);
    assert_eq!(
        ran.failure("not skipped"),
        "timed out after 100ms in host.sleep(30)"
    );
}

#[test]
fn any_bytes_may_be_printed_and_logged() {
    let ran = Case::new(
        r#"
test("printed", function(t)
  print("abc\xff", 5)
  t:log("log\xfe", {key = "\xff"})
  t:step("step \xff", function() end)
  t:attach("attached \xff", "\xff")
end)
test("skipped", function(t) t:skip("abc\xff") end)
test("fail", function(t) t:fail("abc\xff") end)
test("assert", function(t) t:assert(false, "abc\xff") end)
test("assert_eq", function(t) t:assert_eq(1, 2, "abc\xff") end)
test("error", function(t) error("abc\xff") end)
test("different", function(t) t:assert_eq("x\xffy", "x\xfey") end)
test("as written", function(t) t:assert_eq("x\xff", "x\\xff") end)
test("same", function(t) t:assert_same({"x\xff"}, {"x\xfe"}) end)
test("name \xff", function() end)
"#,
    )
    .run();
    let printed = ran.test("printed");
    assert_eq!(printed.status, TestStatus::Passed);
    assert_eq!(printed.log, ["abc\\xff\t5", "log\\xfe {key = \"\\xff\"}"]);
    assert_eq!(printed.steps[0].name, "step \\xff");
    assert_eq!(printed.attachments[0].name, "attached \\xff");
    assert_eq!(ran.test("skipped").message, "abc\\xff");
    for name in ["fail", "assert", "assert_eq", "error"] {
        assert!(
            ran.failure(name).contains("abc\\xff"),
            "{name}: {}",
            ran.failure(name)
        );
    }
    assert!(
        ran.failure("different")
            .contains(r#"assert_eq: "x\xffy" ~= "x\xfey""#)
    );
    assert!(ran.failure("as written").contains(r#""x\xff" ~= "x\\xff""#));
    assert!(ran.failure("same").ends_with(r#"[1]: "x\xff" ~= "x\xfe""#));
    assert_eq!(ran.test("name \\xff").status, TestStatus::Passed);
}

#[test]
fn long_texts_say_where_they_differ() {
    let ran = Case::new(
        r#"
local long = ("line\n"):rep(2000)
test("lines", function(t) t:assert_eq(long .. "one\n" .. long, long .. "other\n" .. long) end)
test("ends", function(t) t:assert_eq(("x"):rep(5000) .. "a", ("x"):rep(5000) .. "b") end)
test("short", function(t) t:assert_eq("a", "b") end)
"#,
    )
    .run();
    let lines = ran.failure("lines");
    assert!(
        lines.contains("the first difference is at byte 10002 (line 2001, column 2)"),
        "{lines}"
    );
    assert!(lines.contains("--- expected\n+++ actual\n"), "{lines}");
    assert!(lines.contains("\n-other\n+one\n line"), "{lines}");
    let ends = ran.failure("ends");
    assert!(
        ends.contains("xxxa\" ~= (") && ends.contains("xxxb\""),
        "{ends}"
    );
    assert!(
        ends.contains("\n  actual:   (4940 bytes …) \"xxx"),
        "{ends}"
    );
    assert!(
        ends.contains("\n  expected: (4940 bytes …) \"xxx"),
        "{ends}"
    );
    assert_eq!(
        ran.failure("short"),
        "a.test.lua:5: assert_eq: a ~= b (actual ~= expected)"
    );
}

#[test]
fn what_is_written_goes_to_the_log() {
    let ran = Case::new(
        r#"
test("written", function(t)
  io.write("one ", 2, "\nthree\xff\n")
  io.stdout:write("four"):write("\n")
  io.stderr:write("five\n")
  io.output():write("six ")
  print("seven")
  t:assert_eq(io.type(io.stdout), "file")
  t:assert_same({io.stdout:close()}, {nil, "cannot close standard file"})
  local own = assert(io.open("/dev/stdout", "w"))
  own:write("eight\n")
  own:close()
  t:assert_eq(io.type(own), "closed file")
  t:assert_contains(t:assert_raises(function() own:write("x") end), "attempt to use a closed file")
  local shell = io.popen("cat; echo loud >&2", "w")
  shell:write("nine\n")
  t:assert_same({shell:close()}, {true, "exit", 0})
  t:assert_contains(t:assert_raises(function() io.write({}) end), "must be a string")
end)
"#,
    )
    .run();
    let verdict = ran.test("written");
    assert_eq!(verdict.status, TestStatus::Passed, "{}", verdict.message);
    let mut log = verdict.log.clone();
    log[6..].sort();
    assert_eq!(
        log,
        [
            "one 2",
            "three\\xff",
            "four",
            "five",
            "six seven",
            "eight",
            "loud",
            "nine"
        ]
    );
}

#[test]
fn results_of_commands_on_the_host() {
    let ran = Case::new(
        r#"
test("read", function(t)
  local p = io.popen("printf 'one\n12 0x1F -3.5 x\nlast\nrest'; echo oops >&2; exit 3")
  t:assert_eq(p:read(), "one")
  t:assert_same({p:read("n", "n", "n")}, {12, 31, -3.5})
  t:assert_eq(math.type(12), "integer")
  t:assert_eq(p:read("L"), " x\n")
  t:assert_eq(p:read(0), "")
  t:assert_eq(p:read(2), "la")
  t:assert_eq(p:read("a"), "st\nrest")
  t:assert_eq(p:read("a"), "")
  t:assert_eq(p:read("l"), nil)
  t:assert_same({p:close()}, {nil, "exit", 3})
end)
test("lines", function(t)
  local got = {}
  for line in io.popen("seq 3"):lines() do got[#got + 1] = line end
  t:assert_same(got, {"1", "2", "3"})
  local text = assert(io.popen("kill -TERM $$"))
  t:assert_same({text:close()}, {nil, "signal", 15})
end)
test("others continue", function(t)
  local calls = 0
  local task = co.spawn(function() return io.popen("sleep 0.3; echo done"):read("a") end)
  while task:status() == "running" do host.sleep(0.01) calls = calls + 1 end
  t:assert(calls > 5, calls)
  t:assert_eq(task:join(), "done\n")
end)
test("ended", {timeout = "200ms"}, function() io.popen("echo $$; sleep 30"):read("a") end)
test("left", function(t)
  LEFT = io.popen("sleep 600")
end)
"#,
    )
    .run();
    for name in ["read", "lines", "others continue", "left"] {
        let verdict = ran.test(name);
        assert_eq!(
            verdict.status,
            TestStatus::Passed,
            "{name}: {}",
            verdict.message
        );
    }
    assert_eq!(ran.test("read").log, ["oops"]);
    assert_eq!(
        ran.failure("ended"),
        "timed out after 200ms in host file:read(\"a\")"
    );
}

#[test]
fn all_that_a_piped_command_has_started_ends_with_the_test() {
    let ran = Case::new(
        r#"
test("left", function(t)
  -- In a session of its own, so no signal to a process group reaches it.
  local shell = io.popen("setsid sleep 600 >/dev/null 2>&1 & echo $!; sleep 600")
  PID = shell:read("n")
  t:assert(io.open("/proc/" .. PID .. "/stat"))
end)
test("ended", function(t)
  wait_until(function()
    local stat = io.open("/proc/" .. PID .. "/stat")
    return not stat or stat:read("a"):find("%) Z")
  end, {timeout = "20s"})
end)
"#,
    )
    .run();
    ran.all_passed();
}

#[test]
fn regular_files_are_luas_own() {
    passes(
        r#"
test("files", function(t)
  local path = os.tmpname()
  t:defer(function() os.remove(path) end)
  local f = assert(io.open(path, "w"))
  f:write("a\n", 1, "\n")
  f:close()
  local got = {}
  for line in io.lines(path) do got[#got + 1] = line end
  t:assert_same(got, {"a", "1"})
  io.input(path)
  t:assert_eq(io.read("a"), "a\n1\n")
  io.close(io.input())
  io.output(path)
  io.write("new")
  io.close()
  io.output(io.stdout)
  t:assert_eq(assert(io.open(path)):read("a"), "new")
  t:assert_eq(io.open("/dev/zero"):read(3), "\0\0\0")
  t:assert_same({io.open("/nowhere/x")}, {nil, "/nowhere/x: No such file or directory", 2})
  t:assert_contains(t:assert_raises(function() io.lines("/nowhere/x") end), "a.test.lua:21: cannot open file '/nowhere/x'")
  t:assert_contains(t:assert_raises(function() io.open(path, "?") end), "bad argument #2 to 'open' (invalid mode)")
  local chunk = assert(io.open(path, "w"))
  chunk:write("return ...")
  chunk:close()
  t:assert_eq(assert(loadfile(path))(7), 7)
  t:assert_eq(dofile(path), nil)
  t:assert_eq((loadfile("/nowhere/x")), nil)
end)
"#,
    );
}
