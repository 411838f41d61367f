//! However a run ends while a guest is up, no process and no temporary file is left.

use crate::process::{children, is_gone, wait_for};
use crate::project::Project;
use provium_events::Event;

const LONG: &str = r#"local vm = provium:vm("v", "default"):boot()
test("long", function() vm:run("sleep 1000") end)
"#;

fn nothing_is_left_after(signal: &str, exit_code: Option<i32>) {
    let project = Project::new(&[("long.test.lua", LONG)]);
    let temporary = project.beside("tmp");
    std::fs::create_dir(&temporary).unwrap();
    project.set_env("TMPDIR", temporary.to_str().unwrap());
    let mut run = project.start(&["long.test.lua"]);
    run.wait_for_event("a booted guest", |event| {
        matches!(event, Event::VmSpawned { .. })
    });
    let machines = children(run.pid());
    assert!(!machines.is_empty(), "no machine was started");
    run.signal(signal);
    let ran = run.wait();
    for machine in machines {
        wait_for("the end of the machine", || is_gone(machine));
    }
    if let Some(code) = exit_code {
        ran.exits_with(code);
    }
    let left: Vec<_> = std::fs::read_dir(&temporary).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
#[ignore = "boots guests"]
fn nothing_is_left_after_sigint() {
    nothing_is_left_after("INT", Some(130));
}

#[test]
#[ignore = "boots guests"]
fn nothing_is_left_after_sigterm() {
    nothing_is_left_after("TERM", Some(130));
}

#[test]
#[ignore = "boots guests"]
fn nothing_is_left_after_sighup() {
    nothing_is_left_after("HUP", Some(130));
}

#[test]
#[ignore = "boots guests"]
fn nothing_is_left_after_sigkill() {
    nothing_is_left_after("KILL", None);
}
