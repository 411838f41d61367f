//! A file's top level and its end.

use super::*;

#[test]
fn the_top_level_may_wait_and_fail() {
    passes("host.sleep(0.001)\nlocal x = 3\ntest('a', function(t) t:assert_eq(x, 3) end)");
    let ran = Case::new("test('a', print)\nhost.sleep(0.001)\nerror('late')").run();
    assert!(ran.tests.is_empty());
    assert_eq!(
        ran.outcome.chunk_error.unwrap().site.unwrap().to_string(),
        "a.test.lua:3"
    );
    let task = Case::new(
        "co.spawn(function() error('bg') end)\ntest('a', function() host.sleep(0.01) end)",
    );
    let outcome = task.run().outcome;
    assert_eq!(
        (outcome.passed, outcome.status),
        (1, provium_events::FileStatus::Failed)
    );
    assert!(
        outcome
            .chunk_error
            .unwrap()
            .message
            .contains("was not joined: a.test.lua:1: bg")
    );
}

#[test]
fn a_first_line_for_the_shell_is_passed_over() {
    passes(
        "#!/usr/bin/env provium\ntest('a', function(t) t:assert_eq(debug.getinfo(1).currentline, 2) end)",
    );
}

#[test]
fn no_file() {
    let mut case = Case::new("");
    case.job.path = case.job.path.with_file_name("missing.test.lua");
    let error = case.run().outcome.chunk_error.unwrap();
    assert!(
        error.message.contains("missing.test.lua"),
        "{}",
        error.message
    );
}

#[test]
fn print_goes_to_the_log_and_nothing_ends_the_run() {
    let ran = Case::new(
        "print('early', 1)\ntest('a', function(t) warn('@on') warn('x', 1) print('x', nil) os.exit(3) end)\ntest('b', function() end)",
    )
    .run();
    assert_eq!(ran.test("a").log, ["early\t1", "warning: x1", "x\tnil"]);
    assert!(
        ran.failure("a")
            .starts_with("a.test.lua:2: os.exit: would end the whole run")
    );
    assert!(ran.test("b").log.is_empty());
}

#[test]
fn a_host_command_can_be_ended_and_other_tasks_run_meanwhile() {
    let ran = Case::new(
        r#"
test("results", function(t)
  t:assert_same({os.execute("echo said; echo loud >&2")}, {true, "exit", 0})
  t:assert_same({os.execute("exit 3")}, {nil, "exit", 3})
  t:assert_same({os.execute("kill -TERM $$")}, {nil, "signal", 15})
  t:assert_eq(os.execute(), true)
end)
test("others continue", function(t)
  local calls = 0
  local task = co.spawn(function() os.execute("sleep 0.3") end)
  while task:status() == "running" do
    host.sleep(0.01)
    calls = calls + 1
  end
  t:assert(calls > 5, calls)
end)
test("ended", {timeout = "200ms"}, function() os.execute("sleep 30") end)
"#,
    )
    .run();
    for name in ["results", "others continue"] {
        let verdict = ran.test(name);
        assert_eq!(verdict.status, TestStatus::Passed, "{}", verdict.message);
    }
    assert_eq!(ran.test("results").log, ["said", "loud"]);
    assert_eq!(
        ran.failure("ended"),
        "timed out after 200ms in os.execute(\"sleep 30\")"
    );
}

#[test]
fn a_module_that_another_task_loads_is_awaited() {
    let ran = Case::new(
        r#"
test("same value", function(t)
  local one = co.spawn(function() return require "slow" end)
  local two = co.spawn(function() return require "slow" end)
  t:assert(rawequal(one:join(), two:join()))
  t:assert_eq(LOADS, 1)
end)
test("failed load", function(t)
  local one = co.spawn(function() return require "fails_once" end)
  local two = co.spawn(function() return require "fails_once" end)
  t:assert_raises(function() one:join() end)
  t:assert_eq(two:join(), "loaded")
end)
test("stopped load", function(t)
  local one = co.spawn(function() return require "endless" end)
  local two = co.spawn(function() return require "endless" end)
  wait_until(function() return LOADING end)
  SECOND = true
  one:cancel()
  t:assert_eq(two:join(), "loaded")
end)
test("limit", {timeout = "100ms"}, function()
  SECOND, LOADING, package.loaded.endless = nil, nil, nil
  co.spawn(function() require "endless" end)
  wait_until(function() return LOADING end)
  require "endless"
end)
"#,
    )
    .with_file(
        "slow.lua",
        "LOADS = (LOADS or 0) + 1 host.sleep(0.02) return {}",
    )
    .with_file(
        "fails_once.lua",
        "host.sleep(0.02) if not FAILED then FAILED = true error('once') end return 'loaded'",
    )
    .with_file(
        "endless.lua",
        "LOADING = true if not SECOND then host.sleep(60) end return 'loaded'",
    )
    .run();
    for name in ["same value", "failed load", "stopped load"] {
        let verdict = ran.test(name);
        assert_eq!(
            verdict.status,
            TestStatus::Passed,
            "{name}: {}",
            verdict.message
        );
    }
    assert_eq!(
        ran.failure("limit"),
        "timed out after 100ms in require(\"endless\")"
    );
}
