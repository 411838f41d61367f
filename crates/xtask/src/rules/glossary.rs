//! The glossary names places that exist: a reader looks up a term and goes to its code.
//!
//! A place is a code span in the last column of a table: a crate, or a path in its `src` folder, as in
//! `lab/vm/template`. Other spans, such as the name of a Lua object behind the word "Lua", are not looked at.

use crate::finding::Finding;
use crate::tree::Tree;

/// The page.
const PAGE: &str = "docs/glossary.md";

/// The header of the column of places.
const COLUMN: &str = "where";

const WHY: &str = "a term is looked up to find its code";

/// Places of the glossary that the tree does not have.
pub(crate) fn glossary(tree: &Tree) -> Vec<Finding> {
    let Some(page) = tree.text(PAGE) else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    let mut is_listed = false;
    for (index, line) in page.lines().enumerate() {
        let Some(row) = line.strip_prefix('|').and_then(|row| row.strip_suffix('|')) else {
            is_listed = false;
            continue;
        };
        let cell = row.rsplit('|').next().unwrap_or_default().trim();
        if cell == COLUMN {
            is_listed = true;
        } else if is_listed {
            for place in places(cell).filter(|place| !exists(tree, place)) {
                let what = format!("the place `{place}` does not exist");
                findings.push(Finding::new(
                    PAGE,
                    index + 1,
                    what,
                    WHY,
                    "name the place as it is now",
                ));
            }
        }
    }
    findings
}

/// The places in a cell: what is between backticks, unless it is the name of a type or follows "Lua".
fn places(cell: &str) -> impl Iterator<Item = &str> {
    let pieces: Vec<&str> = cell.split('`').collect();
    let spans: Vec<&str> = pieces
        .chunks_exact(2)
        .filter(|pair| !pair[0].trim_end().ends_with("Lua"))
        .map(|pair| pair[1])
        .collect();
    spans
        .into_iter()
        .filter(|span| !span.starts_with(char::is_uppercase))
}

fn exists(tree: &Tree, place: &str) -> bool {
    let (package, path) = place.split_once('/').unwrap_or((place, ""));
    let folder = format!("crates/{package}/src/{path}");
    tree.exists(&folder) || tree.exists(&format!("{folder}.rs"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(rows: &str) -> Vec<String> {
        let page = format!("| term | meaning | where |\n|---|---|---|\n{rows}");
        let tree = Tree::from([
            (PAGE, &*page),
            ("crates/lab/src/vm/handle.rs", ""),
            ("crates/lab/src/lib.rs", ""),
        ]);
        lines(glossary(&tree))
    }

    #[test]
    fn crates_folders_and_files_are_places() {
        let rows = "| a | b | `lab`, `lab/vm`, `lab/vm/handle` |\n| a | b | |\n";
        assert_eq!(found(rows), [""; 0]);
    }

    #[test]
    fn a_place_that_does_not_exist_is_refused() {
        assert_eq!(
            found("| a | b | `lab/vm` |\n| a | b | `lab/handle`, `vmm` |\n"),
            [
                "4: the place `lab/handle` does not exist",
                "4: the place `vmm` does not exist"
            ]
        );
    }

    #[test]
    fn types_lua_objects_and_other_tables_are_not_looked_at() {
        let rows = "| a | b | `SetIdentity` in `lab/vm`, Lua `nic` |\n\n| not | but |\n|---|---|\n| `x` | `y` |\n";
        assert_eq!(found(rows), [""; 0]);
    }
}
