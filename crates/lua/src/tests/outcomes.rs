//! Assertions, outcomes, scopes of tests.

use super::*;
use crate::testing::Expectation;

#[test]
fn assertions_that_hold() {
    passes(
        r#"
test("hold", function(t)
  t:assert_eq(t.name, "hold")
  t:assert(1)
  t:assert_eq(1, 1.0)
  t:assert_neq("1", 1)
  t:assert_contains("haystack", "st")
  t:assert_same({1, {a = "x"}}, {1, {a = "x"}})
  t:assert_eq(t:assert_match("key=value", "(%w+)="), "key")
  t:assert_near(0.1 + 0.2, 0.3, 1e-9)
  local err = t:assert_raises(function() error("E", 0) end)
  t:assert_eq(err, "E")
  -- What assert_raises expected does not count.
  t:assert_raises(function() t:assert_eq(1, 2) end)
end)
"#,
    );
}

#[test]
fn assertions_that_do_not() {
    let ran = Case::new(
        r#"
test("eq", function(t) t:assert_eq(1, 2, "sizes") end)
test("eq strings", function(t) t:assert_eq("a", "b", "m") end)
test("eq types", function(t) t:assert_eq("1", 1, "m") end)
test("neq", function(t) t:assert_neq(1, 1, "m") end)
test("contains", function(t) t:assert_contains("abc", "x", "m") end)
test("contains type", function(t) t:assert_contains("abc", 1) end)
test("raises", function(t) t:assert_raises(function() end, "m") end)
test("same", function(t) t:assert_same({a = {1, 2}, b = 1}, {a = {1, 3}, c = 1}, "m") end)
test("match", function(t) t:assert_match("abc", "%d") end)
test("near", function(t) t:assert_near(1, 2, 0.5) end)
test("fail", function(t) t:fail("why") end)
test("sticky", function(t) pcall(function() t:assert_eq(1, 2, "hidden") end) end)
"#,
    )
    .run();
    assert_eq!(
        ran.failure("eq"),
        "a.test.lua:2: sizes: 1 ~= 2 (actual ~= expected)"
    );
    assert_eq!(
        ran.failure("eq strings"),
        "a.test.lua:3: m: a ~= b (actual ~= expected)"
    );
    assert_eq!(
        ran.failure("eq types"),
        "a.test.lua:4: m: \"1\" ~= 1 (actual ~= expected)"
    );
    assert_eq!(ran.failure("neq"), "a.test.lua:5: m: 1 == 1");
    assert_eq!(
        ran.failure("contains"),
        "a.test.lua:6: m: \"x\" not found in \"abc\""
    );
    assert!(
        ran.failure("contains type")
            .contains("must be a string, got 1")
    );
    assert_eq!(ran.failure("raises"), "a.test.lua:8: m: expected to raise");
    assert_eq!(
        ran.failure("same"),
        "a.test.lua:9: m: the values differ (actual ~= expected)\n  .a[2]: 2 ~= 3\n  .b: 1 ~= missing\n  .c: missing ~= 1"
    );
    assert!(
        ran.failure("match")
            .contains("\"abc\" does not match \"%d\"")
    );
    assert!(ran.failure("near").contains("1 and 2 are 1 apart"));
    assert_eq!(ran.failure("fail"), "a.test.lua:12: why");
    assert_eq!(
        ran.failure("sticky"),
        "a.test.lua:13: hidden: 1 ~= 2 (actual ~= expected)"
    );
    assert_eq!(ran.outcome.failed, 12);
}

#[test]
fn skips_expected_failures_and_retries() {
    let ran = Case::new(
        r#"
local runs = 0
test("skip", function(t) t:skip("no need") end)
test("meta skip", {skip = "later"}, function() error("never") end)
test("slow", {slow = true}, function() error("never") end)
test("xfail", {expect_fail = "bug 7"}, function(t) t:assert(false) end)
test("xpass", {expect_fail = "bug 7"}, function(t) end)
test("flaky", {retries = 3}, function(t) runs = runs + 1; t:assert_eq(runs, 3) end)
test("hopeless", {retries = 1}, function(t) t:fail() end)
test("meta", {spec = "§1", tags = {"a", "b"}, custom = {1, 2}}, function(t)
  t:assert_eq(t.meta.spec, "§1")
  t:assert_eq(t.meta.custom[2], 2)
end)
"#,
    )
    .run();
    assert_eq!(ran.test("skip").status, TestStatus::Skipped);
    assert_eq!(ran.test("skip").message, "no need");
    assert_eq!(ran.test("meta skip").message, "later");
    assert_eq!(ran.test("slow").status, TestStatus::Skipped);
    assert_eq!(
        ran.test("xfail").expected,
        Some(Expectation::Fail("bug 7".to_owned()))
    );
    assert_eq!(ran.test("xfail").status, TestStatus::Passed);
    assert_eq!(ran.test("xpass").status, TestStatus::Failed);
    assert_eq!(
        (ran.test("flaky").status, ran.test("flaky").attempts),
        (TestStatus::Passed, 3)
    );
    assert_eq!(
        (ran.test("hopeless").status, ran.test("hopeless").attempts),
        (TestStatus::Failed, 2)
    );
    assert_eq!(ran.test("meta").status, TestStatus::Passed);
    assert_eq!(
        (ran.outcome.passed, ran.outcome.failed, ran.outcome.skipped),
        (3, 2, 3)
    );
}

