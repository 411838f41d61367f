//! What a fixture was built from: its inputs, and which of their changes make it stale.

use crate::cache::users_cache;
use crate::project::{FinishedCommand, Project};
use std::os::unix::fs::{PermissionsExt as _, symlink};

const CONFIGURATION: &str = r#"[provium]
roots = ["tests", "more"]
cache_dir = "../cache"
[profiles.small]
guest = "default"
memory = "128M"
[profiles.unused]
guest = "default"
"#;

/// It has an input of each kind.
const DB: &str = r#"print("db is built")
local names = require "helpers.names"
pcall(require, "helpers.optional")
local unused = os.tmpname()
io.open(unused):close()
os.remove(unused)
local vm = provium:vm("db", "small"):boot()
vm:push_file(names.pushed, "/pushed")
vm:push_file("tool.sh", "/tool.sh")
vm:push_file("declared.txt", "/declared", {perm = "600"})
vm:push_dir("site", "/site")
vm:write_file("/read", io.open("tests/read.txt"):read("a"))
vm:write_file("/variable", os.getenv("FIXTURE_TEST") or "unset")
provium:depends_on_file("declared.txt")
-- What the build itself writes is not an input, also if it changes later.
local scratch = os.getenv("PWD") .. "/scratch"
vm:pull_file("/proc/version", scratch)
assert(io.open(scratch):read("a"):find("Linux"))
io.open(scratch, "w"):write("else"):close()
vm:push_file(scratch, "/scratch")
os.remove(scratch)
local wait = os.getenv("FIXTURE_WAIT")
if wait then vm:run("sleep " .. wait) end
return vm:snapshot()
"#;

const TOP: &str = r#"local vm = provium:vm_fixture("db.fixture.lua")
vm:write_file("/top", "top")
return vm:snapshot()
"#;

const USE: &str = r#"test("use", function(t)
  local vm = provium:vm_fixture("db.fixture.lua")
  t:assert_eq(vm:run("hostname").stdout, "db\n")
  t:log(vm:read_file("/pushed"))
end)
"#;

/// A project with the fixtures `db` and `top`, which uses `db`. Fixtures and snapshots are its own;
/// the default guest and its templates are the user's.
pub(crate) fn project() -> Project {
    let project = Project::new(&[
        ("provium.toml", CONFIGURATION),
        ("tests/db.fixture.lua", DB),
        ("tests/top.fixture.lua", TOP),
        ("tests/use.test.lua", USE),
        (
            "tests/helpers/names.lua",
            "return { pushed = \"pushed.txt\" }\n",
        ),
        ("tests/pushed.txt", "pushed\n"),
        ("tests/read.txt", "read\n"),
        ("tests/declared.txt", "declared\n"),
        ("tests/unread.txt", "unread\n"),
        ("tests/tool.sh", "true\n"),
        ("tests/site/deep/index", "index\n"),
        ("more/README", "another root\n"),
    ]);
    set_mode(&project, "tests/tool.sh", 0o644);
    let cache = project.beside("cache");
    std::fs::create_dir(&cache).unwrap();
    // Without the project's configuration, whose cache is empty yet.
    let outside = Project::new(&[]);
    for path in crate::cache::list(&users_cache(&outside)) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_own = name.starts_with("fixtures-") || name.starts_with("snapshots-");
        if !is_own {
            symlink(&path, cache.join(name)).unwrap();
        }
    }
    project
}

fn set_mode(project: &Project, path: &str, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(project.file(path), permissions).unwrap();
}

/// Builds the fixtures of `tests`, those that are not fresh.
pub(crate) fn build(project: &Project) -> FinishedCommand {
    project.provium(&["fixture", "build", "tests"]).passes()
}

/// What `fixture stale` prints.
fn stale(project: &Project) -> String {
    project.provium(&["fixture", "stale"]).stdout
}

#[track_caller]
pub(crate) fn is_fresh(project: &Project) {
    assert_eq!(stale(project), "no fixture is stale\n");
}

#[test]
#[ignore = "boots guests"]
fn a_build_prints_the_log_and_is_fresh_afterwards() {
    let project = project();
    let built = build(&project);
    assert!(built.stdout.lines().any(|line| line == "  db is built"));
    is_fresh(&project);
}

