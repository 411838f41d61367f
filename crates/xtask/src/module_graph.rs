//! Which files of a crate use which: a graph over its modules.
//!
//! A file uses another if it names something in it by a path through `crate`, `super` or a module
//! that it has in scope. A re-export in a `lib.rs`, `main.rs` or `mod.rs` is followed to the file
//! that the item is in, and is itself no use. Tests do not count. Methods that a file adds to
//! another file's type are invisible here, and so are globs and what a macro makes.

use crate::rust_source::{Hide, hide, lines_before_tests};
use crate::use_paths::{NamedPath, named_paths};
use std::collections::{BTreeMap, BTreeSet};

/// A file uses another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Edge {
    pub(crate) from: String,
    pub(crate) to: String,
    /// The first line of `from` that does.
    pub(crate) line: usize,
}

/// A path of modules from the crate's root.
type ModulePath = Vec<String>;

struct Module {
    file: String,
    paths: Vec<NamedPath>,
    /// Whether the file only points to others.
    is_index: bool,
}

/// The edges between the files of one crate, given by their paths from its `src/`.
pub(crate) fn edges<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Edge> {
    let modules = read(files);
    let mut edges: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (path, module) in &modules {
        for named in &module.paths {
            if named.is_reexport && module.is_index {
                continue;
            }
            let Some(target) = resolve(&modules, path, &named.segments, 0) else {
                continue;
            };
            let to = &modules[&target].file;
            if *to != module.file {
                let line = edges
                    .entry((module.file.clone(), to.clone()))
                    .or_insert(named.line);
                *line = named.line.min(*line);
            }
        }
    }
    edges
        .into_iter()
        .map(|((from, to), line)| Edge { from, to, line })
        .collect()
}

fn read<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> BTreeMap<ModulePath, Module> {
    let mut code: BTreeMap<ModulePath, (String, String)> = BTreeMap::new();
    let mut tests: BTreeSet<ModulePath> = BTreeSet::new();
    for (file, text) in files {
        let path = module_path(file);
        tests.extend(
            test_modules(text)
                .into_iter()
                .map(|name| child(&path, &name)),
        );
        let lines = lines_before_tests(text);
        let hidden = hide(text, Hide::CommentsAndStrings);
        let body: Vec<&str> = hidden.lines().take(lines).collect();
        // Beside a library, `main.rs` is a crate of its own, which nothing can use.
        if file != "main.rs" || !code.contains_key(&Vec::new()) {
            code.insert(path, (file.to_owned(), body.join("\n")));
        }
    }
    code.retain(|path, _| !(1..=path.len()).any(|len| tests.contains(&path[..len])));
    let known: Vec<ModulePath> = code.keys().cloned().collect();
    code.into_iter()
        .map(|(path, (file, code))| {
            let children: Vec<String> = known
                .iter()
                .filter(|other| other.len() == path.len() + 1 && other.starts_with(&path))
                .filter_map(|other| other.last().cloned())
                .collect();
            let module = Module {
                paths: paths_of(&code, &path, &children, &known),
                is_index: is_index(&file),
                file,
            };
            (path, module)
        })
        .collect()
}

/// The paths of a file, those through modules that it imports included.
fn paths_of(
    code: &str,
    path: &[String],
    children: &[String],
    known: &[ModulePath],
) -> Vec<NamedPath> {
    let first = named_paths(code, children);
    let mut imported: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for named in &first {
        let target = absolute(path, &named.segments, children);
        if let (Some(alias), Some(target)) = (&named.alias, target)
            && known.contains(&target)
        {
            imported.insert(alias.clone(), target);
        }
    }
    let mut roots = children.to_vec();
    roots.extend(imported.keys().cloned());
    let mut all = named_paths(code, &roots);
    for named in &mut all {
        let target = named.segments.first().and_then(|name| imported.get(name));
        if let (None, Some(target)) = (&named.alias, target) {
            let mut segments = vec!["crate".to_owned()];
            segments.extend(target.iter().cloned());
            segments.extend(named.segments.drain(1..));
            named.segments = segments;
        }
    }
    all
}

/// A path as seen from the root; `None` for one into another crate.
fn absolute(from: &[String], segments: &[String], children: &[String]) -> Option<ModulePath> {
    let (first, rest) = segments.split_first()?;
    let mut at = match first.as_str() {
        "crate" => Vec::new(),
        "self" => from.to_vec(),
        "super" => from.split_last()?.1.to_vec(),
        name if children.iter().any(|child| child == name) => child(from, name),
        _ => return None,
    };
    for segment in rest {
        if segment == "super" {
            at.pop()?;
        } else {
            at.push(segment.clone());
        }
    }
    Some(at)
}

