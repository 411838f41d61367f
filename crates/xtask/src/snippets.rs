//! `cargo xtask docs-snippets`: the documentation's Lua, as test files.
//!
//! What a page shows, runs: every block fenced as `lua` of a page with at least one `test(` is put
//! into one file of that page, each line at the number it has on the page, so that a failure names
//! the page's own line. A block fenced as `lua,ignore` is left out (what shows an error, or a shape
//! only); one fenced as `lua,file=NAME` is a file of that name beside them. A `provium.toml` offers
//! the default guest under the names that the pages use.

use crate::markdown;
use crate::tree::{Tree, TreeError};
use std::path::Path;

const CONFIG: &str = "\
[provium]
roots = [\".\"]

[profiles.default]
guest = \"default\"

[profiles.peios]
guest = \"default\"
";

/// What was written.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Snippets {
    /// How many pages have tests.
    pub(crate) pages: usize,
    /// Pages whose Lua is not run, since they declare no test.
    pub(crate) without_tests: Vec<String>,
}

/// Writes the files into `out`, without what an earlier call left there.
pub(crate) fn write(tree: &Tree, out: &Path) -> Result<Snippets, TreeError> {
    fs_err::create_dir_all(out)?;
    for entry in fs_err::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            fs_err::remove_file(path)?;
        }
    }
    fs_err::write(out.join("provium.toml"), CONFIG)?;
    let mut written = Snippets::default();
    for (path, text) in tree.ending(".md") {
        for (name, lua) in files(text) {
            fs_err::write(out.join(name), lua)?;
        }
        match page(text) {
            Some((lua, true)) => {
                fs_err::write(out.join(file_name(path)), lua)?;
                written.pages += 1;
            }
            Some((_, false)) => written.without_tests.push(path.to_owned()),
            None => (),
        }
    }
    Ok(written)
}

/// The Lua of a page, and whether it declares a test; `None` when there is none.
fn page(text: &str) -> Option<(String, bool)> {
    let (fences, _) = markdown::split(text);
    let mut lines: Vec<&str> = Vec::new();
    let mut has_test = false;
    for fence in fences.iter().filter(|fence| fence.info == "lua") {
        lines.resize(fence.line - 1, "");
        lines.extend(&fence.lines);
        has_test |= fence.lines.iter().any(|line| declares_test(line));
    }
    (!lines.is_empty()).then(|| (lines.join("\n") + "\n", has_test))
}

/// Whether the line calls `test`, at any indentation: tests may be declared in a loop or a function.
fn declares_test(line: &str) -> bool {
    let code = line.split("--").next().unwrap_or_default();
    code.match_indices("test(").any(|(at, _)| {
        let before = code[..at].chars().next_back();
        before.is_none_or(|before| !(before.is_alphanumeric() || "_.:\"'".contains(before)))
    })
}

/// The files that a page shows whole: their names, and what is in them.
fn files(text: &str) -> Vec<(String, String)> {
    let (fences, _) = markdown::split(text);
    let named = fences.iter().filter_map(|fence| {
        let name = fence.info.strip_prefix("lua,file=")?;
        Some((name.to_owned(), fence.lines.join("\n") + "\n"))
    });
    named.collect()
}

/// `docs/reference/run-result.md` → `docs_reference_run_result.test.lua`.
fn file_name(path: &str) -> String {
    let stem = path.trim_end_matches(".md").to_ascii_lowercase();
    stem.replace(['/', '-'], "_") + ".test.lua"
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "# P\n```lua\nlocal a = 1\n```\nprose\n```lua,ignore\nvm:rnu()\n```\n\
                        ```lua\ntest(\"x\", f)\n```\n";

    #[test]
    fn blocks_keep_their_lines() {
        let (lua, has_test) = page(PAGE).unwrap();
        assert!(has_test);
        let lines: Vec<&str> = lua.lines().collect();
        assert_eq!(lines[2], "local a = 1");
        assert_eq!(lines[9], "test(\"x\", f)");
        assert!(!lua.contains("rnu"));
    }

    #[test]
    fn files_shown_in_a_page_are_not_part_of_it() {
        let text = format!("```lua,file=a.fixture.lua\nreturn 1\n```\n{PAGE}");
        assert!(!page(&text).unwrap().0.contains("return 1"));
        let expected = ("a.fixture.lua".to_owned(), "return 1\n".to_owned());
        assert_eq!(files(&text), [expected]);
    }

    #[test]
    fn tests_may_be_declared_anywhere() {
        let has_test = |line: &str| page(&format!("```lua\n{line}\n```\n")).unwrap().1;
        for line in [
            "test(\"x\", f)",
            "  test(name, f)",
            "for i = 1, 3 do test(i, f) end",
        ] {
            assert!(has_test(line), "{line}");
        }
        for line in [
            "t:test(1)",
            "my_test(1)",
            "-- test(1)",
            "f(\"test(\")",
            "local a = 1",
        ] {
            assert!(!has_test(line), "{line}");
        }
    }

    #[test]
    fn files_of_pages_that_are_gone_go_too() {
        let out = tempfile::tempdir().unwrap();
        for old in ["old.test.lua", "old.fixture.lua"] {
            fs_err::write(out.path().join(old), "").unwrap();
        }
        let tree = Tree::from([
            ("docs/reference/run-result.md", PAGE),
            ("docs/b.md", ""),
            ("docs/c.md", "```lua\nlocal a = 1\n```\n"),
        ]);
        let written = write(&tree, out.path()).unwrap();
        assert_eq!(
            (written.pages, written.without_tests),
            (1, vec!["docs/c.md".to_owned()])
        );
        let mut names: Vec<String> = fs_err::read_dir(out.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(
            names,
            ["docs_reference_run_result.test.lua", "provium.toml"]
        );
    }
}
