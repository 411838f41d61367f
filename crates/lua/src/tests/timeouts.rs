//! Tests and files end at their limits, and the tests after them run.

use super::*;
use crate::testing::TestStatus;

#[test]
fn a_waiting_test_is_ended_and_names_its_call() {
    let ran = Case::new(
        r#"
test("waits", {timeout = "100ms"}, function(t)
  local guard <close> = setmetatable({}, {__close = function() closed = true end})
  t:defer(function() deferred = true end)
  host.sleep("30s")
end)
test("inside a coroutine", {timeout = 0.1}, function()
  coroutine.wrap(function() host.sleep(30) end)()
end)
test("stubborn", {timeout = 0.1}, function()
  while true do pcall(host.sleep, 30) end
end)
test("polls", {timeout = 0.1}, function()
  wait_until(function() end, {timeout = "1h", desc = "the moon"})
end)
test("others continue", function(t)
  t:assert(deferred and closed)
end)
"#,
    )
    .run();
    assert_eq!(
        ran.failure("waits"),
        "timed out after 100ms in host.sleep(\"30s\")"
    );
    assert_eq!(
        ran.test("waits").failure.as_ref().unwrap().frames[0]
            .site
            .line,
        5
    );
    assert!(ran.test("waits").timed_out);
    assert_eq!(
        ran.failure("inside a coroutine"),
        "timed out after 100ms in host.sleep(30)"
    );
    assert_eq!(
        ran.failure("stubborn"),
        "timed out after 100ms in host.sleep(30)"
    );
    assert_eq!(
        ran.failure("polls"),
        "timed out after 100ms in wait_until(\"the moon\")"
    );
    assert_eq!(ran.test("others continue").status, TestStatus::Passed);
}

#[test]
fn endless_lua_is_interrupted() {
    let ran = Case::new(
        r#"
provium_timeout = 0.1
test("loop", {timeout = 0.1}, function() while true do end end)
test("pcall", {timeout = 0.1}, function()
  local function f() while true do end end
  while true do pcall(f) end
end)
test("xpcall", {timeout = 0.1}, function()
  local function f() while true do end end
  while true do xpcall(f, f) end
end)
test("coroutine", {timeout = 0.1}, function()
  while true do
    pcall(coroutine.wrap(function() while true do pcall(function() while true do end end) end end))
  end
end)
test("many coroutines", {timeout = 0.1}, function()
  while true do coroutine.wrap(function() end)() end
end)
test("task", {timeout = 0.1}, function()
  co.spawn(function() while true do pcall(function() end) end end)
  host.sleep(10)
end)
test("after", function(t)
  local n = 0
  for i = 1, 1000000 do n = n + 1 end
  t:assert_eq(n, 1000000)
end)
"#,
    )
    .run();
    for name in ["loop", "pcall", "xpcall", "coroutine", "many coroutines"] {
        let message = ran.failure(name);
        assert!(
            message.starts_with("timed out after 100ms in Lua code"),
            "{name}: {message}"
        );
    }
    assert!(
        ran.failure("loop").ends_with("at a.test.lua:3"),
        "{}",
        ran.failure("loop")
    );
    assert!(
        ran.failure("task")
            .starts_with("timed out after 100ms in host.sleep(10)")
    );
    assert_eq!(ran.test("after").status, TestStatus::Passed);
}

#[test]
fn a_file_has_its_time_too() {
    let mut case = Case::new("test('a', function() host.sleep(30) end)\ntest('b', function() end)");
    // On a busy host, the test takes a while to start.
    let limit = Some(Duration::from_secs(1));
    case.job.file_timeout = limit;
    let ran = case.run();
    assert_eq!(ran.outcome.status, provium_events::FileStatus::TimedOut);
    assert_eq!(
        ran.failure("a"),
        "the file timed out after 1s in host.sleep(30)"
    );
    assert_eq!(ran.tests.len(), 1);

    let mut top = Case::new("host.sleep(30)");
    top.job.file_timeout = limit;
    let outcome = top.run().outcome;
    assert_eq!(outcome.status, provium_events::FileStatus::TimedOut);
    assert!(
        outcome
            .chunk_error
            .unwrap()
            .message
            .contains("in host.sleep(30)")
    );
}

#[test]
fn the_user_can_end_it() {
    for body in ["host.sleep(30)", "while true do end"] {
        let folder = tempfile::tempdir().unwrap();
        let begun = folder.path().join("begun");
        let made = std::process::Command::new("mkfifo").arg(&begun).status();
        assert!(made.unwrap().success());
        let case = Case::new(&format!(
            "test('a', function() io.open('{}', 'w'):close() {body} end)\ntest('b', print)",
            begun.display()
        ));
        let cancel = case.job.cancel.clone();
        let thread = std::thread::spawn(move || {
            // Returns when the test has opened the pipe and closed it.
            fs_err::read(begun).unwrap();
            cancel.cancel();
        });
        let ran = case.run();
        thread.join().unwrap();
        assert_eq!(ran.test("a").status, TestStatus::Interrupted);
        assert!(ran.outcome.cancelled);
        assert_eq!(ran.tests.len(), 1);
    }
}
