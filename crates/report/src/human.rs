//! The report for people: a line a file as it ends, and what went wrong in it.

use crate::excerpt::{SourceCache, Sources, excerpt};
use crate::record::{BootRecord, Completed, Counts, Records, TestRecord, WaitRecord};
use crate::styles::Styles;
use crate::text::{indented, seconds, tail};
use provium_events::printable::{clean, one_line};
use provium_events::{BuildStatus, Event, FileStatus, Notice, NoticeLevel, TestStatus, counted};
use provium_units::format_size;
use std::fmt::Write as _;

/// Console lines shown with a failed test, unless everything is wanted.
const CONSOLE_LINES: usize = 10;

/// Log lines shown with a failed test, unless everything is wanted.
const LOG_LINES: usize = 30;

/// Waits for the pool that are at least this long are shown, nanoseconds.
const LONG_WAIT: u64 = 1_000_000_000;

/// How much is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Only failures and the last line.
    Quiet,
    /// A line a file.
    #[default]
    Normal,
    /// Every test and every boot, too.
    Verbose,
}

/// What the report looks like.
#[derive(Debug, Clone, Copy, Default)]
pub struct HumanOptions {
    /// How much is printed.
    pub verbosity: Verbosity,
    /// Whether to use colours.
    pub colour: bool,
}

/// The report for people.
pub struct Human {
    verbosity: Verbosity,
    styles: Styles,
    sources: SourceCache,
    records: Records,
    ran: u64,
    not_run: u64,
    /// The seed of the run, if it is known.
    seed: Option<u64>,
    flaky: Vec<String>,
}

impl Human {
    /// A report at the start of a run.
    pub fn new(options: HumanOptions, sources: impl Sources + 'static) -> Self {
        Self {
            verbosity: options.verbosity,
            styles: Styles::new(options.colour),
            sources: SourceCache::new(sources),
            records: Records::default(),
            ran: 0,
            not_run: 0,
            seed: None,
            flaky: Vec::new(),
        }
    }

    /// The text for an event, whole lines; empty for most events.
    pub fn event(&mut self, event: &Event) -> String {
        match event {
            Event::RunStarted {
                version,
                seed,
                accel,
                host,
                ..
            } => {
                self.seed = Some(*seed);
                if self.verbosity == Verbosity::Verbose {
                    let (version, host, accel) =
                        (one_line(version), one_line(host), one_line(accel));
                    format!("provium {version} on {host}; accelerator {accel}; --seed {seed}\n")
                } else {
                    String::new()
                }
            }
            Event::RunCompleted {
                passed,
                failed,
                skipped,
                duration_ns,
                ..
            } => self.ending(*passed, *failed, *skipped, *duration_ns),
            Event::FixtureBuildStarted { path, reason } => self.building(path, reason.as_deref()),
            Event::FixtureBuildDone {
                path,
                duration_ns,
                status,
                snapshot_bytes,
            } => self.built(path, *duration_ns, *status, *snapshot_bytes),
            Event::FixtureBuildWaiting { path, held_by_file } => self.fixture(
                path,
                &format!("waiting for {}, which builds it", one_line(held_by_file)),
            ),
            Event::FixtureCacheHit { path } => self.fixture(path, "restored from the cache"),
            other => match self.records.take(other) {
                Some(completed) => self.file(&completed),
                None => String::new(),
            },
        }
    }

    /// A line about a fixture, where everything is wanted.
    fn fixture(&self, path: &str, what: &str) -> String {
        if self.verbosity != Verbosity::Verbose {
            return String::new();
        }
        let (word, path) = (self.styles.dim("fixture"), one_line(path));
        format!("{word} {path}: {what}\n")
    }

    fn building(&self, path: &str, reason: Option<&str>) -> String {
        let what = match reason {
            Some(reason) => format!("rebuilding: {}", one_line(reason)),
            None => "building".to_owned(),
        };
        self.fixture(path, &what)
    }

    fn built(&self, path: &str, duration_ns: u64, status: BuildStatus, bytes: u64) -> String {
        let took = seconds(duration_ns, 2);
        let what = match status {
            BuildStatus::Built => {
                let size = format_size(bytes.next_multiple_of(1 << 20));
                format!("built in {took}, {size}")
            }
            BuildStatus::Failed => format!("build failed after {took}"),
            BuildStatus::Interrupted => format!("build interrupted after {took}"),
        };
        self.fixture(path, &what)
    }

