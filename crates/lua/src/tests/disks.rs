//! Options of disks, and what is refused before a guest or a disk is needed.

use super::objects::with_profile;
use super::*;

/// A function that the files of these tests begin with.
const PRELUDE: &str = r#"
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, part in ipairs{...} do t:assert_contains(err, part) end
end
"#;

fn case(source: &str) -> Case {
    with_profile(&format!("{PRELUDE}{source}"))
}

#[test]
fn options_of_declared_disks() {
    case(
        r#"
local names = 0
local function vm(disks)
  names = names + 1
  return provium:vm("v" .. names, "p", {disks = disks})
end
test("taken", function(t)
  vm{{scratch = "1M"}, {id = "data", scratch = 512, readonly = true, mediated = true}}
  vm{{path = "a.test.lua"}, {template = "a.test.lua"}, {folder = ".", mount = "/src", filesystem = "ext4"}}
  vm{}
end)
test("one source", function(t)
  refused(t, function() vm{{id = "a"}} end, "disks[1]: say what is on the disk: one of path, scratch, template, folder")
  refused(t, function() vm{{scratch = 512}, {scratch = 512, template = "image"}} end,
    "disks[2]: give `scratch` or `template`, not both")
end)
test("sizes", function(t)
  for _, size in ipairs{0, 511, 513, "1000"} do
    refused(t, function() vm{{scratch = size}} end, "disks[1]: option `scratch`: must be a multiple of 512 bytes, and at least 512")
  end
  refused(t, function() vm{{scratch = "lots"}} end, "`lots` is not a size")
end)
test("paths", function(t)
  refused(t, function() vm{{scratch = 512}, {template = "nowhere.img"}} end, "disks[2]: option `template`: ", "nowhere.img` does not exist")
  refused(t, function() vm{{path = ""}} end, "disks[1]: option `path`: must not be empty")
end)
test("the rest", function(t)
  refused(t, function() vm{{scratch = 512, redaonly = true}} end, "disks[1]: unknown option `redaonly`; did you mean `readonly`?")
  refused(t, function() vm{"image"} end, "disks[1]: must be a table, got \"image\"")
  refused(t, function() vm{scratch = 512} end, "option `disks`: must be a list")
  refused(t, function() vm{{scratch = 512, id = ""}} end, "disks[1]: a disk's `id` cannot be empty")
  refused(t, function() vm{{scratch = 512, id = "a/b"}} end, "disks[1]: a disk's `id` cannot hold `/`")
  refused(t, function() vm{{scratch = 512, mount = "data"}} end, "disks[1]: option `mount`: must be an absolute path, got \"data\"")
  refused(t, function() vm{{scratch = 512, filesystem = "xfs"}} end, "disks[1]: option `filesystem`", "`mount`")
  refused(t, function() vm{{folder = ".", mount = "/x", filesystem = "xfs,ro"}} end,
    "disks[1]: option `filesystem`: must be the name of a type of file systems, such as \"ext4\", got \"xfs,ro\"")
  refused(t, function() vm{{scratch = 512, mediated = 1}} end, "disks[1]: option `mediated`: must be true or false")
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn options_of_attached_disks() {
    case(
        r#"
local vm = provium:vm("v", "p")
test("refused", function(t)
  local function attach(options) return function() vm:attach_disk(options) end end
  refused(t, attach{sise = 512}, "vm `v`: attach_disk(): unknown option `sise`; did you mean `size`?")
  refused(t, attach{size = 100}, "option `size`: must be a multiple of 512 bytes")
  refused(t, attach{scratch = 100}, "option `scratch`: must be a multiple of 512 bytes")
  refused(t, attach{scratch = 512, size = 512}, "give `size` or `scratch`, not both")
  refused(t, attach{image = "a.test.lua", template = "a.test.lua"}, "give `image` or `template`, not both")
  refused(t, attach{image = "a.test.lua", size = 512}, "`size` is for an empty disk")
  refused(t, attach{size = 512, content = ("x"):rep(513)}, "option `content`: 513 bytes are more than the disk's 512")
  refused(t, attach{content = 5}, "option `content`: must be a string, got 5")
  refused(t, function() vm:attach_disk("data") end, "options must be a table, got \"data\"")
  refused(t, function() vm:disk() end, "vm `v`: disk(): the id: must be a string, got nil")
  refused(t, function() vm:disk(vm) end, "the id: must be a string, got vm `v`")
  refused(t, function() vm:disk("data") end, "vm `v`: disk(\"data\")", "it has no disks")
  refused(t, function() vm:power_cut{keep = "some"} end, "option `keep`: must be \"none\", \"random\" or \"torn\", got \"some\"")
  refused(t, function() vm:power_cut() end, "vm `v`: power_cut() needs state booted, paused, shutdown or dead")
  t:assert_same(vm:disks(), {})
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn an_image_need_not_exist_while_tests_are_listed() {
    let source = "provium:vm('v', 'p', {disks = {{template = 'made-by-the-test.img'}}})\n\
                  test('a', print)\n";
    let listing = with_profile(source).list().unwrap();
    assert_eq!(listing.tests.len(), 1);
    assert!(listing.partial.is_none());
}
