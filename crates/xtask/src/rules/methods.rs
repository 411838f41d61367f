//! Types with few methods: one with many is several ideas, or says why it is one.
//!
//! Counts the functions in the inherent `impl` blocks of a type, over all files of its crate, without
//! tests. A type with more than 30 is refused, unless the documentation of the type has a sentence
//! that begins with "Many methods because". How many an old type may still have is in
//! `methods.allow`.

use crate::finding::Finding;
use crate::ratchet::{self, List, Outcome};
use crate::rust_source::{Hide, hide, lines_before_tests};
use crate::tree::Tree;
use std::collections::BTreeMap;

const LIST: List = List {
    path: "crates/xtask/methods.allow",
    unit: "methods",
};

const MOST: usize = 30;
/// What the documentation of a type with more than [`MOST`] methods contains.
const REASON: &str = "Many methods because";
const WHY: &str = "a type is one idea";

/// A type of a crate.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Clone)]
struct Type {
    /// `crates/NAME`.
    package: String,
    name: String,
}

/// Where a type is defined.
struct Definition {
    path: String,
    line: usize,
    has_reason: bool,
}

/// Types with too many methods, beyond those that the list tolerates.
pub(crate) fn methods(tree: &Tree) -> Outcome {
    let mut counts: BTreeMap<Type, usize> = BTreeMap::new();
    let mut definitions: BTreeMap<Type, Definition> = BTreeMap::new();
    for (path, text) in tree.ending(".rs") {
        let Some((package, _)) = path.split_once("/src/") else {
            continue;
        };
        let code = hide(text, Hide::CommentsAndStrings);
        let code: Vec<&str> = code.lines().take(lines_before_tests(text)).collect();
        for (name, count) in inherent_methods(&code) {
            let package = package.to_owned();
            *counts.entry(Type { package, name }).or_default() += count;
        }
        for (name, definition) in types(path, text, &code) {
            let package = package.to_owned();
            definitions.insert(Type { package, name }, definition);
        }
    }
    let mut found = BTreeMap::new();
    for (of, count) in counts.into_iter().filter(|(_, count)| *count > MOST) {
        // A method of a type of another crate is a trait's, so that the type is of this one; one
        // made by a macro has no definition that is seen.
        let Some(definition) = definitions.get(&of).filter(|one| !one.has_reason) else {
            continue;
        };
        let what = format!("`{}` has {count} methods, over {MOST}", of.name);
        let fix = format!("split the type, or say why in its docs (`{REASON} …`)");
        let finding = Finding::new(&definition.path, definition.line, what, WHY, fix);
        let entry = format!("{} {}", definition.path, of.name);
        found.insert(entry, (count, vec![finding]));
    }
    ratchet::compare_counts(LIST, tree, found)
}

/// The types with inherent `impl` blocks, each with the number of functions in one block.
fn inherent_methods(code: &[&str]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    let mut lines = code.iter();
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start().len();
        if !line.trim_start().starts_with("impl") {
            continue;
        }
        let mut header = (*line).to_owned();
        while !header.contains('{') {
            let Some(next) = lines.next() else { break };
            header.push(' ');
            header.push_str(next);
        }
        let Some(name) = inherent_type(&header) else {
            continue;
        };
        if header.contains('}') {
            continue;
        }
        // The tree is formatted: a block ends with a brace below its first letter, and its functions
        // are one step to the right of it.
        let end = format!("{}}}", " ".repeat(indent));
        let mut count = 0;
        for line in lines.by_ref().take_while(|line| **line != end) {
            let inside = line.len() - line.trim_start().len();
            if inside == indent + 4 && line.split_whitespace().take(5).any(|word| word == "fn") {
                count += 1;
            }
        }
        found.push((name, count));
    }
    found
}

/// The type of `impl<…> path::Type<…> … {`; `None` for an implementation of a trait.
fn inherent_type(header: &str) -> Option<String> {
    let rest = header.trim_start().strip_prefix("impl")?;
    let rest = if rest.starts_with('<') {
        after_generics(rest)?
    } else {
        rest
    };
    let rest = rest.strip_prefix(' ')?.trim_start();
    let head = rest.split(['{']).next()?.split(" where ").next()?;
    if head.contains(" for ") {
        return None;
    }
    let path = head.split('<').next()?.trim();
    let name = path.rsplit("::").next()?;
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(is_name)).then(|| name.to_owned())
}