/// How many re-exports are followed.
const DEPTH: usize = 8;

/// The module that a path leads into.
fn resolve(
    modules: &BTreeMap<ModulePath, Module>,
    from: &[String],
    segments: &[String],
    depth: usize,
) -> Option<ModulePath> {
    let children: Vec<String> = segments
        .first()
        .filter(|name| modules.contains_key(&child(from, name)))
        .into_iter()
        .cloned()
        .collect();
    let target = absolute(from, segments, &children)?;
    let mut at = Vec::new();
    for segment in &target {
        let below = child(&at, segment);
        if modules.contains_key(&below) {
            at = below;
            continue;
        }
        if depth < DEPTH
            && let Some(named) = reexport(modules.get(&at)?, segment)
            && let Some(through) = resolve(modules, &at, &named.segments, depth + 1)
        {
            return Some(through);
        }
        break;
    }
    modules.contains_key(&at).then_some(at)
}

/// What a file that only points to others offers under a name.
fn reexport<'a>(module: &'a Module, name: &str) -> Option<&'a NamedPath> {
    module
        .paths
        .iter()
        .filter(|named| module.is_index && named.is_reexport)
        .find(|named| named.alias.as_deref() == Some(name))
}

fn is_index(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or(file);
    matches!(name, "lib.rs" | "main.rs" | "mod.rs")
}

fn module_path(file: &str) -> ModulePath {
    let stem = file.trim_end_matches(".rs");
    let mut path: ModulePath = stem.split('/').map(str::to_owned).collect();
    if is_index(file) {
        path.pop();
    }
    path
}

fn child(path: &[String], name: &str) -> ModulePath {
    let mut path = path.to_vec();
    path.push(name.to_owned());
    path
}

/// Modules in files of their own that only tests have.
fn test_modules(text: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, _) in lines
        .iter()
        .enumerate()
        .filter(|(_, l)| **l == "#[cfg(test)]")
    {
        let item = lines[at + 1..].iter().find(|line| !line.starts_with("#["));
        let name = item
            .and_then(|item| item.split_once("mod "))
            .and_then(|(_, rest)| rest.strip_suffix(';'));
        found.extend(name.map(str::to_owned));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        edges(files.into_iter())
            .into_iter()
            .map(|edge| format!("{}:{} {}", edge.from, edge.line, edge.to))
            .collect()
    }

    #[test]
    fn imports_and_paths_in_code_are_edges() {
        assert_eq!(
            found([
                ("lib.rs", "mod a;\nmod b;\nmod c;\n"),
                ("a.rs", "use crate::b::B;\nfn f() { super::c::g() }\n"),
                ("b.rs", "use super::c;\nfn f() { c::g() }\n"),
                ("c.rs", ""),
            ]),
            ["a.rs:1 b.rs", "a.rs:2 c.rs", "b.rs:1 c.rs"]
        );
    }

    #[test]
    fn reexports_are_followed_to_the_file_of_the_item() {
        assert_eq!(
            found([
                ("lib.rs", "mod a;\nmod b;\npub use b::Made;\n"),
                ("a.rs", "use crate::Made;\nuse crate::b::Other;\n"),
                (
                    "b/mod.rs",
                    "mod c;\nmod d;\npub use c::Made;\npub(crate) use self::d::Other;\n"
                ),
                ("b/c.rs", "use super::Other;\n"),
                ("b/d.rs", "fn f() {}\n"),
            ]),
            ["a.rs:2 b/d.rs", "a.rs:1 b/c.rs", "b/c.rs:1 b/d.rs"]
                .into_iter()
                .map(str::to_owned)
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect::<Vec<_>>()
        );
    }

    #[test]
    fn items_of_an_index_file_are_in_that_file() {
        assert_eq!(
            found([
                ("lib.rs", "mod a;\nuse a::A;\npub const B: A = A;\n"),
                ("a.rs", "use crate::B;\n"),
            ]),
            ["a.rs:1 lib.rs", "lib.rs:2 a.rs"]
        );
    }

    #[test]
    fn tests_have_no_edges() {
        assert_eq!(
            found([
                ("lib.rs", "mod a;\n#[cfg(test)]\nmod tests;\n"),
                (
                    "a.rs",
                    "#[cfg(test)]\nmod tests {\n    use crate::tests::x;\n}\n"
                ),
                ("tests.rs", "use crate::a::A;\n"),
            ]),
            [""; 0]
        );
    }

    #[test]
    fn other_crates_are_not_followed() {
        let files = [
            ("lib.rs", "mod a;\nmod fmt;\n"),
            ("a.rs", "use std::fmt;\n"),
            ("fmt.rs", ""),
        ];
        assert_eq!(found(files), [""; 0]);
    }
}
