//! `provium.parallel`, as far as it needs no guest.

use super::{Case, passes};
use crate::testing::{Expectation, TestStatus};
use provium_events::{Event, Sink};
use provium_lab::Environment;
use provium_pool::{Pool, Resources};
use std::sync::Arc;

#[test]
fn tests_of_such_a_file_meet_each_other() {
    passes(
        "provium.parallel = true
         local here = 0
         for number = 1, 5 do
           test('test ' .. number, function()
             here = here + 1
             wait_until(function() return here == 5 end, {interval = 0.01})
           end)
         end
         assert(provium.parallel == true)",
    );
}

#[test]
fn without_it_they_do_not() {
    passes(
        "assert(provium.parallel == false)
         local inside = 0
         for number = 1, 3 do
           test('test ' .. number, function(t)
             inside = inside + 1
             host.sleep(0.01)
             t:assert_eq(inside, 1)
             inside = inside - 1
           end)
         end",
    );
}

#[test]
fn they_begin_in_the_order_of_declaration_and_end_as_they_come() {
    let mut case = Case::new(
        "provium.parallel = true
         local ended = {}
         local function after(name) wait_until(function() return ended[name] end, {interval = 0.01}) end
         test('a', function(t) after('c') ended.a = true end)
         test('b', {skip = 'not now'}, function() end)
         test('c', function() ended.c = true end)
         test('left out', function() error('not asked for') end)
         test('d', function() after('a') end)",
    );
    let (sink, events) = Sink::channel();
    case.job.sink = sink;
    case.job.selection.exact = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let ran = case.run();
    let lines = events.try_iter().filter_map(|stamped| match stamped.event {
        Event::TestStarted { name, .. } => Some(format!("+{name}")),
        Event::TestPassed { name, .. } => Some(format!("-{name}")),
        Event::TestSkipped { name, reason, .. } => Some(format!("-{name}: {reason}")),
        _ => None,
    });
    let lines: Vec<_> = lines.collect();
    let began: Vec<_> = lines
        .iter()
        .filter(|lines| lines.starts_with('+'))
        .collect();
    assert_eq!(began, ["+a", "+b", "+c", "+d"]);
    let ended: Vec<_> = lines
        .iter()
        .filter(|lines| lines.starts_with('-'))
        .collect();
    assert_eq!(ended, ["-b: not now", "-c", "-a", "-d"]);
    assert_eq!((ran.outcome.passed, ran.outcome.skipped), (3, 1));
}

#[test]
fn each_has_its_log_steps_deferred_functions_and_sticky_failures() {
    let case = Case::new(
        "provium.parallel = true
         local waiting = 0
         local function together()
           waiting = waiting + 1
           wait_until(function() return waiting >= 2 end, {interval = 0.01})
         end
         local deferred = {}
         for _, name in ipairs{'one', 'two'} do
           test(name, function(t)
             t:defer(function() print('deferred of ' .. name) end)
             t:step('step of ' .. name, together)
             print('log of ' .. name)
             if name == 'two' then pcall(t.fail, t, 'failure of two') end
             co.spawn(function() print('task of ' .. name) end):join()
           end)
         end",
    );
    let ran = case.run();
    for name in ["one", "two"] {
        let verdict = ran.test(name);
        let lines = ["log", "task", "deferred"].map(|what| format!("{what} of {name}"));
        assert_eq!(verdict.log, lines);
        assert_eq!(verdict.steps.len(), 1);
        assert_eq!(verdict.steps[0].name, format!("step of {name}"));
    }
    assert_eq!(ran.test("one").status, TestStatus::Passed);
    assert!(ran.failure("two").ends_with("failure of two"));
}

#[test]
fn a_limit_ends_only_the_test_it_is_of() {
    let case = Case::new(
        "provium.parallel = true
         local late
         test('waits', {timeout = 0.1}, function() host.sleep(60) end)
         test('loops', {timeout = 0.1}, function() while true do end end)
         test('expected', {timeout = 0.1, expect_fail = 'slow'}, function() host.sleep(60) end)
         test('continues', {timeout = 30}, function()
           host.sleep(0.4)
           late = true
         end)
         test('sees it', function() wait_until(function() return late end) end)",
    );
    let ran = case.run();
    assert!(
        ran.failure("waits")
            .contains("timed out after 100ms in host.sleep(60)")
    );
    assert!(
        ran.failure("loops")
            .contains("timed out after 100ms in Lua code")
    );
    let expected = ran.test("expected").expected.clone();
    assert_eq!(expected, Some(Expectation::Fail("slow".to_owned())));
    assert_eq!(ran.test("continues").status, TestStatus::Passed);
    assert_eq!(ran.test("sees it").status, TestStatus::Passed);
    assert_eq!((ran.outcome.passed, ran.outcome.failed), (3, 2));
}

#[test]
fn the_files_limit_ends_running_tests_and_starts_no_other() {
    let mut case = Case::new(
        "provium.parallel = true
         for number = 1, 3 do test('test ' .. number, function() host.sleep(60) end) end",
    );
    case.job.file_timeout = Some(std::time::Duration::from_secs(1));
    let ran = case.run();
    assert_eq!(ran.outcome.status, provium_events::FileStatus::TimedOut);
    for number in 1..=3 {
        let failure = ran.failure(&format!("test {number}")).to_owned();
        assert!(failure.contains("the file timed out"), "{failure}");
    }
}

