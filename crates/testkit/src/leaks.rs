//! What this process holds, before and after.
//!
//! Counts belong to the whole process: a test that checks them has a test executable of its own, or
//! the tests beside it show up in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Descriptors, children and threads of this process at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaks {
    descriptors: BTreeSet<(i32, String)>,
    children: BTreeSet<i32>,
    threads: BTreeSet<i32>,
}

impl Leaks {
    /// Notes what there is now.
    pub fn before() -> Self {
        Self {
            descriptors: descriptors(),
            children: numbers("/proc/self/task")
                .iter()
                .flat_map(|thread| children(*thread))
                .collect(),
            threads: numbers("/proc/self/task"),
        }
    }

    /// What has come since and is still there, one line each; empty is good.
    pub fn since(&self) -> Vec<String> {
        let now = Self::before();
        let mut found = Vec::new();
        for (number, target) in now.descriptors.difference(&self.descriptors) {
            found.push(format!("descriptor {number} is open: {target}"));
        }
        for pid in now.children.difference(&self.children) {
            found.push(format!("child {pid} is there"));
        }
        for thread in now.threads.difference(&self.threads) {
            found.push(format!("thread {thread} runs"));
        }
        found
    }

    /// Fails the test when anything is left.
    ///
    /// # Panics
    /// That is how.
    pub fn assert_none(&self) {
        let found = self.since();
        assert!(found.is_empty(), "left behind:\n{}", found.join("\n"));
    }
}

fn descriptors() -> BTreeSet<(i32, String)> {
    numbers("/proc/self/fd")
        .into_iter()
        .filter_map(|number| {
            // The descriptor of the listing itself is closed already.
            let target = fs::read_link(format!("/proc/self/fd/{number}")).ok()?;
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect()
}

fn children(thread: i32) -> Vec<i32> {
    let listed = fs::read_to_string(format!("/proc/self/task/{thread}/children"));
    let listed = listed.unwrap_or_default();
    listed
        .split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

fn numbers(folder: impl AsRef<Path>) -> BTreeSet<i32> {
    fs::read_dir(folder)
        .expect("/proc is mounted")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_open_is_named() {
        let before = Leaks::before();
        let file = fs::File::open("/dev/null").expect("it is always there");
        let found = before.since();
        assert!(
            found
                .iter()
                .any(|line| line.ends_with("is open: /dev/null")),
            "{found:?}"
        );
        drop(file);
    }
}
