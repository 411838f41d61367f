//! One cache that several runs use at once, also runs that do not see each other in `/proc`.

use crate::cache::{CacheProject, setup_path};
use crate::process::children;
use crate::project::{boots, provium};
use std::process::Command;

#[test]
#[ignore = "boots guests"]
fn two_runs_make_one_template() {
    let cache = CacheProject::new(&[]);
    let mut first = cache.project.start(&["boot.test.lua"]);
    // It has the right to make the template before it starts a machine.
    first.wait_until("a machine", |run| !children(run.pid()).is_empty());
    let second = cache.boot();
    let first = first.wait().passes();
    let events = [&first.events[..], &second.events].concat();
    // Whether the second run had to wait depends on how fast the host boots the first.
    assert_eq!(boots(&events), ["cold", "template"]);
}

const KEEPS: &str = r#"local folder = assert(os.getenv("FOLDER"))
local function there(name) local f = io.open(folder .. "/" .. name); return f and f:close() end
test("keeps a snapshot while another run begins", {timeout = "10m"}, function(t)
  local vm = provium:vm("v", "default"):boot()
  vm:write_file("/x", "kept")
  local s = vm:snapshot()
  io.open(folder .. "/held", "w"):close()
  wait_until(function() return there("begun") end, {timeout = "5m"})
  vm:unlink("/x")
  vm:restore(s)
  t:assert_eq(vm:read_file("/x"), "kept")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_run_in_another_pid_namespace_leaves_live_snapshots() {
    let unshare = ["-r", "--pid", "--fork", "--mount-proc"];
    let may = Command::new("unshare").args(unshare).arg("true").output();
    if !may.unwrap().status.success() {
        eprintln!("skipped: this user may not make a PID namespace");
        return;
    }
    let cache = CacheProject::new(&[("keeps.test.lua", KEEPS)]);
    let project = &cache.project;
    project.set_env("FOLDER", project.path().to_str().unwrap());
    let mut holder = project.start(&["keeps.test.lua"]);
    holder.wait_until("a snapshot", |_| project.file("held").exists());
    let mut inside = project.command("unshare");
    inside.args(unshare).arg(provium()).arg("boot.test.lua");
    project.spawn(inside, "".into()).wait().passes();
    project.write("begun", "");
    holder.wait().passes();
    cache.has_no_drafts();
}

/// It fails when it runs twice at once, and removes what it has made before.
const BUILD: &str = "test ! -e busy && touch busy && rm -f {out}/kernel && sleep 1 && mkdir -p {out} && \
                     cp KERNEL {out}/kernel && rm busy";

#[test]
#[ignore = "boots guests"]
fn a_build_command_runs_once_at_a_time() {
    let cache = CacheProject::new(&[]);
    let project = &cache.project;
    let kernel = setup_path(&project.provium(&["setup"]).passes(), "kernel");
    let build = BUILD.replace("KERNEL", kernel.to_str().unwrap());
    let profile = format!(
        "[profiles.built]\nbuild = {build:?}\nbuild_out = \"out\"\nkernel = \"{{out}}/kernel\"\n"
    );
    cache.configure("provium.toml", &profile);
    let prepare = || {
        let mut command = project.command(provium());
        command.args(["prepare", "built"]);
        project.spawn(command, "".into())
    };
    let runs = [prepare(), prepare()].map(|run| run.wait().passes());
    let said = runs
        .each_ref()
        .map(crate::project::FinishedCommand::all)
        .concat();
    let pattern = "waiting in .*project. for process .* the build of profile .built.";
    let waited = regex::Regex::new(pattern).unwrap().is_match(&said);
    assert!(waited, "neither build has waited: {said}");
}