    fn ending(&self, passed: u64, failed: u64, skipped: u64, duration_ns: u64) -> String {
        let mut out = String::new();
        for name in &self.flaky {
            let _ = writeln!(out, "{} {name}", self.styles.warning("flaky"));
        }
        if self.not_run > 0 {
            let _ = writeln!(out, "{} not run", counted(self.not_run, "file"));
        }
        // A failure may depend on random choices: it must be possible to repeat it.
        if let Some(seed) = self.seed.filter(|_| failed > 0 || !self.flaky.is_empty()) {
            let _ = writeln!(out, "repeat with --seed {seed}");
        }
        let failed = match failed {
            0 => "0 failed".to_owned(),
            count => self.styles.failure(&format!("{count} failed")),
        };
        let took = seconds(duration_ns, 2);
        let files = counted(self.ran, "file");
        let _ = writeln!(
            out,
            "{files}: {passed} passed, {failed}, {skipped} skipped; {took}"
        );
        out
    }

    fn file(&mut self, completed: &Completed) -> String {
        let file = &completed.file;
        if !file.dispatched {
            self.not_run += 1;
            return String::new();
        }
        self.ran += 1;
        let flaky = file.tests.iter().filter(|test| test.is_flaky());
        self.flaky.extend(flaky.map(|test| {
            format!(
                "{}::{} passed at attempt {}",
                one_line(&file.path),
                one_line(&test.name),
                test.details.attempts
            )
        }));

        if self.verbosity == Verbosity::Quiet && completed.status == FileStatus::Passed {
            return String::new();
        }
        let word = match completed.status {
            FileStatus::Passed if file.tests.is_empty() => self.styles.warning("NONE"),
            FileStatus::Passed => self.styles.success("PASS"),
            FileStatus::Failed => self.styles.failure("FAIL"),
            FileStatus::TimedOut => self.styles.failure("TIME"),
            FileStatus::Crashed => self.styles.failure("CRSH"),
        };
        let Counts {
            passed,
            failed,
            skipped,
        } = completed.counts();
        let took = seconds(completed.duration_ns, 1);
        let path = one_line(&file.path);
        let mut out =
            format!("{word} {path} ({passed} passed, {failed} failed, {skipped} skipped) {took}\n");
        out.push_str(&self.waits(&file.waits));
        out.push_str(&self.notices(&file.notices, completed.status));
        if self.verbosity == Verbosity::Verbose {
            for boot in &file.boots {
                out.push_str(&self.boot(boot));
            }
        }
        for test in &file.tests {
            match test.status {
                TestStatus::Failed => out.push_str(&self.failed_test(test)),
                _ if self.verbosity == Verbosity::Verbose => out.push_str(&self.other_test(test)),
                _ => {}
            }
        }
        if let Some(error) = &completed.error {
            let shown = excerpt(
                &error.message,
                error.location.as_ref(),
                &mut self.sources,
                self.styles,
            );
            out.push_str(&indented(&shown, 2));
            out.push_str(&traceback(&error.traceback, 2));
        }
        out
    }

    fn boot(&self, boot: &BootRecord) -> String {
        let BootRecord {
            vm_name,
            profile,
            memory_bytes,
            boot,
            boot_ns,
        } = boot;
        let (memory, took) = (format_size(*memory_bytes), seconds(*boot_ns, 2));
        let (vm_name, profile) = (one_line(vm_name), one_line(profile));
        format!(
            "  {} {vm_name} ({profile}, {memory}) {boot} {took}\n",
            self.styles.dim("boot")
        )
    }

    /// Waits for the pool: each where everything is wanted, else a line for those that were long.
    fn waits(&self, waits: &[WaitRecord]) -> String {
        let word = self.styles.warning("waited");
        let line = |wait: &WaitRecord| {
            let took = seconds(wait.waited_ns, 1);
            format!("  {word} {took} for {}\n", wait.amount)
        };
        if self.verbosity == Verbosity::Verbose {
            return waits.iter().map(line).collect();
        }
        let long: Vec<_> = waits
            .iter()
            .filter(|wait| wait.waited_ns >= LONG_WAIT)
            .copied()
            .collect();
        match (
            long.as_slice(),
            long.iter().max_by_key(|wait| wait.waited_ns),
        ) {
            ([one], _) => line(one),
            (many, Some(longest)) => {
                let all = many
                    .iter()
                    .fold(0, |sum: u64, wait| sum.saturating_add(wait.waited_ns));
                format!(
                    "  {word} {} in {} boots; longest {} for {}\n",
                    seconds(all, 1),
                    many.len(),
                    seconds(longest.waited_ns, 1),
                    longest.amount
                )
            }
            (_, None) => String::new(),
        }
    }

