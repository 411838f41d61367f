//! Errors stand at the author's line, with the author's frames.

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
    assert!(ran.failure("table").contains("error value is a table"));
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
  t:assert_contains(err, "a.test.lua:3: host.sleep: the duration: bad duration `nope`")
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
    assert_eq!(syntax.status, crate::FileStatus::Failed);
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
