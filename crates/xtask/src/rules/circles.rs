//! Files of a crate do not use each other in a circle.
//!
//! Two files that use each other are read, tested and moved only together. The circles that were
//! here before this rule are in `circles.allow`, one per line: the crate, then its files. One of
//! them may lose files or fall apart, and then `cargo xtask tidy --update` shortens its line; a file
//! that joins a circle is a failure.

use crate::finding::Finding;
use crate::module_graph::{Edge, edges};
use crate::ratchet::Outcome;
use crate::tree::Tree;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

const LIST: &str = "crates/xtask/circles.allow";
const WHY: &str = "files in a circle can only be understood, tested and moved together";

/// A crate, and the files of it that use each other.
type Circle = (String, BTreeSet<String>);

/// Circles that the list does not tolerate.
pub(crate) fn circles(tree: &Tree) -> Outcome {
    let text = tree.text(LIST).unwrap_or_default();
    let allowed = parse(text);
    let mut outcome = Outcome::default();
    let mut kept: BTreeSet<Circle> = BTreeSet::new();
    let mut present: BTreeSet<Circle> = BTreeSet::new();
    for (krate, files) in by_crate(tree) {
        let edges = edges(files.into_iter());
        for circle in circular(&edges) {
            present.insert((krate.clone(), circle.clone()));
            let within = |(name, files): &&Circle| *name == krate && circle.is_subset(files);
            if allowed.iter().any(|allowed| within(&allowed)) {
                kept.insert((krate.clone(), circle));
                continue;
            }
            let touches = |(name, files): &&Circle| *name == krate && !circle.is_disjoint(files);
            let old: Vec<&Circle> = allowed.iter().filter(touches).collect();
            outcome
                .findings
                .push(finding(&krate, &circle, &edges, &old));
            kept.extend(old.into_iter().cloned());
        }
    }
    if !outcome.findings.is_empty() {
        outcome.accepts.push((LIST, render(text, &present)));
    }
    let updated = render(text, &kept);
    if updated != render(text, &allowed) {
        outcome.notes.push(format!(
            "{LIST} has circles that are smaller now; run `cargo xtask tidy --update`"
        ));
        outcome.updates.push((LIST, updated));
    }
    outcome
}

/// The files below each crate's `src/`, by their path from there.
fn by_crate(tree: &Tree) -> BTreeMap<String, Vec<(&str, &str)>> {
    let mut crates: BTreeMap<String, Vec<(&str, &str)>> = BTreeMap::new();
    for (path, text) in tree.ending(".rs") {
        let inside = path
            .strip_prefix("crates/")
            .and_then(|rest| rest.split_once("/src/"));
        if let Some((krate, file)) = inside {
            crates
                .entry(krate.to_owned())
                .or_default()
                .push((file, text));
        }
    }
    crates
}

fn finding(krate: &str, circle: &BTreeSet<String>, edges: &[Edge], old: &[&Circle]) -> Finding {
    let is_new = |file: &&String| !old.iter().any(|(_, files)| files.contains(*file));
    let start = circle.iter().find(is_new).or_else(|| circle.first());
    let way = start.map_or_else(Vec::new, |start| shortest_way_back(start, circle, edges));
    let steps: Vec<String> = way
        .iter()
        .map(|edge| format!("{}:{} uses {}", edge.from, edge.line, edge.to))
        .collect();
    let (path, line) = way
        .first()
        .map_or(("lib.rs", 1), |e| (e.from.as_str(), e.line));
    let fix = format!(
        "move what both need into a file below them; a renamed file is renamed in {LIST}, where \
         the line would be: {krate} {}",
        list(circle)
    );
    let what = format!("a circle of files: {}", steps.join(", "));
    Finding::new(&format!("crates/{krate}/src/{path}"), line, what, WHY, fix)
}

/// Sets of two or more files of which each can be reached from each other.
fn circular(edges: &[Edge]) -> Vec<BTreeSet<String>> {
    let mut below: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for edge in edges {
        below.entry(&edge.from).or_default().insert(&edge.to);
    }
    let reach: BTreeMap<&str, BTreeSet<&str>> = below
        .keys()
        .map(|&file| (file, reachable(&below, file)))
        .collect();
    let mutual =
        |a: &str, b: &str| reach[a].contains(b) && reach.get(b).is_some_and(|r| r.contains(a));
    let circles: BTreeSet<BTreeSet<String>> = reach
        .iter()
        .map(|(&file, others)| {
            let circle = others.iter().filter(|other| mutual(file, other));
            circle
                .map(|&other| other.to_owned())
                .collect::<BTreeSet<String>>()
        })
        .filter(|circle| circle.len() > 1)
        .collect();
    circles.into_iter().collect()
}

fn reachable<'a>(below: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut queue = vec![from];
    while let Some(file) = queue.pop() {
        for &next in below.get(file).into_iter().flatten() {
            if found.insert(next) {
                queue.push(next);
            }
        }
    }
    found
}

