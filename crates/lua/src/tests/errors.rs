//! Errors are raised at the author's line, with the author's frames.

use super::*;

#[test]
fn natural_errors_and_refusals_name_the_line() {
    let ran = Case::new(
        r#"
test("raised", function()
  error("boom")
end)
test("natural", function()
  local x = nil
  return x.field
end)
test("refused", function()
  host.sleep("5 parsecs")
end)
test("table", function() error({code = 1}) end)
test("deep", function()
  local function inner() json.encode(print) end
  local function middle() inner() ; return 1 end
  middle()
end)
test("bare body", host.sleep)
"#,
    )
    .run();
    assert_eq!(ran.failure("raised"), "a.test.lua:3: boom");
    assert!(
        ran.failure("natural")
            .starts_with("a.test.lua:7: attempt to index a nil value")
    );
    let refused = ran.failure("refused");
    assert!(
        refused.starts_with("a.test.lua:10: host.sleep: "),
        "{refused}"
    );
    assert!(refused.contains("`5 parsecs`"), "{refused}");
    assert_eq!(ran.failure("table"), "(error value is a table: {code = 1})");
    let deep = ran.test("deep");
    assert!(
        deep.message
            .starts_with("a.test.lua:14: json.encode: cannot encode a function")
    );
    let lines: Vec<u32> = deep
        .failure
        .as_ref()
        .unwrap()
        .frames
        .iter()
        .map(|frame| frame.site.line)
        .collect();
    assert_eq!(lines, [14, 15, 16]);
    assert!(
        ran.failure("bare body").starts_with("a.test.lua:18: "),
        "the test's own line serves"
    );
}

#[test]
fn pcall_gets_text() {
    passes(
        r#"
test("text", function(t)
  local ok, err = pcall(host.sleep, "nope")
  t:assert(not ok)
  t:assert_eq(type(err), "string")
  t:assert_contains(err, "a.test.lua:3: host.sleep: the duration: `nope` is not a duration")
  local ok, err = xpcall(function() error("inner", 0) end, function(e) return "handled " .. e end)
  t:assert_eq(err, "handled inner")
  local ok, trace = xpcall(function() error("x") end, debug.traceback)
  t:assert_contains(trace, "a.test.lua:9: x")
  t:assert_contains(trace, "stack traceback:")
  t:assert(not trace:find("[provium]", 1, true), trace)
end)
"#,
    );
}

#[test]
fn chunk_errors_have_a_place() {
    let syntax = Case::new("local x =\n\n= 3").run().outcome;
    let error = syntax.chunk_error.unwrap();
    assert_eq!(syntax.status, provium_events::FileStatus::Failed);
    assert_eq!(error.site.unwrap().to_string(), "a.test.lua:3");
    assert!(
        error.message.starts_with("a.test.lua:3: "),
        "{}",
        error.message
    );

    let raised = Case::new("\nlocal y = nil + 1")
        .run()
        .outcome
        .chunk_error
        .unwrap();
    assert_eq!(raised.site.unwrap().to_string(), "a.test.lua:2");

    let helper = Case::new("require 'helpers.bad'")
        .with_file("helpers/bad.lua", "x = = 1")
        .run();
    let error = helper.outcome.chunk_error.unwrap();
    assert!(
        error.message.starts_with("helpers/bad.lua:1: "),
        "{}",
        error.message
    );
}

#[test]
fn unknown_methods_options_and_settings_name_the_nearest() {
    let ran = Case::new(
        r#"
test("method", function(t) t:asert_eq(1, 1) end)
test("option", function(t) wait_until(function() return true end, {timout = 1}) end)
test("errno", function(t) return errno.ENOETN end)
test("sysno", function(t) return sysno.opnat end)
"#,
    )
    .run();
    assert_eq!(
        ran.failure("method"),
        "a.test.lua:2: t has no method `asert_eq`; did you mean `assert_eq`?"
    );
    assert!(
        ran.failure("option")
            .contains("unknown option `timout`; did you mean `timeout`?")
    );
    assert!(ran.failure("errno").contains("did you mean `ENOENT`?"));
    assert!(ran.failure("sysno").contains("did you mean `openat`?"));
}

