//! A test file whose Lua code cannot be interrupted costs only its own time.

use crate::project::Project;
use provium_events::Event;

/// Hangs in a C function of Lua that never returns, with a VM.
const HANGS: &str = r#"local vm = provium:vm("v", "default"):boot()
local endless = setmetatable({}, {__len = function() return math.maxinteger - 1 end})
test("hangs", {timeout = "1s"}, function() table.remove(endless, 1) end)
"#;

const BOOTS: &str = r#"test("has its turn", function(t)
  t:assert_eq(provium:vm("w", "default"):boot():run("echo up").stdout, "up\n")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn its_resources_go_to_the_next_file_and_the_run_ends() {
    let project = Project::new(&[("a.test.lua", HANGS), ("b.test.lua", BOOTS)]);
    // One vCPU: the second file can boot only when the first one's VM has ended.
    let ran = project.run(&[
        "--cpus",
        "1",
        "--timeout",
        "10s",
        "a.test.lua",
        "b.test.lua",
    ]);
    let ran = ran.exits_with(1);
    ran.prints("TIME a.test.lua (1 failed)");
    ran.prints("fail a.test.lua::hangs");
    ran.prints("PASS b.test.lua");
}

/// The run would last until the file is given up, ten seconds after the file's time limit, which is
/// minutes.
fn a_second_signal_ends_the_run(signal: &str) {
    let project = Project::new(&[("a.test.lua", &HANGS.replace("1s", "1h"))]);
    let mut run = project.start(&["--timeout", "1h", "a.test.lua"]);
    run.wait_for_event("a test that runs", |event| {
        matches!(event, Event::TestStarted { .. })
    });
    run.signal(signal);
    run.wait_until("the answer to the first signal", |run| {
        run.stderr().contains("stopping")
    });
    run.signal(signal);
    let ran = run.wait().exits_with(130);
    ran.prints("1 file: 1 interrupted; ");
    assert!(
        matches!(
            ran.events.last(),
            Some(Event::RunCompleted { interrupted: 1, .. })
        ),
        "{}",
        ran.all()
    );
}

#[test]
#[ignore = "boots guests"]
fn a_second_sigint_ends_the_run() {
    a_second_signal_ends_the_run("INT");
}

#[test]
#[ignore = "boots guests"]
fn a_second_sigterm_ends_the_run() {
    a_second_signal_ends_the_run("TERM");
}

#[test]
#[ignore = "boots guests"]
fn a_second_sighup_ends_the_run() {
    a_second_signal_ends_the_run("HUP");
}
