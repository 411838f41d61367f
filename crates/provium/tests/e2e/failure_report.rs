//! What a test that fails on a guest reports.

use crate::project::{FinishedCommand, Project};

const FAILS: &str = r#"local web = provium:vm("web", "default"):boot()

local function check(vm)
  vm:run("echo out; echo err >&2; exit 3"):assert_ok()
end

test("fails", function(t)
  local db = provium:vm("db", "default"):boot()
  provium:vm("off", "default")
  -- More than is shown, by far.
  for i = 1, 200 do web:write_file("/dev/kmsg", ("<1>line %d of the web's console\n"):format(i)) end
  db:write_file("/dev/kmsg", "<1>the db's console\n")
  web:console():expect("line 200 of")
  db:console():expect("the db's console")
  t:log("about to", "fail")
  t:step("a step", function() end)
  check(web)
end)

test("out of time", {timeout = "1s"}, function(t) web:run("sleep 100") end)

test("as usable as before", function(t) t:assert_eq(web:run("echo on").stdout, "on\n") end)
"#;

fn run(arguments: &[&str]) -> FinishedCommand {
    Project::new(&[("fails.test.lua", FAILS)])
        .run(arguments)
        .exits_with(1)
}

#[test]
#[ignore = "boots guests"]
fn a_failed_test_shows_line_frames_log_steps_and_consoles() {
    let ran = run(&["--color", "never", "fails.test.lua"]);
    for text in [
        "FAIL fails.test.lua (1 passed, 2 failed)",
        "fail fails.test.lua::out of time",
        "run(\"echo out; echo err >&2; exit 3\") exited with 3",
        "--> fails.test.lua:4:3",
        "stdout: out",
        "stderr: err",
        "fails.test.lua:4: in check",
        "fails.test.lua:17",
        "about to fail",
        "step a step",
        "console of vm `web`",
        "line 200 of the web's console",
        "console of vm `db`",
        "the db's console",
        "timed out after 1s in vm:run(\"sleep 100\")",
        "--> fails.test.lua:20:1",
    ] {
        ran.prints(text);
    }
    // Only the end of a console, and none of a VM that was not booted.
    ran.does_not_print("line 1 of the web's console");
    ran.does_not_print("console of vm `off`");
}

/// The content of the file that the report says has the lines that it cuts, with that many before them.
#[track_caller]
fn kept(project: &Project, ran: &FinishedCommand, note: &str) -> String {
    let pattern = regex::Regex::new(&format!(
        "{note} more lines? in (r.xml.attachments/output/\\S+)"
    ))
    .unwrap();
    let found = pattern.captures(&ran.stdout);
    let path = found.unwrap_or_else(|| panic!("no `{note} more lines`: {}", ran.all()));
    let text = project.read(&path[1]);
    // The report for CI servers leads to it, too.
    assert!(
        project
            .read("r.xml")
            .contains(&format!("[[ATTACHMENT|{}]]", &path[1]))
    );
    text
}

#[test]
#[ignore = "boots guests"]
fn what_the_report_cuts_of_a_console_is_in_a_file() {
    let project = Project::new(&[("fails.test.lua", FAILS)]);
    let arguments = [
        "--color",
        "never",
        "--junit",
        "r.xml",
        "fails.test.lua::fails",
    ];
    let ran = project.run(&arguments).exits_with(1);
    let console = kept(&project, &ran, "console of vm `web`:\n    … 1[0-9][0-9]");
    for line in [1, 100, 200] {
        assert!(
            console.contains(&format!("line {line} of the web's console")),
            "{console}"
        );
    }
}

const UNSEEN: &str = r#"local vm = provium:vm("g", "default"):boot()
vm:run("echo set-up >&2; exit 5")

test("passes", function(t) vm:run("exit 6") end)

