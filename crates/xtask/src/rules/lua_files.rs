//! Names of Lua files that people run or copy.
//!
//! Below [`ROOTS`], a file is a test (`….test.lua`), a fixture (`….fixture.lua`), or required by
//! one: then it lies in a folder named `helpers`. Anything else would silently never run.

use crate::finding::Finding;
use crate::tree::Tree;

const ROOTS: [&str; 2] = ["examples/", "tests/lua/"];

/// Files that nothing would run.
pub(crate) fn lua_files(tree: &Tree) -> Vec<Finding> {
    let below = tree
        .ending(".lua")
        .filter(|(path, _)| ROOTS.iter().any(|r| path.starts_with(r)));
    below.filter_map(|(path, _)| check(path)).collect()
}

fn check(path: &str) -> Option<Finding> {
    let (folders, name) = path.rsplit_once('/').unwrap_or(("", path));
    let required = folders.split('/').any(|folder| folder == "helpers");
    let stem = match (
        name.strip_suffix(".test.lua"),
        name.strip_suffix(".fixture.lua"),
    ) {
        (Some(stem), _) | (_, Some(stem)) => stem,
        _ if required => name.trim_end_matches(".lua"),
        _ => {
            return Some(Finding::new(
                path,
                1,
                "neither a test nor a fixture",
                "nothing would run it",
                "name it `….test.lua` or `….fixture.lua`, or move it into a folder `helpers`",
            ));
        }
    };
    let fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    (stem.is_empty() || !stem.chars().all(fine)).then(|| {
        Finding::new(
            path,
            1,
            format!("the name `{stem}`"),
            "files of one kind are found by one pattern",
            "use lower case, digits and `_`",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_fixtures_and_what_they_require() {
        for fine in [
            "examples/hello.test.lua",
            "tests/lua/base.fixture.lua",
            "tests/lua/helpers/cpio.lua",
        ] {
            assert_eq!(check(fine), None, "{fine}");
        }
        for bad in [
            "examples/hello.lua",
            "tests/lua/Hello.test.lua",
            "examples/a-b.test.lua",
        ] {
            assert!(check(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn lua_elsewhere_has_its_own_names() {
        let tree = Tree::from([("crates/lua/src/prelude/tasks.lua", "")]);
        assert!(lua_files(&tree).is_empty());
    }
}
