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
        (1, crate::FileStatus::Failed)
    );
    assert!(
        outcome
            .chunk_error
            .unwrap()
            .message
            .contains("nobody joined: a.test.lua:1: bg")
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
        "print('early', 1)\ntest('a', function(t) print('x', nil) os.exit(3) end)\ntest('b', function() end)",
    )
    .run();
    assert_eq!(ran.test("a").log, ["early\t1", "x\tnil"]);
    assert!(
        ran.failure("a")
            .starts_with("a.test.lua:2: os.exit: would end the whole run")
    );
    assert!(ran.test("b").log.is_empty());
}

#[test]
fn a_command_on_the_host_can_be_ended_and_holds_up_nobody() {
    let ran = Case::new(
        r#"
test("results", function(t)
  t:assert_same({os.execute("echo said; echo loud >&2")}, {true, "exit", 0})
  t:assert_same({os.execute("exit 3")}, {nil, "exit", 3})
  t:assert_same({os.execute("kill -TERM $$")}, {nil, "signal", 15})
  t:assert_eq(os.execute(), true)
end)
test("others go on", function(t)
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
    for name in ["results", "others go on"] {
        let verdict = ran.test(name);
        assert_eq!(verdict.status, Status::Passed, "{}", verdict.message);
    }
    assert_eq!(ran.test("results").log, ["said", "loud"]);
    assert_eq!(
        ran.failure("ended"),
        "timed out after 200ms in os.execute(\"sleep 30\")"
    );
}
