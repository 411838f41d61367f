//! The paths that Rust code names: `use` trees and paths in expressions.
//!
//! Works on text without comments and literals. It knows no macros and no scopes: what looks like a
//! path is one.

/// A path as written, and the line it is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedPath {
    /// Its segments; the last may be `*`.
    pub(crate) segments: Vec<String>,
    /// The name under which a `use` brings it into scope.
    pub(crate) alias: Option<String>,
    /// Counted from 1.
    pub(crate) line: usize,
    /// Whether it is in a `use` that is visible outside of its file.
    pub(crate) is_reexport: bool,
}

/// The paths in `use` declarations, and those that begin with `crate`, `super` or `self`, or with
/// one of `roots`, elsewhere.
pub(crate) fn named_paths(code: &str, roots: &[String]) -> Vec<NamedPath> {
    let mut paths = Vec::new();
    let mut at = 0;
    let mut visible = false;
    while at < code.len() {
        let Some(word) = word_at(code, at) else {
            let skipped = code[at..].chars().next().map_or(1, char::len_utf8);
            visible &= !code[at..].starts_with([';', '{', '}', ',']);
            at += skipped;
            continue;
        };
        let end = at + word.len();
        match word {
            "pub" => {
                visible = true;
                at = after_visibility(code, end);
                continue;
            }
            "use" => {
                let line = line_of(code, at);
                let stop = code[end..].find(';').map_or(code.len(), |len| end + len);
                for (segments, alias) in tree(&code[end..stop]) {
                    paths.push(NamedPath {
                        segments,
                        alias,
                        line,
                        is_reexport: visible,
                    });
                }
                at = stop;
                visible = false;
                continue;
            }
            _ => {}
        }
        let begins_path = !code[..at].trim_end().ends_with("::")
            && code[end..].trim_start().starts_with("::")
            && (matches!(word, "crate" | "super" | "self") || roots.iter().any(|r| r == word));
        if !begins_path {
            at = end;
            continue;
        }
        let (segments, length) = simple_path(&code[at..]);
        paths.push(NamedPath {
            segments,
            alias: None,
            line: line_of(code, at),
            is_reexport: false,
        });
        at += length;
    }
    paths
}

/// Behind `(crate)`, `(super)` or `(in …)`, if one follows.
fn after_visibility(code: &str, at: usize) -> usize {
    let rest = code[at..].trim_start();
    let is_restricted = ["(crate", "(super", "(self", "(in "]
        .iter()
        .any(|open| rest.starts_with(open));
    if !is_restricted {
        return at;
    }
    code[at..].find(')').map_or(code.len(), |len| at + len + 1)
}

/// The word that begins at `at`, which no other character of a word precedes.
fn word_at(code: &str, at: usize) -> Option<&str> {
    let rest = code.get(at..)?;
    let starts = rest.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !starts || code[..at].ends_with(is_word) {
        return None;
    }
    let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
    Some(&rest[..end])
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The segments of a path in an expression or a type, and its length.
fn simple_path(code: &str) -> (Vec<String>, usize) {
    let mut segments = Vec::new();
    let mut at = 0;
    while let Some(word) = word_at(code, at) {
        segments.push(word.to_owned());
        at += word.len();
        match code[at..].strip_prefix("::") {
            Some(rest) if rest.starts_with(|c: char| c.is_alphabetic() || c == '_') => at += 2,
            _ => break,
        }
    }
    (segments, at)
}

type Branch = (Vec<String>, Option<String>);

/// The branches of a `use` tree, without `use` and `;`.
fn tree(text: &str) -> Vec<Branch> {
    let text = text.trim();
    if let Some((prefix, group)) = text.split_once('{') {
        let prefix = segments(prefix);
        let group = group.trim_end().strip_suffix('}').unwrap_or(group);
        return split_group(group)
            .into_iter()
            .flat_map(tree)
            .map(|(tail, alias)| branch(&prefix, tail, alias))
            .collect();
    }
    let (path, alias) = match text.split_once(" as ") {
        Some((path, alias)) => (path, Some(alias.trim().to_owned())),
        None => (text, None),
    };
    let segments = segments(path);
    if segments.is_empty() {
        return Vec::new();
    }
    let alias = alias.or_else(|| segments.last().cloned());
    vec![(segments, alias)]
}

/// A branch of a group behind the group's prefix; `self` in a group is the prefix itself.
fn branch(prefix: &[String], tail: Vec<String>, alias: Option<String>) -> Branch {
    if !prefix.is_empty() && tail == ["self"] {
        let alias = alias.filter(|alias| alias != "self");
        return (prefix.to_vec(), alias.or_else(|| prefix.last().cloned()));
    }
    ([prefix, &tail].concat(), alias)
}

fn segments(path: &str) -> Vec<String> {
    path.split("::")
        .map(str::trim)
        .filter(|segment| !segment.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The parts of a group at its own commas.
fn split_group(group: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&group[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&group[start..]);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(code: &str, roots: &[&str]) -> Vec<String> {
        let roots: Vec<String> = roots.iter().map(|&root| root.to_owned()).collect();
        named_paths(code, &roots)
            .into_iter()
            .map(|path| path.segments.join("::"))
            .collect()
    }

    #[test]
    fn use_trees_are_expanded() {
        assert_eq!(
            found(
                "use crate::{a::{self, B}, c::*, d as e};\nuse std::fmt;\n",
                &[]
            ),
            [
                "crate::a",
                "crate::a::B",
                "crate::c::*",
                "crate::d",
                "std::fmt"
            ]
        );
    }

    #[test]
    fn aliases_are_the_names_in_scope() {
        let paths = named_paths("use super::{a::{self}, b::C as D};\n", &[]);
        let aliases: Vec<_> = paths.iter().map(|p| p.alias.as_deref().unwrap()).collect();
        assert_eq!(aliases, ["a", "D"]);
    }

    #[test]
    fn reexports_are_distinguished_from_imports() {
        let code = "pub(crate) use a::B;\nuse c::D;\npub struct E;\nuse f::G;\n";
        let paths = named_paths(code, &[]);
        let reexports: Vec<_> = paths.iter().map(|p| p.is_reexport).collect();
        assert_eq!(reexports, [true, false, false]);
        assert_eq!(paths[1].line, 2);
    }

    #[test]
    fn paths_in_code_are_found() {
        let code = "fn f(x: &super::a::B) { crate::c::d(); a::b(); std::e::f(); x.y::<u8>() }";
        assert_eq!(found(code, &[]), ["super::a::B", "crate::c::d"]);
        assert_eq!(found(code, &["a"]), ["super::a::B", "crate::c::d", "a::b"]);
    }

    #[test]
    fn a_visibility_is_not_a_path() {
        assert_eq!(
            found("pub(in crate::a) struct B;\npub(super) fn c() {}", &[]),
            [""; 0]
        );
    }
}
