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

/// Writes the files into `out`, without what an earlier call left there; says how many.
pub(crate) fn write(tree: &Tree, out: &Path) -> Result<usize, TreeError> {
    fs_err::create_dir_all(out)?;
    for entry in fs_err::read_dir(out)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "lua") {
            fs_err::remove_file(path)?;
        }
    }
    fs_err::write(out.join("provium.toml"), CONFIG)?;
    let mut count = 0;
    for (path, text) in tree.ending(".md") {
        for (name, lua) in files(text) {
            fs_err::write(out.join(name), lua)?;
        }
        if let Some(lua) = page(text) {
            fs_err::write(out.join(file_name(path)), lua)?;
            count += 1;
        }
    }
    Ok(count)
}

/// The Lua of a page; `None` when it declares no test.
fn page(text: &str) -> Option<String> {
    let (fences, _) = markdown::split(text);
    let mut lines: Vec<&str> = Vec::new();
    let mut has_test = false;
    for fence in fences.iter().filter(|fence| fence.info == "lua") {
        lines.resize(fence.line - 1, "");
        lines.extend(&fence.lines);
        has_test |= fence.lines.iter().any(|line| line.starts_with("test("));
    }
    has_test.then(|| lines.join("\n") + "\n")
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
        let lua = page(PAGE).unwrap();
        let lines: Vec<&str> = lua.lines().collect();
        assert_eq!(lines[2], "local a = 1");
        assert_eq!(lines[9], "test(\"x\", f)");
        assert!(!lua.contains("rnu"));
    }

    #[test]
    fn files_that_a_page_shows_are_no_part_of_it() {
        let text = format!("```lua,file=a.fixture.lua\nreturn 1\n```\n{PAGE}");
        assert!(!page(&text).unwrap().contains("return 1"));
        let expected = ("a.fixture.lua".to_owned(), "return 1\n".to_owned());
        assert_eq!(files(&text), [expected]);
    }

    #[test]
    fn a_page_without_a_test_is_left_alone() {
        assert_eq!(page("```lua\nlocal a = 1\n```\n"), None);
    }

    #[test]
    fn files_of_pages_that_are_gone_go_too() {
        let out = tempfile::tempdir().unwrap();
        for old in ["old.test.lua", "old.fixture.lua"] {
            fs_err::write(out.path().join(old), "").unwrap();
        }
        let tree = Tree::from([("docs/reference/run-result.md", PAGE), ("docs/b.md", "")]);
        assert_eq!(write(&tree, out.path()).unwrap(), 1);
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
