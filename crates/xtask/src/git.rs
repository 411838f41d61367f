//! What the rules ask git: the titles of commits that can still be changed.
//!
//! Reads only. Without a repository, or with too little of its history, it says so and the rule
//! is skipped.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// A commit and the first line of its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    /// Abbreviated.
    pub(crate) hash: String,
    pub(crate) title: String,
}

/// The commits that descend from the one that added `since` and are not on the main branch yet,
/// newest first, without merges. The error says why they are not known.
///
/// The main branch is `origin/main`, or the local `main` if that remote does not exist and another
/// branch is checked out. Commits of a branch that forked before `since` was added do not count, so
/// merging such a branch later does not make its commits wrong.
pub(crate) fn own_commits(root: &Path, since: &str) -> Result<Vec<Commit>, String> {
    let git = |args: &[&str]| run(root, args);
    match git(&["rev-parse", "--is-shallow-repository", "--show-prefix"])?
        .lines()
        .collect::<Vec<_>>()
        .as_slice()
    {
        ["false"] | ["false", ""] => {}
        ["true", ..] => return Err("this is a shallow clone".to_owned()),
        _ => return Err("the source tree is part of another repository".to_owned()),
    }
    let added = git(&[
        "log",
        "--full-history",
        "--diff-filter=A",
        "--format=%H",
        "--",
        since,
    ])?;
    let Some(first) = added.lines().last() else {
        return Err(format!("`{since}` is not committed yet"));
    };
    let after = git(&["rev-list", "--ancestry-path", &format!("{first}..HEAD")])?;
    let after: BTreeSet<&str> = after.lines().collect();
    let mut log = vec!["log", "--no-merges", "--format=%H %h %s", "HEAD"];
    let upstream = upstream(root).map(|name| format!("^{name}"));
    log.extend(upstream.as_deref());
    log.push("--");
    let commits = git(&log)?;
    let commits = commits.lines().filter_map(|line| {
        let (full, rest) = line.split_once(' ')?;
        let (hash, title) = rest.split_once(' ').unwrap_or((rest, ""));
        after.contains(full).then(|| Commit {
            hash: hash.to_owned(),
            title: title.to_owned(),
        })
    });
    Ok(commits.collect())
}

/// The branch whose commits are published, if it is another one than the current.
fn upstream(root: &Path) -> Option<&'static str> {
    const REMOTE: &str = "refs/remotes/origin/main";
    const LOCAL: &str = "refs/heads/main";
    let exists = |name: &str| run(root, &["rev-parse", "--verify", "--quiet", name]).is_ok();
    if exists(REMOTE) {
        return Some(REMOTE);
    }
    let current = run(root, &["symbolic-ref", "--quiet", "HEAD"]).unwrap_or_default();
    (current.trim() != LOCAL && exists(LOCAL)).then_some(LOCAL)
}

fn run(root: &Path, args: &[&str]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.arg("-C").arg(root).args(args);
    // A hook of git runs with these set, and they win over the folder.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(variable);
    }
    let output = command
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let first = message.lines().next().unwrap_or("no message");
    Err(format!("git: {}", first.trim_start_matches("fatal: ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Repository(tempfile::TempDir);

    impl Repository {
        /// A repository with one commit; `None` where git is not installed, as it may be where the
        /// sources came as an archive.
        fn new() -> Option<Self> {
            Command::new("git").arg("--version").output().ok()?;
            let repository = Self(tempfile::tempdir().unwrap());
            repository.git(&["init", "--quiet", "--initial-branch=main"]);
            repository.commit("a.rs", "old title");
            Some(repository)
        }

        fn git(&self, args: &[&str]) {
            let identity = [
                "-c",
                "user.name=a",
                "-c",
                "user.email=a@b",
                "-c",
                "commit.gpgsign=no",
            ];
            run(self.0.path(), &[&identity, args].concat()).unwrap();
        }

        fn commit(&self, file: &str, title: &str) {
            fs_err::write(self.0.path().join(file), title).unwrap();
            self.git(&["add", "."]);
            self.git(&["commit", "--quiet", "-m", title]);
        }

        fn titles(&self) -> Result<Vec<String>, String> {
            let commits = own_commits(self.0.path(), "rule.rs")?;
            Ok(commits.into_iter().map(|commit| commit.title).collect())
        }
    }

    #[test]
    fn commits_after_the_rule_are_own() {
        let Some(repository) = Repository::new() else {
            return;
        };
        assert_eq!(
            repository.titles(),
            Err("`rule.rs` is not committed yet".to_owned())
        );
        repository.commit("rule.rs", "the rule");
        repository.commit("a.rs", "newer");
        assert_eq!(repository.titles().unwrap(), ["newer"]);
    }

    #[test]
    fn commits_of_the_main_branch_are_published() {
        let Some(repository) = Repository::new() else {
            return;
        };
        repository.commit("rule.rs", "the rule");
        repository.commit("a.rs", "on main");
        repository.git(&["checkout", "--quiet", "-b", "topic"]);
        repository.commit("a.rs", "on topic");
        assert_eq!(repository.titles().unwrap(), ["on topic"]);
        repository.git(&["update-ref", "refs/remotes/origin/main", "main"]);
        repository.git(&["checkout", "--quiet", "main"]);
        repository.commit("b.rs", "not pushed");
        assert_eq!(repository.titles().unwrap(), ["not pushed"]);
    }

    #[test]
    fn a_branch_that_forked_before_the_rule_is_exempt_and_so_is_its_merge() {
        let Some(repository) = Repository::new() else {
            return;
        };
        repository.git(&["checkout", "--quiet", "-b", "older"]);
        repository.commit("b.rs", "from before");
        repository.git(&["checkout", "--quiet", "main"]);
        repository.commit("rule.rs", "the rule");
        repository.git(&["merge", "--quiet", "--no-edit", "older"]);
        assert_eq!(repository.titles().unwrap(), [""; 0]);
        repository.commit("a.rs", "after the merge");
        assert_eq!(repository.titles().unwrap(), ["after the merge"]);
    }

    #[test]
    fn a_shallow_clone_and_a_plain_folder_say_so() {
        let Some(repository) = Repository::new() else {
            return;
        };
        repository.commit("rule.rs", "the rule");
        let clone = tempfile::tempdir().unwrap();
        let source = format!("file://{}", repository.0.path().display());
        let target = clone.path().to_str().unwrap();
        repository.git(&["clone", "--quiet", "--depth=1", &source, target]);
        assert_eq!(
            own_commits(clone.path(), "rule.rs"),
            Err("this is a shallow clone".to_owned())
        );
        let folder = repository.0.path().join("vendored");
        fs_err::create_dir(&folder).unwrap();
        assert_eq!(
            own_commits(&folder, "rule.rs"),
            Err("the source tree is part of another repository".to_owned())
        );
        let plain = tempfile::tempdir().unwrap();
        let error = own_commits(plain.path(), "rule.rs").unwrap_err();
        assert!(error.starts_with("git: not a git repository"), "{error}");
    }
}
