//! Builds of fixtures: found by name, shared by runs, killed, damaged, evicted.

use crate::cache::{list, replace};
use crate::fixture_inputs::{build, is_fresh, project};
use crate::project::{FinishedCommand, Project};
use provium_events::Event;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

fn has_built(ran: &FinishedCommand) -> bool {
    ran.has_event(|event| matches!(event, Event::FixtureBuildStarted { .. }))
}

#[test]
#[ignore = "boots guests"]
fn commands_take_the_names_that_tests_use() {
    let project = project();
    build(&project);
    let ran = project.provium(&["fixture", "build", "db", "top.fixture.lua"]);
    let ran = ran.passes();
    assert_eq!(ran.all().matches("fresh").count(), 2, "{}", ran.all());
    let ran = project.provium(&["fixture", "build", "missing"]);
    ran.warns("fixture `missing` not found in any test root");
    let said = ran.all();
    assert!(!said.contains("exit status: 0"), "{said}");
}

const OF_MORE: &str = r#"print("of_more is built")
local vm = provium:vm("of_more", "small"):boot()
vm:push_file("data.txt", "/data")
return vm:snapshot()
"#;

const ROOTS: &str = r#"local vm = provium:vm_fixture("../more/of_more.fixture.lua")
test("roots", function(t) t:assert_eq(vm:read_file("/data"), "from-more\n") end)
"#;

#[test]
#[ignore = "boots guests"]
fn paths_are_relative_to_the_fixtures_own_root() {
    let project = project();
    project.write("tests/data.txt", "from-tests\n");
    project.write("more/data.txt", "from-more\n");
    project.write("more/of_more.fixture.lua", OF_MORE);
    project.write("tests/roots.test.lua", ROOTS);
    let ran = project.run(&["-v", "tests/roots.test.lua"]).passes();
    let mut lines = ran.stdout.lines().map(str::trim_start);
    assert!(
        lines.any(|line| line.starts_with("of_more is built")),
        "the file that leads to a build has its log: {}",
        ran.all()
    );
    let ran = project.provium(&["fixture", "build", "more"]).passes();
    let said = ran.all();
    assert!(said.contains("of_more.fixture.lua (vm): fresh"), "{said}");
}

/// The first boot makes the template, which may take longer than the limit of the test.
const LATE: &str = r#"provium:vm("first", "small"):boot():close()
test("waits", {timeout = "5s"}, function() provium:vm_fixture("outer.fixture.lua") end)
test("loops", {timeout = "1s"}, function() provium:vm_fixture("loop.fixture.lua") end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_build_that_times_out_names_where_it_was() {
    let project = project();
    let slow = "local vm = provium:vm(\"slow\", \"small\"):boot()\nvm:run(\"sleep 1000\")\n";
    project.write("tests/slow.fixture.lua", slow);
    let outer = "provium:vm_fixture(\"slow.fixture.lua\")\n";
    project.write("tests/outer.fixture.lua", outer);
    project.write("tests/loop.fixture.lua", "while true do end\n");
    project.write("tests/late.test.lua", LATE);
    let ran = project.run(&["tests/late.test.lua"]).exits_with(1);
    ran.prints(
        "timed out after 5s in lab:vm_fixture(\"outer.fixture.lua\"), whose script was in \
         vm:run(\"sleep 1000\") at tests/slow.fixture.lua:2",
    );
    ran.prints(
        "timed out after 1s in lab:vm_fixture(\"loop.fixture.lua\"), whose script was in \
         tests/loop.fixture.lua:1",
    );
}

#[test]
#[ignore = "boots guests"]
fn a_snapshot_in_a_folder_of_its_author_is_refused() {
    let project = project();
    let named = "return provium:vm(\"v\", \"small\"):boot():snapshot(\"../named\")\n";
    project.write("tests/named.fixture.lua", named);
    let ran = project.provium(&["fixture", "build", "tests/named.fixture.lua"]);
    let said = ran.all();
    let why = "fixture `tests/named.fixture.lua`: what it returned: it must return a snapshot that was \
               taken in it, without a folder";
    assert!(said.contains(why), "{said}");
    assert!(!said.contains("exit status: 0"), "{said}");
}

#[test]
#[ignore = "boots guests"]
fn of_two_runs_one_builds_and_the_other_waits() {
    let project = project();
    project.set_env("FIXTURE_WAIT", "3");
    let mut first = project.start(&["tests/use.test.lua"]);
    first.wait_for_event("a build", |event| {
        matches!(event, Event::FixtureBuildStarted { .. })
    });
    let second = project.run(&["-v", "tests/use.test.lua"]).passes();
    first.wait().passes();
    second.prints("waiting for tests/use.test.lua, which builds it");
    assert!(!has_built(&second), "both have built");
    assert!(second.has_event(|event| matches!(event, Event::FixtureCacheHit { .. })));
}

#[test]
#[ignore = "boots guests"]
fn a_killed_builder_leaves_nothing() {
    let project = project();
    project.set_env("FIXTURE_WAIT", "1000");
    let mut run = project.start(&["tests/use.test.lua"]);
    run.wait_for_event("a booted guest", |event| {
        matches!(event, Event::VmSpawned { .. })
    });
    run.signal("KILL");
    run.wait();
    project.remove_env("FIXTURE_WAIT");
    build(&project);
    project.run(&["tests/use.test.lua"]).passes();
    for bucket in ["fixtures-v1", "snapshots-v1"] {
        let mut drafts = list(&project.beside("cache").join(bucket));
        drafts.retain(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(".tmp")
        });
        assert!(drafts.is_empty(), "{drafts:?}");
    }
}