/// What `fixture stale` says, and the change that makes it say so.
type Change = (&'static str, fn(&Project));

const CHANGES: [Change; 12] = [
    ("`tests/db.fixture.lua` has changed", |project| {
        project.edit("tests/db.fixture.lua", "print", "-- more\nprint");
    }),
    ("`tests/helpers/names.lua` has changed", |project| {
        project.write(
            "tests/helpers/names.lua",
            "return { pushed = \"other.txt\" }\n",
        );
        project.write("tests/other.txt", "other\n");
    }),
    ("`tests/other.txt` has changed", |project| {
        project.write("tests/other.txt", "else\n");
    }),
    ("`tests/read.txt` has changed", |project| {
        project.write("tests/read.txt", "else\n");
    }),
    ("`tests/declared.txt` has changed", |project| {
        project.write("tests/declared.txt", "else\n");
    }),
    ("`tests/site` has changed", |project| {
        project.write("tests/site/deep/index", "else\n");
    }),
    ("`tests/site` has changed", |project| {
        project.write("tests/site/new", "");
    }),
    (
        "profile `small`: memory was `128 MiB`, is `136 MiB`",
        |project| project.edit("provium.toml", "128M", "136M"),
    ),
    ("profile `small`: s3 was `false`, is `true`", |project| {
        project.edit("provium.toml", "\"136M\"", "\"136M\"\ns3 = true");
    }),
    ("`tests/helpers/optional.lua` is there now", |project| {
        project.write("tests/helpers/optional.lua", "return 1\n");
    }),
    ("`tests/tool.sh` had mode 644, has mode 755", |project| {
        set_mode(project, "tests/tool.sh", 0o755);
    }),
    ("the variable `FIXTURE_TEST` is there now", |project| {
        project.set_env("FIXTURE_TEST", "x");
    }),
];

#[test]
#[ignore = "boots guests"]
fn a_changed_input_is_named_and_leads_to_a_rebuild() {
    let project = project();
    build(&project);
    for (why, change) in CHANGES {
        change(&project);
        let expected = format!(
            "tests/db.fixture.lua: {why}\n\
             tests/top.fixture.lua: the fixture `tests/db.fixture.lua` is stale itself\n"
        );
        assert_eq!(stale(&project), expected);
        build(&project).warns("building tests/db.fixture.lua: ");
        is_fresh(&project);
    }
}

const WITH_DISKS: &str = r#"
[profiles.disks]
guest = "default"
disks = [
  { template = "base.img", id = "base" },
  { path = "own.img", id = "own" },
  { folder = "tree", id = "src", mount = "/src" },
]
"#;

const DISK_CHANGES: [Change; 4] = [
    ("`base.img` has changed", |project| {
        project.write("base.img", &"b".repeat(4096));
    }),
    ("`own.img` has changed", |project| {
        project.write("own.img", &"o".repeat(4096));
    }),
    ("`tree` has changed", |project| {
        project.write("tree/file", "else");
    }),
    ("profile `disks`: disks was", |project| {
        project.edit("provium.toml", "/src", "/other");
    }),
];

#[test]
#[ignore = "boots guests"]
fn what_is_on_the_disks_of_a_profile_is_an_input() {
    let project = project();
    project.write("provium.toml", &format!("{CONFIGURATION}{WITH_DISKS}"));
    project.write("base.img", &"B".repeat(4096));
    project.write("own.img", &"O".repeat(4096));
    project.write("tree/file", "text");
    for fixture in ["db", "top"] {
        project.remove(&format!("tests/{fixture}.fixture.lua"));
    }
    let fixture = "return provium:vm(\"d\", \"disks\"):boot():snapshot()\n";
    project.write("tests/disks.fixture.lua", fixture);
    build(&project);
    is_fresh(&project);
    for (why, change) in DISK_CHANGES {
        change(&project);
        let stale = stale(&project);
        let expected = format!("tests/disks.fixture.lua: {why}");
        assert!(stale.starts_with(&expected), "{stale}");
        build(&project).warns("building tests/disks.fixture.lua: ");
        is_fresh(&project);
    }
}

#[test]
#[ignore = "boots guests"]
fn what_the_build_did_not_read_is_not_an_input() {
    let project = project();
    build(&project);
    project.write("tests/unread.txt", "else\n");
    let unused = format!("{CONFIGURATION}memory = \"512M\"\n");
    project.write("provium.toml", &unused);
    is_fresh(&project);
}

#[test]
#[ignore = "boots guests"]
fn the_build_of_an_earlier_state_is_found_again() {
    let project = project();
    build(&project);
    project.set_env("FIXTURE_TEST", "x");
    build(&project).warns("building tests/db.fixture.lua: ");
    project.remove_env("FIXTURE_TEST");
    is_fresh(&project);
    let again = build(&project);
    assert!(!again.stderr.contains("building"), "{}", again.all());
}

#[test]
#[ignore = "boots guests"]
fn a_rebuilt_fixture_makes_those_that_use_it_stale() {
    let project = project();
    build(&project);
    let rebuild = ["fixture", "rebuild", "tests/db.fixture.lua"];
    project.provium(&rebuild).passes();
    let stale = stale(&project);
    let why = "the fixture `tests/db.fixture.lua` was built again";
    assert!(stale.contains(why), "{stale}");
}

const MAKE: &str = r#"test("make", function()
  local vm = provium:vm("v", "small"):boot()
  vm:write_file("/what", os.getenv("WHAT"))
  vm:snapshot("../of_vm")
  provium:snapshot("../of_lab")
end)
"#;

const MADE: &str = r#"test("made", function(t)
  t:assert_eq(provium:vm_fixture("of_vm"):read_file("/what"), os.getenv("WHAT"))
  t:assert_eq(provium:lab_fixture("of_lab"):vm("v"):read_file("/what"), os.getenv("WHAT"))
end)
"#;

#[test]
#[ignore = "boots guests"]
fn a_restored_snapshot_folder_is_an_input() {
    let project = project();
    project.write("tests/make.test.lua", MAKE);
    project.write("tests/made.test.lua", MADE);
    project.write(
        "tests/of_vm.fixture.lua",
        "return provium:vm(\"v\", \"small\"):restore(\"../of_vm\"):snapshot()\n",
    );
    project.write(
        "tests/of_lab.fixture.lua",
        "provium:restore(\"../of_lab\")\nreturn provium:snapshot()\n",
    );
    for what in ["one", "two"] {
        project.set_env("WHAT", what);
        project.run(&["tests/make.test.lua"]).passes();
        project.run(&["tests/made.test.lua"]).passes();
    }
    is_fresh(&project);
}

#[test]
#[ignore = "boots guests"]
fn a_pipe_in_the_place_of_an_input_is_not_waited_for() {
    let project = project();
    build(&project);
    project.remove("tests/read.txt");
    let made = project.command("mkfifo").arg("tests/read.txt").status();
    assert!(made.unwrap().success());
    let said = stale(&project);
    let why = "tests/db.fixture.lua: `tests/read.txt` has changed";
    assert!(said.contains(why), "{said}");
    project.remove("tests/read.txt");
    project.write("tests/read.txt", "read\n");
    is_fresh(&project);
}
