//! Tasks overlap, are joined, end with their scope.

use super::*;

#[test]
fn tasks_overlap() {
    passes(
        r#"
test("overlap", function(t)
  local tasks, running, most = {}, 0, 0
  local function wait()
    running = running + 1
    most = math.max(most, running)
    host.sleep(0.1)
    running = running - 1
  end
  for i = 1, 8 do
    tasks[i] = co.spawn(function(n) wait() return n, n * 2 end, i)
  end
  for i = 1, 8 do
    local a, b = tasks[i]:join()
    t:assert_eq(a, i)
    t:assert_eq(b, i * 2)
    t:assert_eq(tasks[i]:status(), "done")
  end
  t:assert_eq(most, 8)
  most = 0
  local a, b, c = parallel{
    function() wait() return 1 end,
    function() return nil end,
    function() wait() return 3 end,
  }
  t:assert_eq(most, 2)
  t:assert_eq(a, 1) t:assert_eq(b, nil) t:assert_eq(c, 3)
  local start = co.wrap(function(x) host.sleep(0.001) return x end)
  t:assert_eq(start("v"):join(), "v")
  t:assert_match(tostring(tasks[1]), "^task started at a.test.lua:11")
end)
"#,
    );
}

#[test]
fn errors_of_tasks() {
    let ran = Case::new(
        r#"
test("joined", function(t)
  local task = co.spawn(function() error({code = 5}) end)
  local ok, err = pcall(task.join, task)
  t:assert_eq(err.code, 5)
  t:assert_eq(task:status(), "failed")
end)
test("not joined", function(t)
  co.spawn(function() error("alone") end)
  host.sleep(0.01)
end)
test("not joined, no error", function(t)
  co.spawn(function() host.sleep(100) end)
end)
test("timeout", function(t)
  local task = co.spawn(function() host.sleep(100) end)
  local ok, err = pcall(task.join, task, "10ms")
  t:assert_contains(err, "timed out after 10ms")
  task:cancel()
  local ok, err = pcall(task.join, task)
  t:assert_contains(err, "the task was cancelled")
  t:assert_eq(task:status(), "cancelled")
end)
test("parallel fails fast", function(t)
  local other
  local err = t:assert_raises(function()
    parallel{
      function() host.sleep(100) other = true end,
      function() host.sleep(0.01) error("first", 0) end,
    }
  end)
  t:assert_eq(err, "first")
end)
test("not a function", function(t) co.spawn(3) end)
test("assertion in a task", function(t)
  local task = co.spawn(function() t:assert_eq(1, 2, "inside") end)
  pcall(task.join, task)
end)
"#,
    )
    .run();
    assert_eq!(
        ran.test("joined").status,
        TestStatus::Passed,
        "{}",
        ran.test("joined").message
    );
    let alone = ran.failure("not joined");
    assert!(
        alone.contains("in a task that was not joined: a.test.lua:9: alone"),
        "{alone}"
    );
    for name in ["not joined, no error", "timeout", "parallel fails fast"] {
        assert_eq!(
            ran.test(name).status,
            TestStatus::Passed,
            "{name}: {}",
            ran.test(name).message
        );
    }
    assert!(
        ran.failure("not a function")
            .contains("co.spawn: must be given a function")
    );
    assert!(
        ran.failure("assertion in a task")
            .contains("inside: 1 ~= 2")
    );
}
