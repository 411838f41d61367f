//! The processes that a test, or a file's top level, has started, for the report of a failure.

use crate::engine::cut::{Keep, more_lines};
use crate::engine::run_status::describe_status;
use crate::text;
use provium_lab::{LabClone, Process};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

/// Most processes that the report shows; of more, the first ones are dropped.
const MAX_KEPT: usize = 20;
/// Lines of each output that the report shows.
const SHOWN_LINES: usize = 5;
/// Longest line shown, characters.
const MAX_LINE: usize = 400;
/// Bytes that are kept of each output of a process that has ended.
const MAX_OUTPUT: usize = 256 << 10;

/// Processes, in the order in which they were started.
#[derive(Default)]
pub(crate) struct StartedProcesses {
    last: RefCell<VecDeque<StartedProcess>>,
    dropped: Cell<usize>,
}

/// A process that was started.
enum StartedProcess {
    Running(Process),
    /// One that has ended: of its output, the end. All of it would stay in memory with the process.
    Ended(ProcessReport),
}

/// What a report shows of a process.
struct ProcessReport {
    subject: String,
    state: String,
    /// What it has written to standard output, and to standard error.
    outputs: [Vec<u8>; 2],
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
        last.push_back(StartedProcess::Running(process.clone()));
    }

    /// Each with its state and the end of its output, as lines; in a parallel test, as they are in `clone`.
    pub(crate) fn lines(&self, clone: Option<&LabClone>, keep: Keep<'_>) -> Vec<String> {
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
                StartedProcess::Running(process) => {
                    let report = match clone {
                        Some(clone) => ProcessReport::of(&clone.process(process)),
                        None => ProcessReport::of(process),
                    };
                    lines.extend(report.lines(keep));
                }
                StartedProcess::Ended(report) => lines.extend(report.lines(keep)),
            }
        }
        lines
    }
}

impl StartedProcess {
    /// Gives up the process, if it has ended.
    fn release(&mut self) {
        if let Self::Running(process) = self
            && !process.is_running()
        {
            let mut report = ProcessReport::of(process);
            for output in &mut report.outputs {
                let dropped = output.len().saturating_sub(MAX_OUTPUT);
                // A vector from which bytes are only removed keeps the memory of all.
                *output = output[dropped..].to_vec();
            }
            *self = Self::Ended(report);
        }
    }
}

impl ProcessReport {
    fn of(process: &Process) -> Self {
        Self {
            subject: process.subject(),
            state: state(process),
            outputs: process.output_so_far(),
        }
    }

    /// The process with its state and the end of its output, as lines.
    fn lines(&self, keep: Keep<'_>) -> Vec<String> {
        let mut lines = vec![format!("{}: {}", self.subject, self.state)];
        for (name, output) in ["stdout", "stderr"].into_iter().zip(&self.outputs) {
            let file = || keep(&format!("{} {name}", self.subject), output);
            lines.extend(output_lines(name, output, file));
        }
        lines
    }
}

/// `running`, or how it ended.
pub(crate) fn state(process: &Process) -> String {
    match process.ending() {
        Some(status) => describe_status(status),
        None if process.is_running() => "running".to_owned(),
        None => "ended with an unknown status".to_owned(),
    }
}

/// The last lines of an output, each behind the name of the output. If it has more, `file` gives the path of all of
/// it.
pub(crate) fn output_lines(
    name: &str,
    output: &[u8],
    file: impl FnOnce() -> Option<String>,
) -> Vec<String> {
    let text = text::display(output);
    let all: Vec<&str> = text.trim_end().lines().collect();
    let more = all.len().saturating_sub(SHOWN_LINES);
    let is_cut = all[more..]
        .iter()
        .any(|line| line.chars().nth(MAX_LINE).is_some());
    let file = (more > 0 || is_cut).then(file).flatten();
    let before = match (more, &file) {
        (0, None) => None,
        (0, Some(file)) => Some(format!("  {name} | … whole lines in {file}")),
        (more, file) => {
            let note = more_lines(more, "before", file.as_deref());
            Some(format!("  {name} | {note}"))
        }
    };
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
        let none = || None;
        assert!(output_lines("stderr", b"", none).is_empty());
        let not_kept = || panic!("nothing is cut");
        assert_eq!(
            output_lines("stderr", b"a\xff\n", not_kept),
            ["  stderr | a\\xff"]
        );
        let long: String = (1..=8).map(|number| format!("{number}\n")).collect();
        let lines = output_lines("stdout", long.as_bytes(), none);
        assert_eq!(lines.len(), 6);
        assert_eq!(lines[0], "  stdout | … 3 more lines before");
        assert_eq!(lines[5], "  stdout | 8");
        let file = || Some("f.txt".to_owned());
        let lines = output_lines("stdout", long.as_bytes(), file);
        assert_eq!(lines[0], "  stdout | … 3 more lines in f.txt");
        let line = "x".repeat(MAX_LINE + 1);
        let lines = output_lines("stdout", line.as_bytes(), file);
        assert_eq!(lines[0], "  stdout | … whole lines in f.txt");
    }
}
