//! Who may depend on whom.
//!
//! A crate exists to forbid a dependency. [`ARROWS`] is the one place that says which of ours a
//! crate may see; [`OWNED`] and [`BUDGETS`] say the same of libraries. A new edge is a decision
//! about the architecture: it belongs in this table and in `docs/architecture.md`.

use crate::finding::Finding;
use crate::tree::Tree;
use toml::Table;

/// Each crate, lowest first, and those of ours that it may depend on.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    // Only for the version that both wire formats share.
    ("events", &["protocol"]),
    ("units", &[]),
    ("pool", &["events"]),
    ("process", &[]),
    ("qmp", &[]),
    ("switch", &[]),
    ("nbd", &[]),
    ("disk", &["nbd"]),
    ("store", &[]),
    ("testkit", &["protocol"]),
    ("agent", &["protocol"]),
    ("image", &["process", "protocol", "store"]),
    ("guest", &["protocol"]),
    ("vmm", &["process", "qmp", "nbd"]),
    (
        "lab",
        &[
            "protocol", "units", "events", "pool", "process", "store", "switch", "disk", "image",
            "guest", "vmm",
        ],
    ),
    ("lua", &["units", "events", "lab", "pool"]),
    ("runner", &["units", "events", "pool"]),
    ("report", &["units", "events"]),
    (
        "provium",
        &[
            "units", "events", "pool", "process", "store", "image", "vmm", "lab", "lua", "runner",
            "report",
        ],
    ),
    ("xtask", &[]),
];

/// Tests may also use this one, wherever they are.
const FOR_TESTS: &str = "testkit";

/// Libraries that only the named crates may use.
const OWNED: &[(&str, &[&str], &str)] = &[
    ("mlua", &["lua"], "the rest of the harness knows no Lua"),
    ("clap", &["provium"], "only the executable has arguments"),
];

/// Crates that may use only these libraries.
const BUDGETS: &[(&str, &[&str], &str)] = &[
    (
        "protocol",
        &["rmp-serde", "serde", "serde_bytes", "thiserror"],
        "the wire has no I/O and no tasks, and the guest's executable carries all of it",
    ),
    (
        "events",
        &["rmp-serde", "serde", "serde_bytes", "thiserror"],
        "events have no I/O, so that every report can read them",
    ),
    (
        "agent",
        &["libc", "rmp-serde", "rustix", "serde", "serde_bytes"],
        "the guest's executable stays small and has no runtime",
    ),
];

const WHY: &str = "arrows between crates go down only";

/// Dependencies that no table allows, and crates outside the workspace's lints.
pub(crate) fn arrows(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending("/Cargo.toml") {
        let Some(name) = path
            .strip_prefix("crates/")
            .and_then(|p| p.strip_suffix("/Cargo.toml"))
        else {
            continue;
        };
        match text.parse::<Table>() {
            Ok(manifest) => check(
                name,
                &Manifest {
                    path,
                    text,
                    table: manifest,
                },
                &mut findings,
            ),
            Err(error) => findings.push(Finding::new(
                path,
                1,
                format!("not TOML ({})", error.message()),
                "cargo reads it too",
                "correct it",
            )),
        }
    }
    findings
}

struct Manifest<'a> {
    path: &'a str,
    text: &'a str,
    table: Table,
}

impl Manifest<'_> {
    /// The first line that begins with `word`.
    fn line(&self, word: &str) -> usize {
        self.text
            .lines()
            .position(|line| line.starts_with(word))
            .map_or(1, |index| index + 1)
    }

    /// Names under `kind`, also of every `[target.….kind]`.
    fn dependencies(&self, kind: &str) -> Vec<String> {
        let keys = |table: &Table| -> Vec<String> {
            let found = table.get(kind).and_then(toml::Value::as_table);
            found
                .map(|t| t.keys().cloned().collect())
                .unwrap_or_default()
        };
        let targets = self.table.get("target").and_then(toml::Value::as_table);
        let of_targets = targets.into_iter().flat_map(Table::values);
        let mut names = keys(&self.table);
        names.extend(of_targets.filter_map(toml::Value::as_table).flat_map(keys));
        names
    }
}

