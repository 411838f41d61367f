//! `provium disk`: the images of disks in the cache.

use crate::cache::CacheProject;

const USES_FOLDER: &str = r#"test("reads a folder", function(t)
  local vm = provium:vm("v", "default", {disks = {{folder = "tree", id = "src", mount = "/src"}}}):boot()
  t:assert_eq(vm:read_file("/src/file"), "hello")
  -- An image in use stays.
  local list = io.popen('"$PROVIUM" disk clean')
  t:assert_contains(list:read("a"), "in use")
  list:close()
end)
"#;

#[test]
#[ignore = "boots guests"]
fn an_image_of_a_folder_is_listed_and_removed() {
    let cache = CacheProject::new(&[("folder.test.lua", USES_FOLDER), ("tree/file", "hello")]);
    let project = &cache.project;
    let none = project.provium(&["disk", "list"]).passes();
    none.prints("there are no images of disks");
    project.run(&["folder.test.lua"]).passes();
    let table = project.provium(&["disk", "list"]).passes();
    let source = project.file("tree");
    let source = source.to_str().unwrap();
    table.prints(source);
    table.prints("1 image, ");
    let listed = project.provium(&["disk", "list", "--json"]).passes().stdout;
    let image: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(image["kind"], "folder");
    assert_eq!(image["source"], source);
    assert!(image["size_bytes"].as_u64().unwrap() > 0);
    assert!(image["made"].as_u64().unwrap() <= image["last_use"].as_u64().unwrap());
    let unknown = project.provium(&["disk", "clean", "zz"]).exits_with(2);
    unknown.warns("no image has a key that begins with `zz`");
    let key = &image["key"].as_str().unwrap()[..8];
    project.provium(&["disk", "clean", key]).passes();
    let table = project.provium(&["disk", "list"]).passes();
    table.does_not_print(source);
}
