//! The processes that a test, or a file's top level, has started, for the report of a failure.

use crate::engine::run_status::describe_status;
use crate::text;
use provium_lab::{LabClone, Process, ProcessStatus};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Most processes that the report shows; of more, the first ones are dropped.
const MAX_KEPT: usize = 20;
/// Lines of each output that the report shows.
const SHOWN_LINES: usize = 5;
/// Longest line shown, characters.
const MAX_LINE: usize = 400;

/// Processes, in the order in which they were started.
#[derive(Default)]
pub(crate) struct StartedProcesses {
    last: RefCell<VecDeque<Started>>,
    dropped: Cell<usize>,
}

/// A process that was started.
enum Started {
    Running(Process),
    /// What the report shows of one that has ended. Its whole output would stay in memory with the process.
    Ended(Vec<String>),
}

impl StartedProcesses {
    /// Adds a process that was started.
    pub(crate) fn add(&self, process: &Process) {
        let mut last = self.last.borrow_mut();
        for started in last.iter_mut() {
            started.release();
        }
        if last.len() >= MAX_KEPT {
            last.pop_front();
            self.dropped.set(self.dropped.get() + 1);
        }
        last.push_back(Started::Running(process.clone()));
    }

    /// Each with its state and the end of its output, as lines; in a parallel test, as they are in `clone`.
    pub(crate) fn lines(&self, clone: Option<&LabClone>) -> Vec<String> {
        let last = self.last.borrow();
        let mut lines = Vec::new();
        if self.dropped.get() > 0 {
            lines.push(format!(
                "… {} earlier ones are not shown",
                self.dropped.get()
            ));
        }
        for started in last.iter() {
            match started {
                Started::Running(process) => match clone {
                    Some(clone) => lines.extend(process_lines(&clone.process(process))),
                    None => lines.extend(process_lines(process)),
                },
                Started::Ended(shown) => lines.extend(shown.iter().cloned()),
            }
        }
        lines
    }
}

impl Started {
    /// Gives up the process, if it has ended.
    fn release(&mut self) {
        if let Self::Running(process) = self
            && process.status() == ProcessStatus::Exited
        {
            *self = Self::Ended(process_lines(process));
        }
    }
}

/// A process with its state and the end of its output, as lines.
fn process_lines(process: &Process) -> Vec<String> {
    let [stdout, stderr] = process.output_so_far();
    let mut lines = vec![format!("{}: {}", process.subject(), state(process))];
    lines.extend(output_lines("stdout", &stdout));
    lines.extend(output_lines("stderr", &stderr));
    lines
}

/// `running`, or how it ended.
pub(crate) fn state(process: &Process) -> String {
    match (process.ending(), process.status()) {
        (Some(status), _) => describe_status(status),
        (None, ProcessStatus::Running) => "running".to_owned(),
        (None, ProcessStatus::Exited) => "ended, and it is not known how".to_owned(),
    }
}

/// The last lines of an output, each behind the name of the output.
pub(crate) fn output_lines(name: &str, output: &[u8]) -> Vec<String> {
    let text = text::display(output);
    let all: Vec<&str> = text.trim_end().lines().collect();
    let more = all.len().saturating_sub(SHOWN_LINES);
    let before = (more > 0).then(|| format!("  {name} | … {more} more lines before"));
    let shown = all[more..]
        .iter()
        .map(|line| format!("  {name} | {}", text::cut(line, MAX_LINE)));
    before.into_iter().chain(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_shown() {
        assert!(output_lines("stderr", b"").is_empty());
        assert_eq!(output_lines("stderr", b"a\xff\n"), ["  stderr | a\\xff"]);
        let long: String = (1..=8).map(|number| format!("{number}\n")).collect();
        let lines = output_lines("stdout", long.as_bytes());
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "  stdout | … 3 more lines before");
        assert_eq!(lines[5], "  stdout | 8");
    }
}
