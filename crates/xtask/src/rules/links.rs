//! Links between the pages: every one leads somewhere.
//!
//! Only links inside the tree are followed; what lies on the network is not asked.

use crate::finding::Finding;
use crate::markdown;
use crate::tree::Tree;

const WHY: &str = "a reader who follows it finds nothing";

/// Links that lead to no file, or to no heading of one.
pub(crate) fn links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(".md") {
        let (_, prose) = markdown::split(text);
        for (line, text) in prose {
            for target in markdown::links(text) {
                findings.extend(follow(tree, path, line, target));
            }
        }
    }
    findings
}

fn follow(tree: &Tree, path: &str, line: usize, target: &str) -> Option<Finding> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let file = if file.is_empty() {
        path.to_owned()
    } else {
        resolve(path, file)
    };
    if !tree.exists(&file) {
        let what = format!("a link to `{target}`");
        return Some(Finding::new(
            path,
            line,
            what,
            WHY,
            format!("`{file}` does not exist"),
        ));
    }
    if anchor.is_empty() || !file.ends_with(".md") {
        return None;
    }
    let anchors = markdown::anchors(tree.text(&file).unwrap_or_default());
    (!anchors.iter().any(|known| known == anchor)).then(|| {
        let fix = format!("`{file}` has {}", anchors.join(", "));
        Finding::new(
            path,
            line,
            format!("a link to the heading `#{anchor}`"),
            WHY,
            fix,
        )
    })
}

/// `target` as seen from the page at `path`, without `.` and `..`.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let tree = Tree::from([
            ("docs/guide/a.md", text),
            ("docs/reference/vm.md", "# VM\n## Running a command\n"),
            ("README.md", ""),
        ]);
        links(&tree).into_iter().map(|f| f.to_string()).collect()
    }

    #[test]
    fn links_that_lead_somewhere() {
        let text = "# Here\n[v](../reference/vm.md#running-a-command) [r](../../README.md)\n\
                    [h](#here) [d](../reference/) [x](https://example.org/y)\n";
        assert!(found(text).is_empty(), "{:?}", found(text));
    }

    #[test]
    fn links_that_do_not() {
        assert_eq!(
            found("\n[v](vm.md)\n"),
            [
                "docs/guide/a.md:2: a link to `vm.md`: a reader who follows it finds nothing; \
              `docs/guide/vm.md` does not exist"
            ]
        );
        assert!(found("[v](../reference/vm.md#nope)\n")[0].contains("has vm, running-a-command"));
    }

    #[test]
    fn code_is_not_followed() {
        assert!(found("```\n[v](vm.md)\n```\n`[v](vm.md)`\n").is_empty());
    }
}
