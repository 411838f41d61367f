//! Listing learns a file's tests without running anything.

use super::*;

#[test]
fn tests_are_listed_and_nothing_waits() {
    let case = Case::new(
        "host.sleep(1000)\ntest('a', {tags = 'x'}, print)\ntest('b', {slow = true}, print)",
    );
    let listing = case.list().unwrap();
    let tests: Vec<_> = listing
        .tests
        .iter()
        .map(|test| (test.name.as_str(), test.line))
        .collect();
    assert_eq!(tests, [("a", 2), ("b", 3)]);
    assert!(listing.partial.is_none());
    assert_eq!(listing.tests[0].tags, ["x"]);
}

#[test]
fn what_needs_a_guest_makes_the_list_partial() {
    let source =
        "test('a', print)\nlocal v = host.sleep(1)\nlocal n = #v.stdout + 1\ntest('b', print)";
    let listing = Case::new(source).list().unwrap();
    assert_eq!(listing.tests.len(), 1);
    assert_eq!(
        listing.partial.as_deref(),
        Some("the file needs a guest to continue at a.test.lua:3")
    );
    let wrong = Case::new("test('a', print)\nerror('x')")
        .list()
        .unwrap_err();
    assert_eq!(wrong.site.unwrap().to_string(), "a.test.lua:2");
}

#[test]
fn output_of_host_commands_is_read_while_listing() {
    let case = Case::new(
        "for name in io.popen('echo one; echo two'):lines() do test(name, print) end\n\
         io.write('not shown')\n\
         test(io.popen('echo three'):read('l'), print)",
    );
    let listing = case.list().unwrap();
    let names: Vec<_> = listing
        .tests
        .iter()
        .map(|test| test.name.as_str())
        .collect();
    assert_eq!(names, ["one", "two", "three"]);
    assert!(listing.partial.is_none());
}