/// The folders of the built fixtures.
fn entries(project: &Project) -> Vec<PathBuf> {
    let bucket = project.beside("cache/fixtures-v1");
    let is_entry = |path: &PathBuf| path.file_name().unwrap() != "LOCKS";
    list(&bucket).into_iter().filter(is_entry).collect()
}

/// One kind of damage, done to the folder of a built fixture.
type Damage = (&'static str, fn(&Path));

const DAMAGES: [Damage; 7] = [
    ("RAM cut short", |entry| {
        let ram = File::options().write(true).open(entry.join("snapshot/ram"));
        let ram = ram.unwrap();
        ram.set_len(ram.metadata().unwrap().len() - 4096).unwrap();
    }),
    ("a changed byte", |entry| {
        let machine = entry.join("snapshot/machine.json");
        let machine = File::options().write(true).open(machine).unwrap();
        machine.write_all_at(&[0xff], 20).unwrap();
    }),
    ("device state cut short", |entry| {
        let devices = entry.join("snapshot/devices");
        let devices = File::options().write(true).open(devices).unwrap();
        devices.set_len(1000).unwrap();
    }),
    ("a missing file", |entry| {
        std::fs::remove_file(entry.join("snapshot/vm.json")).unwrap();
    }),
    ("a later version", |entry| {
        let path = entry.join("fixture.json");
        replace(&path, "\"version\": 2", "\"version\": 99");
    }),
    ("no manifest", |entry| {
        std::fs::remove_file(entry.join("manifest.json")).unwrap();
    }),
    ("a manifest that is garbage", |entry| {
        std::fs::write(entry.join("manifest.json"), "garbage\n").unwrap();
    }),
];

#[test]
#[ignore = "boots guests"]
fn a_damaged_fixture_is_reported_removed_and_rebuilt() {
    let project = project();
    let warning = regex::Regex::new(r"was damaged \(.*\): it is removed and rebuilt").unwrap();
    let of_db = regex::Regex::new("\"path\": .*/db.fixture.lua").unwrap();
    for (what, damage) in DAMAGES {
        project.provium(&["fixture", "clean"]).passes();
        build(&project);
        for entry in entries(&project) {
            damage(&entry);
        }
        let ran = project.run(&["tests/use.test.lua"]).passes();
        let said = format!("{what}: {}", ran.all());
        assert!(has_built(&ran), "{said}");
        assert!(warning.is_match(&said), "{said}");
        let is_db = |entry: &PathBuf| {
            let text = std::fs::read_to_string(entry.join("fixture.json")).unwrap_or_default();
            of_db.is_match(&text)
        };
        let count = entries(&project).into_iter().filter(is_db).count();
        assert_eq!(count, 1, "{what}: the damaged entry is still there");
    }
}

#[test]
#[ignore = "boots guests"]
fn clean_removes_entries_that_cannot_be_read() {
    let project = project();
    build(&project);
    for entry in entries(&project) {
        std::fs::write(entry.join("fixture.json"), "garbage\n").unwrap();
    }
    let cleaned = project.provium(&["fixture", "clean"]).passes();
    assert!(entries(&project).is_empty(), "{}", cleaned.all());
}

#[test]
#[ignore = "boots guests"]
fn fixtures_of_another_project_are_not_judged() {
    let project = project();
    build(&project);
    is_fresh(&project);
    let other = Project::new(&[]);
    let cache = project.beside("cache");
    other.write(
        "provium.toml",
        &format!("[provium]\ncache_dir = {cache:?}\n"),
    );
    other
        .provium(&["fixture", "stale"])
        .passes()
        .prints("no fixture is stale\n");
    let ran = other.provium(&["fixture", "list"]).passes();
    let pattern = regex::Regex::new("(?m)top.fixture.lua .* of another project$").unwrap();
    assert!(pattern.is_match(&ran.stdout), "{}", ran.all());
    let ran = other.provium(&["fixture", "list", "--json"]).passes();
    ran.prints("\"stale\":null,\"foreign\":true");
}

/// Without a guest; here for its neighbours.
#[test]
#[ignore = "runs beside those that boot guests"]
fn a_file_outside_of_all_roots_names_fixtures_beside_itself() {
    let project = project();
    let folder = project.beside("by_itself");
    std::fs::create_dir(&folder).unwrap();
    let names = "provium:vm_fixture(\"named_here.fixture.lua\")\n";
    std::fs::write(folder.join("names.fixture.lua"), names).unwrap();
    std::fs::write(folder.join("named_here.fixture.lua"), "\n").unwrap();
    let ran = project.provium(&["list", "--fixtures", folder.to_str().unwrap()]);
    let pattern = r"named_here.fixture.lua.*\n(.*\n)?.*named in .*names.fixture.lua";
    let ran = ran.passes();
    assert!(
        regex::Regex::new(pattern).unwrap().is_match(&ran.stdout),
        "{}",
        ran.all()
    );
}

const HOLD: &str = r#"local vm = provium:vm_fixture("db.fixture.lua")
test("hold", function(t)
  t:assert_eq(os.execute(os.getenv("PROVIUM") .. " tests/use.test.lua > other.out 2>&1"), true)
  t:assert_eq(vm:run("hostname").stdout, "db\n")
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_fixture_in_use_is_not_evicted() {
    let project = project();
    build(&project);
    project.edit(
        "provium.toml",
        "cache_dir = \"../cache\"\n",
        "cache_dir = \"../cache\"\ncache_max_size = \"1K\"\n",
    );
    project.write("tests/hold.test.lua", HOLD);
    let ran = project.run(&["tests/hold.test.lua"]);
    let other = project.read("other.out");
    assert!(
        ran.all().contains("exit status: 0"),
        "{}\n{other}",
        ran.all()
    );
}