#[test]
fn a_cancelled_run_ends_running_files_and_starts_no_other() {
    let mut case = Case::new(
        "provium.parallel = true
         for number = 1, 3 do test('test ' .. number, function() host.sleep(60) end) end",
    );
    case.limit_processors(2);
    let cancel = case.job.cancel.clone();
    let (sink, events) = Sink::channel();
    case.job.sink = sink;
    let canceller = std::thread::spawn(move || {
        let began = |event: &Event| matches!(event, Event::TestStarted { .. });
        let began = events.iter().filter(|stamped| began(&stamped.event));
        assert_eq!(began.take(2).count(), 2);
        cancel.cancel();
    });
    let ran = case.run();
    canceller.join().unwrap();
    assert!(ran.outcome.cancelled);
    assert_eq!(ran.tests.len(), 2);
    for (name, verdict) in &ran.tests {
        assert_eq!(verdict.status, TestStatus::Interrupted, "{name}");
    }
}

#[test]
fn a_failed_attempt_is_repeated_beside_the_others() {
    let case = Case::new(
        "provium.parallel = true
         local attempts = 0
         test('flaky', {retries = 2}, function(t)
           attempts = attempts + 1
           print('attempt ' .. attempts)
           t:assert_eq(attempts, 3)
         end)
         test('other', function() wait_until(function() return attempts == 3 end) end)",
    );
    let ran = case.run();
    ran.all_passed();
    assert_eq!(ran.test("flaky").attempts, 3);
    assert_eq!(ran.test("flaky").log, ["attempt 3"]);
}

#[test]
fn as_many_run_at_a_time_as_the_pool_has_processors() {
    let mut case = Case::new(
        "provium.parallel = true
         local inside, most = 0, 0
         for number = 1, 7 do
           test('test ' .. number, {retries = 1}, function(t)
             inside = inside + 1
             most = math.max(most, inside)
             t:defer(function() inside = inside - 1 end)
             host.sleep(0.02)
             -- What is tried again does not push in.
             if number == 2 and not tried then tried = true t:fail('once') end
             if number == 7 then t:assert_eq(most, 3) end
           end)
         end",
    );
    case.limit_processors(3);
    case.run().all_passed();
}

#[test]
fn each_test_has_sub_labs_of_its_own_under_the_files_handles() {
    passes(
        "provium.parallel = true
         local outer = provium:lab('outer')
         local inner = outer:lab('inner')
         outer:include(provium:lab('guest of outer'))
         local waiting = 0
         for _, name in ipairs{'one', 'two'} do
           test(name, function(t)
             t:assert_eq(provium.outer, outer)
             t:assert_eq(provium:lab('outer'), outer)
             t:assert_eq(outer.inner, inner)
             t:assert_eq(tostring(outer), 'lab `outer`')
             inner:lab('of ' .. name)
             outer:remove('guest of outer')
             waiting = waiting + 1
             wait_until(function() return waiting >= 2 end, {interval = 0.01})
             t:assert_same(inner:sub_lab_names(), {'of ' .. name})
             t:assert_same(outer:sub_lab_names(), {'inner'})
             t:assert_same(provium:sub_lab_names(), {})
             local err = t:assert_raises(function() provium:include(outer) end)
             t:assert_contains(tostring(err), 'at file scope')
           end)
         end",
    );
}

#[test]
fn their_tasks_meet_in_barriers_of_their_own() {
    passes(
        "provium.parallel = true
         local order = {}
         for _, name in ipairs{'one', 'two'} do
           test(name, function(t)
             local first = co.spawn(function() provium:barrier('b', 2, '20s') end)
             if name == 'one' then
               -- The first task of the other is in its barrier meanwhile.
               wait_until(function() return order[1] end, {interval = 0.01})
               t:assert_eq(first:status(), 'running')
             end
             provium:barrier('b', 2, '20s')
             first:join()
             order[#order + 1] = name
             t:assert_eq(order[1], 'two')
           end)
         end",
    );
}

#[test]
fn it_is_a_setting_of_the_file() {
    let case = Case::new(
        "test('a', function() provium.parallel = true end)
         test('b', function(t)
           t:assert_contains(tostring(t:assert_raises(function() provium.paralel = true end)), 'parallel')
         end)",
    );
    let ran = case.run();
    assert!(ran.failure("a").contains("only at file scope"));
    assert_eq!(ran.test("b").status, TestStatus::Passed);
    let error = Case::new("provium.parallel = 1").run().outcome.chunk_error;
    let error = error.unwrap().message;
    assert!(
        error.contains("provium.parallel: must be true or false, got 1"),
        "{error}"
    );
}

impl Case {
    fn limit_processors(&mut self, cpus: u32) {
        let runtime = self.runtime.handle().clone();
        let sink = self.job.sink.clone();
        let total = Resources {
            cpus,
            ..Resources::UNLIMITED
        };
        let pool = Pool::new(total, sink.clone());
        let environment = Environment::new(Vec::new(), None, pool, sink, 0, runtime);
        self.job.environment = Arc::new(environment);
    }
}