#[test]
fn errors_of_all_kinds_say_what_and_where() {
    let ran = Case::new(
        r#"
local helper = require "helper"
test("rethrown", function(t)
  helper.cleanly(function()
    error("first")
  end)
end)
test("rethrown assertion", function(t)
  helper.cleanly(function()
    t:assert_eq(1, 2)
  end)
end)
test("not ours", function() error("sh:1: not found", 0) end)
test("assert", function(t)
  local function refused() return nil, 38 end
  assert(refused())
end)
test("assert text", function() assert(false, "own words") end)
test("assert alone", function() assert(nil) end)
test("pack", function(t) provium:pack("<I4", "x") end)
test("sorted", function(t)
  table.sort({3, 2, 1}, function(a, b) host.sleep(0.01) return a < b end)
end)
test("text of a handle", function(t)
  return tostring(setmetatable({}, {__tostring = function() host.sleep(0.01) return "x" end}))
end)
"#,
    )
    .with_file(
        "helper.lua",
        "local helper = {}\nfunction helper.cleanly(fn)\n  local ok, err = pcall(fn)\n  if not ok then error(err, 0) end\nend\nreturn helper",
    )
    .run();
    let first_line = |name: &str| {
        ran.test(name).failure.as_ref().unwrap().frames[0]
            .site
            .to_string()
    };
    assert_eq!(ran.failure("rethrown"), "a.test.lua:5: first");
    assert_eq!(first_line("rethrown"), "a.test.lua:5");
    assert_eq!(first_line("rethrown assertion"), "a.test.lua:10");
    assert_eq!(first_line("not ours"), "a.test.lua:13");
    assert_eq!(ran.failure("assert"), "(error value is the number 38)");
    assert_eq!(first_line("assert"), "a.test.lua:16");
    assert_eq!(ran.failure("assert text"), "own words");
    assert_eq!(ran.failure("assert alone"), "assertion failed!");
    let pack = ran.failure("pack");
    assert!(
        pack.starts_with("a.test.lua:20: bad argument #2 to 'string.pack' (number expected"),
        "{pack}"
    );
    for name in ["sorted", "text of a handle"] {
        let message = ran.failure(name);
        assert!(
            message.contains("host.sleep: waits, and cannot be called where C code"),
            "{message}"
        );
    }
}

#[test]
fn a_missing_global_is_answered_with_the_nearest() {
    let ran = Case::new(
        r#"
test("call", function(t) wait_untill(function() return true end) end)
test("index", function(t) return provum.name end)
test("other", function(t) zzzzzzzzz() end)
"#,
    )
    .run();
    assert!(
        ran.failure("call").ends_with("did you mean `wait_until`?"),
        "{}",
        ran.failure("call")
    );
    assert!(ran.failure("index").ends_with("did you mean `provium`?"));
    assert!(ran.failure("other").ends_with("(global 'zzzzzzzzz')"));
}

#[test]
fn the_traceback_of_a_recursion_is_short_and_shows_where_it_began() {
    let ran = Case::new(
        r#"
local function recurse(n) if n == 0 then error("deep") end recurse(n - 1) return n end
test("folded", function(t)
  recurse(30)
end)
test("deep", function(t)
  recurse(3000)
end)
"#,
    )
    .run();
    for (name, line) in [("folded", 4), ("deep", 7)] {
        let failure = ran.test(name).failure.as_ref().unwrap();
        let traceback = failure.traceback();
        assert!(traceback.len() < 10, "{traceback:?}");
        assert!(
            traceback
                .last()
                .unwrap()
                .starts_with(&format!("a.test.lua:{line}")),
            "{traceback:?}"
        );
    }
}