/// The shortest way from a file back to itself within its circle.
fn shortest_way_back(start: &str, circle: &BTreeSet<String>, edges: &[Edge]) -> Vec<Edge> {
    let mut queue = VecDeque::from([(start.to_owned(), Vec::<Edge>::new())]);
    let mut seen = BTreeSet::new();
    while let Some((file, way)) = queue.pop_front() {
        for edge in edges
            .iter()
            .filter(|e| e.from == file && circle.contains(&e.to))
        {
            let mut way = way.clone();
            way.push(edge.clone());
            if edge.to == start {
                return way;
            }
            if seen.insert(edge.to.clone()) {
                queue.push_back((edge.to.clone(), way));
            }
        }
    }
    Vec::new()
}

fn parse(text: &str) -> BTreeSet<Circle> {
    let entries = text.lines().filter(|line| !line.starts_with('#'));
    entries
        .filter_map(|line| line.split_once(' '))
        .map(|(krate, files)| {
            let files = files.split_whitespace().map(str::to_owned).collect();
            (krate.to_owned(), files)
        })
        .collect()
}

/// The text of the list: the comment at the top of the old one, then the circles.
fn render(old: &str, circles: &BTreeSet<Circle>) -> String {
    let comment = old.lines().take_while(|line| line.starts_with('#'));
    let lines = circles
        .iter()
        .map(|(krate, files)| format!("{krate} {}", list(files)));
    comment
        .map(str::to_owned)
        .chain(lines)
        .map(|line| line + "\n")
        .collect()
}

fn list(files: &BTreeSet<String>) -> String {
    files
        .iter()
        .map(String::as_str)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: (&str, &str) = ("crates/x/src/lib.rs", "mod a;\nmod b;\nmod c;\n");

    fn outcome(list: &str, a: &str, b: &str, c: &str) -> Outcome {
        circles(&Tree::from([
            (LIST, list),
            INDEX,
            ("crates/x/src/a.rs", a),
            ("crates/x/src/b.rs", b),
            ("crates/x/src/c.rs", c),
        ]))
    }

    #[test]
    fn files_that_use_each_other_are_found_with_the_way() {
        let found = outcome(
            "",
            "\nuse crate::b::B;\n",
            "use super::a::A;\n",
            "use crate::a::A;\n",
        );
        assert_eq!(found.findings.len(), 1);
        let text = found.findings[0].to_string();
        assert!(
            text.starts_with(
                "crates/x/src/a.rs:2: a circle of files: a.rs:2 uses b.rs, b.rs:1 uses a.rs:"
            ),
            "{text}"
        );
        assert!(text.ends_with("the line would be: x a.rs b.rs"), "{text}");
    }

    #[test]
    fn a_longer_circle_is_one() {
        let found = outcome(
            "",
            "use crate::b::B;\n",
            "use crate::c::C;\n",
            "use crate::a::A;\n",
        );
        assert_eq!(found.findings.len(), 1);
        assert!(found.findings[0].what.contains("c.rs:1 uses a.rs"));
    }

    #[test]
    fn files_that_use_each_other_one_way_are_fine() {
        let found = outcome("", "use crate::b::B;\n", "use crate::c::C;\n", "");
        assert_eq!(found, Outcome::default());
    }

    #[test]
    fn a_listed_circle_is_tolerated() {
        let found = outcome(
            "x a.rs b.rs\n",
            "use crate::b::B;\n",
            "use crate::a::A;\n",
            "",
        );
        assert_eq!(found, Outcome::default());
    }

    #[test]
    fn a_file_that_joins_a_listed_circle_is_named() {
        let a = "use crate::b::B;\nuse crate::c::C;\n";
        let found = outcome(
            "x a.rs b.rs\n",
            a,
            "use crate::a::A;\n",
            "use crate::a::A;\n",
        );
        assert_eq!(found.findings.len(), 1);
        assert_eq!(found.findings[0].path, "crates/x/src/c.rs");
        assert_eq!(found.updates, [], "the list does not grow");
        assert_eq!(found.accepts, [(LIST, "x a.rs b.rs c.rs\n".to_owned())]);
    }

    #[test]
    fn a_smaller_circle_is_a_note_that_update_acts_on() {
        let list = "# why\nx a.rs b.rs c.rs\n";
        let found = outcome(list, "use crate::b::B;\n", "use crate::a::A;\n", "");
        assert_eq!(found.findings, []);
        assert_eq!(found.notes.len(), 1);
        assert_eq!(found.updates, [(LIST, "# why\nx a.rs b.rs\n".to_owned())]);
        let found = outcome(list, "use crate::b::B;\n", "", "");
        assert_eq!(found.updates, [(LIST, "# why\n".to_owned())]);
    }

    #[test]
    fn the_list_is_of_one_crate_each() {
        let found = outcome(
            "y a.rs b.rs\n",
            "use crate::b::B;\n",
            "use crate::a::A;\n",
            "",
        );
        assert_eq!(found.findings.len(), 1);
    }
}