#[test]
fn logs_steps_attachments_and_deferred_functions() {
    let ran = Case::new(
        r#"
order = {}
test("all", function(t)
  t:defer(function() order[#order + 1] = "first deferred"; t:log("bye") end)
  t:defer(function() order[#order + 1] = "last deferred"; host.sleep(0.001) end)
  t:log("hello", 1, {2})
  t:attach("raw", "\0\1")
  t:assert_eq(t:step("one", function() host.sleep(0.001) return "v" end), "v")
  t:step("two", function() error("in step", 0) end)
end)
test("order", function(t) t:assert_same(order, {"last deferred", "first deferred"}) end)
test("deferred error", function(t) t:defer(function() error("late") end) end)
"#,
    )
    .run();
    let all = ran.test("all");
    assert_eq!(all.message, "in step");
    assert_eq!(all.log, ["hello 1 {2}", "bye"]);
    assert_eq!(all.attachments[0].content, b"\0\x01");
    let steps: Vec<_> = all
        .steps
        .iter()
        .map(|step| (step.name.as_str(), step.ok))
        .collect();
    assert_eq!(steps, [("one", true), ("two", false)]);
    assert_eq!(ran.test("order").status, TestStatus::Passed);
    assert!(
        ran.failure("deferred error")
            .contains("deferred function: a.test.lua:12: late")
    );
}

#[test]
fn todo_skips_everything_and_duplicates_are_refused() {
    let ran = Case::new("todo('soon')\ntest('a', function() error('x') end)").run();
    assert_eq!(ran.test("a").message, "soon");
    assert_eq!(ran.outcome.skipped, 1);
    let twice = Case::new("test('x', print)\ntest('x', print)")
        .run()
        .outcome
        .chunk_error
        .unwrap();
    assert_eq!(
        twice.message,
        "a.test.lua:2: test: duplicate name `x` in this file"
    );
    let inside = Case::new("test('x', function() test('y', print) end)").run();
    assert!(
        inside
            .failure("x")
            .contains("only at file scope, not inside test `x`")
    );
}

#[test]
fn selection() {
    let source = r#"
test("one", {tags = "net"}, function(t)
  t:log("here")
end)
test("two", {tags = {"net", "disk"}, spec = {"4.1", "4.2"}}, function() end)
test("three", {slow = true}, function() end)
"#;
    let names = |selection: TestSelection| {
        let mut case = Case::new(source);
        case.job.selection = selection;
        let ran = case.run();
        let ran = ran
            .tests
            .iter()
            .filter(|(_, verdict)| verdict.status == TestStatus::Passed);
        ran.map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    let all = TestSelection::default;
    let strings = |words: &[&str]| {
        words
            .iter()
            .map(|word| (*word).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(all()), ["one", "two"]);
    assert_eq!(
        names(TestSelection {
            include_slow: true,
            ..all()
        }),
        ["one", "two", "three"]
    );
    assert_eq!(
        names(TestSelection {
            lines: vec![3],
            ..all()
        }),
        ["one"]
    );
    let mut case = Case::new(source);
    case.job.selection = TestSelection {
        exact: strings(&["one", "tow"]),
        lines: vec![99, 2],
        ..all()
    };
    let ran = case.run();
    assert_eq!(ran.outcome.passed, 1);
    assert_eq!(ran.outcome.status, provium_events::FileStatus::Failed);
    assert_eq!(
        ran.outcome.chunk_error.unwrap().message,
        "this file has no test `tow`; did you mean `two`?\nno test is declared around line 99"
    );
    assert_eq!(
        names(TestSelection {
            exact: strings(&["three"]),
            ..all()
        }),
        ["three"]
    );
    assert_eq!(
        names(TestSelection {
            any_tags: strings(&["disk"]),
            ..all()
        }),
        ["two"]
    );
    assert_eq!(
        names(TestSelection {
            no_tags: strings(&["disk"]),
            ..all()
        }),
        ["one"]
    );
    let meta = vec![
        ("spec".to_owned(), "4.2".to_owned()),
        ("spec".to_owned(), "9".to_owned()),
    ];
    assert_eq!(
        names(TestSelection {
            tag_meta: meta,
            ..all()
        }),
        ["two"]
    );
}

#[test]
fn a_mistyped_meta_key_is_a_notice() {
    let (sink, events) = Sink::channel();
    let case = Case::with_sink(
        r#"
test("typo", {slwo = true, owner = "me"}, function() end)
test("right", {slow = false}, function() end)
"#,
        sink,
    );
    case.run().all_passed();
    let notices = events.try_iter().filter_map(|stamped| match stamped.event {
        provium_events::Event::Notice(notice) => Some(notice.text),
        _ => None,
    });
    let notices: Vec<String> = notices.collect();
    let expected =
        "a.test.lua:2: the meta key `slwo` of test `typo` has no effect; did you mean `slow`?";
    assert_eq!(notices, [expected]);
}