    /// Notices about a file: all where everything is wanted, else warnings where the file has failed.
    fn notices(&self, notices: &[Notice], status: FileStatus) -> String {
        let everything = self.verbosity == Verbosity::Verbose;
        let failed = status != FileStatus::Passed;
        let shown = notices
            .iter()
            .filter(|notice| everything || (failed && notice.level == NoticeLevel::Warning));
        let line = |notice: &Notice| {
            let word = match notice.level {
                NoticeLevel::Info => self.styles.dim("note"),
                NoticeLevel::Warning => self.styles.warning("warning"),
            };
            format!("  {word} {}\n", one_line(&notice.text))
        };
        shown.map(line).collect()
    }

    fn other_test(&self, test: &TestRecord) -> String {
        let name = one_line(&test.name);
        let took = seconds(test.duration_ns, 2);
        let mut out = match (test.status, &test.message) {
            (TestStatus::Skipped, Some(reason)) => {
                format!(
                    "  {} {name}: {}\n",
                    self.styles.warning("skip"),
                    one_line(reason)
                )
            }
            (TestStatus::Skipped, None) => format!("  {} {name}\n", self.styles.warning("skip")),
            _ => format!("  {} {name} {took}\n", self.styles.success("pass")),
        };
        out.push_str(&self.steps(test));
        for line in &test.details.log {
            out.push_str(&indented(&clean(line), 6));
        }
        out
    }

    fn failed_test(&mut self, test: &TestRecord) -> String {
        let everything = self.verbosity == Verbosity::Verbose;
        let limit = |lines| if everything { usize::MAX } else { lines };
        let details = &test.details;
        let name = one_line(&test.name);
        let took = seconds(test.duration_ns, 2);
        let attempts = match details.attempts {
            0 | 1 => String::new(),
            count => format!(", {count} attempts"),
        };
        let mut out = format!(
            "  {} {name} {took}{attempts}\n",
            self.styles.failure("fail")
        );
        let message = test.message.as_deref().unwrap_or_default();
        let shown = excerpt(
            message,
            details.location.as_ref(),
            &mut self.sources,
            self.styles,
        );
        out.push_str(&indented(&shown, 4));
        out.push_str(&traceback(&details.traceback, 4));
        out.push_str(&self.steps(test));
        let log = clean(&details.log.join("\n"));
        out.push_str(&section("log", &log, limit(LOG_LINES)));
        for note in &details.notes {
            out.push_str(&indented(&clean(note), 4));
        }
        for console in test.consoles.iter().filter(|console| !console.in_reason) {
            let title = format!("console of vm `{}`", one_line(&console.vm));
            out.push_str(&section(
                &title,
                &clean(&console.text),
                limit(CONSOLE_LINES),
            ));
        }
        out
    }

    fn steps(&self, test: &TestRecord) -> String {
        let mut out = String::new();
        for step in &test.details.steps {
            let word = if step.passed { "step" } else { "step failed:" };
            let (name, took) = (one_line(&step.name), seconds(step.duration_ns, 2));
            let _ = writeln!(out, "    {} {name} {took}", self.styles.dim(word));
        }
        out
    }
}

/// The author's frames, where there is more than the one that the excerpt shows.
fn traceback(frames: &[String], by: usize) -> String {
    if frames.len() < 2 {
        return String::new();
    }
    indented(
        &format!(
            "traceback:\n  {}",
            clean(&frames.join("\n")).replace('\n', "\n  ")
        ),
        by,
    )
}

/// The last lines of something longer, under a title.
fn section(title: &str, text: &str, limit: usize) -> String {
    let (skipped, lines) = tail(text, limit);
    if lines.is_empty() {
        return String::new();
    }
    let before = match skipped {
        0 => String::new(),
        count => format!(" (last {} lines of {})", lines.len(), lines.len() + count),
    };
    let mut out = format!("    {title}{before}:\n");
    out.push_str(&indented(&lines.join("\n"), 6));
    out
}
