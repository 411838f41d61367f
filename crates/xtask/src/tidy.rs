//! `cargo xtask tidy`: every rule over the whole tree.
//!
//! | rule | holds |
//! |---|---|
//! | [`arrows`](rules::arrows) | who may depend on whom; libraries that belong to one crate; lints of the workspace |
//! | [`files`](rules::files) | length, names, docs at the top, `mod.rs` that only points |
//! | [`code`](rules::code) | `allow`, `unsafe`, prints, exits, children, I/O in pure crates |
//! | [`lua_files`](rules::lua_files) | names of tests, examples and what they require |
//! | [`links`](rules::links) | links between the pages |

use crate::finding::Finding;
use crate::rules;
use crate::tree::Tree;

/// What breaks a rule, in the order of paths and lines.
pub(crate) fn check(tree: &Tree) -> Vec<Finding> {
    let all = [
        rules::arrows,
        rules::files,
        rules::code,
        rules::lua_files,
        rules::links,
    ];
    let mut findings: Vec<Finding> = all.into_iter().flat_map(|rule| rule(tree)).collect();
    findings.sort();
    findings
}