fn check(name: &str, manifest: &Manifest<'_>, findings: &mut Vec<Finding>) {
    let Some((_, allowed)) = ARROWS.iter().find(|(krate, _)| *krate == name) else {
        findings.push(Finding::new(
            manifest.path,
            1,
            format!("crate `{name}` has no place in the layout"),
            WHY,
            "add it to ARROWS in crates/xtask/src/rules/arrows.rs and to docs/architecture.md",
        ));
        return;
    };
    for (kind, is_dev) in [
        ("dependencies", false),
        ("build-dependencies", false),
        ("dev-dependencies", true),
    ] {
        for dependency in manifest.dependencies(kind) {
            let line = manifest.line(&dependency);
            let finding = match dependency.strip_prefix("provium-") {
                Some(ours) => ours_allowed(name, allowed, ours, is_dev),
                None if is_dev => None,
                None => library_allowed(name, &dependency),
            };
            if let Some((what, why, fix)) = finding {
                findings.push(Finding::new(manifest.path, line, what, why, fix));
            }
        }
    }
    let lints = manifest
        .table
        .get("lints")
        .and_then(|lints| lints.get("workspace"));
    if lints.and_then(toml::Value::as_bool) != Some(true) {
        findings.push(Finding::new(
            manifest.path,
            1,
            "the workspace's lints are not inherited",
            "a rule that is not checked is a wish",
            "add `[lints]` with `workspace = true`",
        ));
    }
}

/// What breaks a rule, why the rule exists, and what to do; `None`: the rule is kept.
type Violation = Option<(String, &'static str, String)>;

fn ours_allowed(name: &str, allowed: &[&str], ours: &str, is_dev: bool) -> Violation {
    if allowed.contains(&ours) || (is_dev && ours == FOR_TESTS) {
        return None;
    }
    let fix = if allowed.is_empty() {
        format!("`{name}` sees none of ours; move the code, or change the table in arrows.rs")
    } else {
        format!(
            "`{name}` may see {}; move the code, or change the table in arrows.rs",
            list(allowed)
        )
    };
    Some((format!("`{name}` depends on `{ours}`"), WHY, fix))
}

fn library_allowed(name: &str, library: &str) -> Violation {
    let owned = OWNED
        .iter()
        .find(|(owned, crates, _)| *owned == library && !crates.contains(&name));
    if let Some((_, crates, why)) = owned {
        let fix = format!("only {} may use it", list(crates));
        return Some((format!("`{name}` uses `{library}`"), why, fix));
    }
    let budget = BUDGETS.iter().find(|(krate, _, _)| *krate == name)?;
    if budget.1.contains(&library) {
        return None;
    }
    let fix = format!("its budget is {}", list(budget.1));
    Some((format!("`{name}` uses `{library}`"), budget.2, fix))
}

fn list(names: &[&str]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn found(name: &str, manifest: &str) -> Vec<String> {
        let text = format!("[lints]\nworkspace = true\n{manifest}");
        let tree = Tree::from([(format!("crates/{name}/Cargo.toml").as_str(), text.as_str())]);
        lines(arrows(&tree))
    }

    #[test]
    fn the_table_itself_goes_down_only() {
        for (index, (name, allowed)) in ARROWS.iter().enumerate() {
            for ours in *allowed {
                let below = ARROWS[..index].iter().any(|(krate, _)| krate == ours);
                assert!(below, "`{ours}` is not above `{name}` in the table");
            }
        }
    }

    #[test]
    fn an_arrow_of_the_table_is_fine() {
        assert!(
            found(
                "guest",
                "[dependencies]\nprovium-protocol.workspace = true\n"
            )
            .is_empty()
        );
    }

    #[test]
    fn an_arrow_that_goes_up_is_found_with_its_line() {
        let manifest = "[dependencies]\nserde = \"1\"\nprovium-lua.workspace = true\n";
        assert_eq!(found("lab", manifest), ["5: `lab` depends on `lua`"]);
    }

    #[test]
    fn targets_and_build_scripts_count() {
        let manifest = "[target.'cfg(unix)'.dependencies]\nprovium-lab = \"1\"\n\
                        [build-dependencies]\nprovium-lua = \"1\"\n";
        assert_eq!(found("report", manifest).len(), 2);
    }

    #[test]
    fn tests_may_use_the_kit_and_any_library() {
        let dev = "[dev-dependencies]\nprovium-testkit = \"1\"\ninsta = \"1\"\n";
        assert!(found("protocol", dev).is_empty());
        assert_eq!(found("protocol", &dev.replace("dev-", "")).len(), 2);
    }

    #[test]
    fn libraries_have_owners_and_crates_have_budgets() {
        assert_eq!(
            found("lab", "[dependencies]\nmlua = \"1\"\n"),
            ["4: `lab` uses `mlua`"]
        );
        assert!(found("lua", "[dependencies]\nmlua = \"1\"\n").is_empty());
        assert_eq!(
            found("agent", "[dependencies]\ntokio = \"1\"\n"),
            ["4: `agent` uses `tokio`"]
        );
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(
            found("novel", ""),
            ["1: crate `novel` has no place in the layout"]
        );
    }

    #[test]
    fn lints_are_the_workspace_s() {
        let tree = Tree::from([("crates/events/Cargo.toml", "[package]\nname = \"x\"\n")]);
        assert_eq!(arrows(&tree).len(), 1);
    }
}