test("fails", function(t)
  vm:run("echo first >&2; echo last >&2; exit 7")
  t:assert_eq(vm:run("exit 8").exit_code, 8)
  vm:run_async("exit 9"):wait()
  t:fail("on purpose")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_failed_test_lists_failed_commands_whose_result_was_not_read() {
    let ran = Project::new(&[("unseen.test.lua", UNSEEN)])
        .run(&["--color", "never", "unseen.test.lua"])
        .exits_with(1);
    for text in [
        "failed commands whose result was not checked",
        "run(\"echo set-up >&2; exit 5\") exited with 5 (unseen.test.lua:2)",
        "exit 7\") exited with 7 (unseen.test.lua:7)",
        "| first",
        "| last",
    ] {
        ran.prints(text);
    }
    // The last one is only listed as every process is.
    for text in ["exited with 6", "exited with 8", "run(\"exit 9\")"] {
        ran.does_not_print(text);
    }
}

const DIES: &str = r#"local vm = provium:vm("g", "default"):boot()
vm:write_file("/dev/kmsg", "<1>long before the test\n")
vm:console():expect("long before the test")
local daemon = vm:run_async("echo ready; echo cannot bind >&2; exit 7")

test("waits for a daemon", function(t)
  vm:run_async("seq 100; sleep 1000"):stdout_stream():expect("100\n")
  vm:write_file("/dev/kmsg", "<1>in the test\n")
  vm:console():expect("in the test")
  daemon:stdout_stream():expect("listening")
end)

-- A report of a known length: that of a panic is as long as the kernel's stack is deep.
test("sees a report", function(t)
  vm:write_file("/dev/kmsg", "<1>BUG: written by a test\n")
  for i = 1, 40 do vm:write_file("/dev/kmsg", ("<1>line %d of the report\n"):format(i)) end
  vm:console():expect("line 40 of the report")
end)

test("breaks the guest", function(t)
  vm:write_file("/proc/sysrq-trigger", "c")
end)

test("comes later", function(t) vm:run("true") end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_failed_test_shows_its_processes_its_console_and_the_start_of_a_panic() {
    let project = Project::new(&[("dies.test.lua", DIES)]);
    let arguments = ["--color", "never", "--junit", "r.xml", "dies.test.lua"];
    let ran = project.run(&arguments).exits_with(1);
    let output = kept(&project, &ran, "stdout \\| … 95");
    assert!(
        output.starts_with("1\n2\n") && output.ends_with("99\n100\n"),
        "{output}"
    );
    // 30 lines from the report's first one on are shown.
    let console = kept(&project, &ran, "line 29 of the report\n *\\| … 11");
    assert!(console.contains("line 40 of the report"), "{console}");
    for text in [
        "exited with 7",
        "stderr | cannot bind",
        "\"seq 100; sleep 1000\") of vm `g`: running",
        "stdout | 100",
        "in the test",
        "the kernel of vm `g` reported: ",
        "sysrq: Trigger a crash",
        "vm `g`: run(\"true\"): the VM died in test `breaks the guest`",
    ] {
        ran.prints(text);
    }
    ran.does_not_print("long before the test");
}

#[test]
#[ignore = "boots guests"]
fn json_has_one_line_with_reason_and_log() {
    let ran = run(&["--json", "fails.test.lua"]);
    let lines = ran.stdout.lines().filter(|line| line.starts_with('{'));
    assert_eq!(lines.count(), 1, "{}", ran.all());
    ran.prints("\"status\":\"failed\"");
    ran.prints("fails.test.lua:4: run(");
    ran.prints("\"log\":[\"about to fail\"]");
}

#[test]
#[ignore = "boots guests"]
fn a_failed_test_lists_disks_that_do_not_work_as_new_ones() {
    let source = r#"
local vm = provium:vm("db", "default", {disks = {
  {scratch = "1M", id = "data"}, {scratch = "1M", id = "cut"}, {scratch = "1M", id = "fine"},
}}):boot()
test("fails", function(t)
  local data = vm:disk("data")
  data:fault_inject{mode = "eio_write", sectors = {8, 15}, count = 3}
  vm:check("dd if=/dev/zero of=/dev/vda bs=4k count=1")
  vm:run("dd if=/dev/zero of=/dev/vda bs=4k seek=1 count=1 conv=fsync")
  vm:disk("cut"):power_cut()
  t:fail("it did")
end)
"#;
    let project = Project::new(&[("fails.test.lua", source)]);
    let ran = project
        .run(&["--color", "never", "fails.test.lua"])
        .exits_with(1);
    for text in [
        "disks:",
        "disk `data` of vm `db`: ",
        " 1 failed, ",
        "fault: eio_write, sectors 8 to 15, at most 3 times: acted 1 time",
        "disk `cut` of vm `db`: ",
        "its power is cut",
    ] {
        ran.prints(text);
    }
    ran.does_not_print("disk `fine`");
}

/// A console that is longer than what is kept in memory, where the rest cannot be written.
const LOSES: &str = r#"local vm = provium:vm("v", "default"):boot()
local console = vm:console()

test("looks at what was lost", {timeout = "200s"}, function(t)
  vm:check("stty -F /dev/ttyS0 raw; head -c 1200000 /dev/zero | tr '\\0' y > /dev/ttyS0", {timeout = "180s"})
  t:assert_raises(function() console:read_log() end)
  for _, call in ipairs{"never", "expect"} do
    local err = tostring(t:assert_raises(function() console[call](console, "gone", "100ms") end))
    t:assert_match(err, "%d+ bytes were lost: the console's log cannot be written")
  end
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_test_whose_console_lost_bytes_fails() {
    let project = Project::new(&[("loses.test.lua", LOSES)]);
    project.set_env("TMPDIR", "/nonexistent");
    let ran = project.run(&["loses.test.lua"]).exits_with(1);
    ran.prints("what the kernel reported may be among them");
    ran.does_not_print("loses.test.lua:9");
}