/// What follows the `<…>` that `text` begins with.
fn after_generics(text: &str) -> Option<&str> {
    let mut depth = 0;
    for (at, c) in text.char_indices() {
        match c {
            '<' => depth += 1,
            '>' if !text[..at].ends_with('-') => depth -= 1,
            _ => (),
        }
        if depth == 0 {
            return Some(&text[at + 1..]);
        }
    }
    None
}

/// The structs and enums that a file defines.
fn types(path: &str, text: &str, code: &[&str]) -> Vec<(String, Definition)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (index, line) in code.iter().enumerate() {
        let mut words = line.split_whitespace().skip_while(|w| w.starts_with("pub"));
        if !matches!(words.next(), Some("struct" | "enum")) {
            continue;
        }
        let Some(name) = words.next() else { continue };
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let end = name.find(|c| !is_name(c)).unwrap_or(name.len());
        let docs: Vec<&str> = lines[..index]
            .iter()
            .rev()
            .map(|line| line.trim())
            .take_while(|line| line.starts_with("///") || line.starts_with('#'))
            .collect();
        let definition = Definition {
            path: path.to_owned(),
            line: index + 1,
            has_reason: docs.iter().any(|line| line.contains(REASON)),
        };
        found.push((name[..end].to_owned(), definition));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::lines;

    fn functions(count: usize) -> String {
        (0..count)
            .map(|n| format!("    pub(crate) async fn f{n}(&self) {{\n        g();\n    }}\n"))
            .collect()
    }

    fn found<const N: usize>(files: [(&str, &str); N]) -> Vec<String> {
        lines(methods(&Tree::from(files)).findings)
    }

    #[test]
    fn a_type_with_more_than_thirty_methods_is_refused() {
        let thirty = format!("struct A;\n\nimpl A {{\n{}}}\n", functions(30));
        assert_eq!(found([("crates/x/src/a.rs", &thirty)]), [""; 0]);
        let more = format!("struct A;\n\nimpl A {{\n{}}}\n", functions(31));
        assert_eq!(
            found([("crates/x/src/a.rs", &more)]),
            ["1: `A` has 31 methods, over 30"]
        );
    }

    #[test]
    fn blocks_in_other_files_of_the_crate_count() {
        let a = format!(
            "//! A.\nstruct A<T>(T);\n\nimpl<T: F<u8>> A<T> {{\n{}}}\n",
            functions(20)
        );
        let b = format!(
            "impl<T> a::A<T>\nwhere\n    T: B,\n{{\n{}}}\n",
            functions(20)
        );
        assert_eq!(
            found([("crates/x/src/a.rs", &a), ("crates/x/src/b.rs", &b)]),
            ["2: `A` has 40 methods, over 30"]
        );
        assert_eq!(
            found([("crates/x/src/a.rs", &a), ("crates/y/src/b.rs", &b)]),
            [""; 0]
        );
    }

    #[test]
    fn implementations_of_traits_and_tests_do_not_count() {
        let text = format!(
            "struct A;\n\nimpl From<B> for A {{\n{}}}\n\n#[cfg(test)]\nmod tests {{\nimpl A \
             {{\n{}}}\n}}\n",
            functions(31),
            functions(31)
        );
        assert_eq!(found([("crates/x/src/a.rs", &text)]), [""; 0]);
    }

    #[test]
    fn a_type_that_says_why_may_have_more() {
        let text = format!(
            "/// One call per method. Many methods because the API has them.\n#[derive(Debug)]\n\
             pub struct A;\n\nimpl A {{\n{}}}\n",
            functions(40)
        );
        assert_eq!(found([("crates/x/src/a.rs", &text)]), [""; 0]);
    }

    #[test]
    fn the_list_tolerates_as_many_as_it_says() {
        let text = format!("struct A;\n\nimpl A {{\n{}}}\n", functions(35));
        let list = "35 crates/x/src/a.rs A\n";
        let files = [("crates/x/src/a.rs", &*text), (LIST.path, list)];
        assert_eq!(found(files), [""; 0]);
        let list = "34 crates/x/src/a.rs A\n";
        let files = [("crates/x/src/a.rs", &*text), (LIST.path, list)];
        assert_eq!(found(files).len(), 2);
    }
}
