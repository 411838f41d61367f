//! Commands that failed, and whether the test has checked their results.
//!
//! A result is always true in Lua, so a set-up command whose result is thrown away fails in silence. The
//! report of a failed test lists the commands of which nothing has read how they ended.

use crate::engine::cut::{Keep, more_lines};
use provium_lab::Site;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Most failures that are kept; of more, the first ones are dropped.
const MAX_KEPT: usize = 20;
/// Lines of a command's error output that the list shows.
const SHOWN_LINES: usize = 5;

/// A command that did not exit with 0.
#[derive(Debug)]
pub(crate) struct FailedCommand {
    /// The command and how it ended: `run("false") exited with 1`.
    pub(crate) ending: String,
    /// The end of what it wrote to standard output.
    pub(crate) stdout: String,
    /// The end of what it wrote to standard error.
    pub(crate) stderr: String,
    /// The file that has all of that, if it is long.
    pub(crate) stderr_file: Option<String>,
    /// Where the result was returned.
    pub(crate) site: Option<Site>,
    /// Whether the test has read how it ended.
    seen: Cell<bool>,
}

impl FailedCommand {
    pub(crate) fn new(
        ending: String,
        [stdout, stderr]: [String; 2],
        stderr_file: Option<String>,
        site: Option<Site>,
    ) -> Rc<Self> {
        Rc::new(Self {
            ending,
            stdout,
            stderr,
            stderr_file,
            site,
            seen: Cell::new(false),
        })
    }

    /// The command, how it ended, and its output.
    pub(crate) fn report(&self) -> String {
        format!(
            "{}\nstdout: {}\nstderr: {}",
            self.ending, self.stdout, self.stderr
        )
    }

    /// How it ended, where, and the last lines of its error output, as lines for the log.
    fn lines(&self, keep: Keep<'_>) -> Vec<String> {
        let place = self
            .site
            .as_ref()
            .map_or_else(String::new, |site| format!(" ({site})"));
        let mut lines = vec![format!("{}{place}", self.ending)];
        let all: Vec<&str> = self.stderr.lines().collect();
        let more = all.len().saturating_sub(SHOWN_LINES);
        let shown = &all[more..];
        if more > 0 {
            let whole = || keep("stderr", self.stderr.as_bytes());
            let file = self.stderr_file.clone().or_else(whole);
            lines.push(format!(
                "  | {}",
                more_lines(more, "before", file.as_deref())
            ));
        }
        lines.extend(shown.iter().map(|line| format!("  | {line}")));
        lines
    }
}

/// The failed commands of a test, or of a file's top level.
#[derive(Debug, Default)]
pub(crate) struct FailedCommands {
    /// Those that had not been looked at when they were added last.
    unseen: RefCell<VecDeque<Rc<FailedCommand>>>,
    /// That whose ending was read last, and where.
    last_read: RefCell<Option<(Site, Rc<FailedCommand>)>>,
}

impl FailedCommands {
    /// Adds a command that has failed.
    pub(crate) fn add(&self, command: &Rc<FailedCommand>) {
        let mut unseen = self.unseen.borrow_mut();
        unseen.retain(|command| !command.seen.get());
        if unseen.len() >= MAX_KEPT {
            unseen.pop_front();
        }
        unseen.push_back(Rc::clone(command));
    }

    /// The author's code reads, at `site`, how the command ended.
    pub(crate) fn read(&self, command: &Rc<FailedCommand>, site: Option<Site>) {
        command.seen.set(true);
        self.last_read
            .replace(site.map(|site| (site, Rc::clone(command))));
    }

    /// The command whose ending was read by the statement at `site`, as in `t:assert(result:ok())`.
    pub(crate) fn read_at(&self, site: &Site) -> Option<Rc<FailedCommand>> {
        let last = self.last_read.borrow();
        let (read, command) = last.as_ref()?;
        // The arguments of a call may be on lines of their own.
        let lines = site.line..=site.line.saturating_add(MAX_ARGUMENT_LINES);
        (read.file == site.file && lines.contains(&read.line)).then(|| Rc::clone(command))
    }

    /// Those whose result was not checked, as lines for the log.
    pub(crate) fn unseen_lines(&self, keep: Keep<'_>) -> Vec<String> {
        let unseen = self.unseen.borrow();
        let unseen = unseen.iter().filter(|command| !command.seen.get());
        unseen.flat_map(|command| command.lines(keep)).collect()
    }
}

/// Lines from the start of a call to an argument of it that still counts as part of it.
const MAX_ARGUMENT_LINES: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn site(line: u32) -> Site {
        Site {
            file: "a.test.lua".to_owned(),
            line,
        }
    }

    fn failed(name: &str) -> Rc<FailedCommand> {
        let output = ["".to_owned(), "one\ntwo".to_owned()];
        FailedCommand::new(
            format!("run({name:?}) exited with 1"),
            output,
            None,
            Some(site(3)),
        )
    }

    #[test]
    fn only_what_nothing_has_read_is_listed() {
        let commands = FailedCommands::default();
        assert!(commands.unseen_lines(&|_, _| None).is_empty());
        let (first, second) = (failed("first"), failed("second"));
        commands.add(&first);
        commands.add(&second);
        commands.read(&first, None);
        let lines = commands.unseen_lines(&|_, _| None);
        assert_eq!(
            lines,
            [
                "run(\"second\") exited with 1 (a.test.lua:3)",
                "  | one",
                "  | two"
            ]
        );
        commands.read(&second, None);
        assert!(commands.unseen_lines(&|_, _| None).is_empty());
    }

    #[test]
    fn a_loop_of_failures_is_bounded() {
        let commands = FailedCommands::default();
        for number in 0..1000 {
            commands.add(&failed(&number.to_string()));
        }
        let lines = commands.unseen_lines(&|_, _| None);
        assert_eq!(lines.len(), 3 * MAX_KEPT);
        assert!(lines[0].contains("980"), "{lines:?}");
    }

    #[test]
    fn a_read_belongs_to_the_call_around_it() {
        let commands = FailedCommands::default();
        commands.read(&failed("x"), Some(site(7)));
        assert!(commands.read_at(&site(7)).is_some());
        assert!(commands.read_at(&site(5)).is_some());
        assert!(commands.read_at(&site(8)).is_none());
        let elsewhere = Site {
            file: "b.test.lua".to_owned(),
            line: 7,
        };
        assert!(commands.read_at(&elsewhere).is_none());
    }
}
