//! The report for people: a line a test and a file as it ends, and what went wrong in it.

use crate::counts::Counts;
use crate::excerpt::{SourceCache, Sources};
use crate::failed_test::{details, failure, file_error};
use crate::record::{BootRecord, CompletedFile, CompletedItem, Records, TestRecord, WaitRecord};
use crate::styles::Styles;
use crate::summary::Summary;
use crate::text::{address, first_line, seconds};
use provium_events::printable::one_line;
use provium_events::{BuildStatus, Event, FileStatus, Notice, NoticeLevel, TestStatus, counted};
use provium_units::format_size;
use std::fmt::Write as _;
use std::time::Duration;

/// Waits for the pool that are at least this long are shown, nanoseconds.
const LONG_WAIT: u64 = 1_000_000_000;

/// How much is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Verbosity {
    /// Only failures and the last lines.
    Quiet,
    /// A line a file, and a line a test where [`HumanOptions::each_test`] says so.
    #[default]
    Normal,
    /// Every test with what it logged, and every boot.
    Verbose,
}

/// What the report looks like.
#[derive(Debug, Clone, Copy)]
pub struct HumanOptions {
    /// How much is printed.
    pub verbosity: Verbosity,
    /// Whether to use colours.
    pub colour: bool,
    /// Whether each test has a line as it ends. Without it only failures have.
    pub each_test: bool,
    /// A test that takes as long is marked as slow.
    pub slow_after: Duration,
    /// The seed of the order of files and tests, if they are shuffled.
    pub shuffle: Option<u64>,
    /// The run is one of several: each has a number.
    pub repeated: bool,
}

impl Default for HumanOptions {
    fn default() -> Self {
        Self {
            verbosity: Verbosity::Normal,
            colour: false,
            each_test: false,
            slow_after: Duration::from_secs(10),
            shuffle: None,
            repeated: false,
        }
    }
}

/// The report for people.
pub struct Human {
    options: HumanOptions,
    styles: Styles,
    sources: SourceCache,
    records: Records,
    summary: Summary,
    /// Files that were started.
    ran: u64,
    /// The seed of the run, if it is known.
    seed: Option<u64>,
    /// The number of the run.
    run: u32,
    /// The totals of all runs, and how long they took.
    all: (Counts, u64),
}

impl Human {
    /// A report at the start of a run.
    pub fn new(options: HumanOptions, sources: impl Sources + 'static) -> Self {
        Self {
            options,
            styles: Styles::new(options.colour),
            sources: SourceCache::new(sources),
            records: Records::default(),
            summary: Summary::default(),
            ran: 0,
            seed: None,
            run: 0,
            all: (Counts::default(), 0),
        }
    }

    /// The text after the last run: the totals of all, if there were several.
    pub fn finish(&self) -> String {
        let (counts, duration_ns) = self.all;
        match self.run {
            0 | 1 => String::new(),
            runs => {
                let words = counts.words(self.styles);
                format!("{runs} runs: {words}; {}\n", seconds(duration_ns, 2))
            }
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
                self.begin(*seed);
                self.heading(version, accel, host)
            }
            Event::RunCompleted {
                passed,
                failed,
                skipped,
                interrupted,
                not_run,
                flaky,
                duration_ns,
            } => {
                let counts = Counts {
                    passed: *passed,
                    flaky: *flaky,
                    failed: *failed,
                    skipped: *skipped,
                    interrupted: *interrupted,
                    not_run: *not_run,
                };
                self.ending(counts, *duration_ns)
            }
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
                Some(CompletedItem::Test(path, test)) => {
                    let (options, styles) = (self.options, self.styles);
                    test_lines(path, test, &options, &mut self.sources, styles)
                }
                Some(CompletedItem::File(completed)) => self.file(&completed),
                None => String::new(),
            },
        }
    }

    fn is_verbose(&self) -> bool {
        self.options.verbosity == Verbosity::Verbose
    }

    fn begin(&mut self, seed: u64) {
        self.summary = Summary::default();
        self.ran = 0;
        self.seed = Some(seed);
        self.run += 1;
    }

    fn heading(&self, version: &str, accel: &str, host: &str) -> String {
        let mut out = String::new();
        if self.options.repeated {
            let _ = writeln!(out, "run {}", self.run);
        }
        if self.is_verbose() {
            let (version, host, accel) = (one_line(version), one_line(host), one_line(accel));
            let seed = self.seed.unwrap_or_default();
            let _ = writeln!(
                out,
                "provium {version} on {host}; accelerator {accel}; --seed {seed}"
            );
        }
        out
    }

    /// A line about a fixture, where everything is wanted.
    fn fixture(&self, path: &str, what: &str) -> String {
        if !self.is_verbose() {
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

    fn ending(&mut self, counts: Counts, duration_ns: u64) -> String {
        self.all.0.add_all(counts);
        self.all.1 = self.all.1.saturating_add(duration_ns);
        let terse = self.options.verbosity == Verbosity::Quiet;
        let slow_ns = nanoseconds(self.options.slow_after);
        let mut out = self.summary.render(terse, slow_ns, self.styles);
        if !out.is_empty() {
            out.insert(0, '\n');
        }
        out.push_str(&self.repeat_line(counts));
        let (files, took) = (counted(self.ran, "file"), seconds(duration_ns, 2));
        let words = counts.words(self.styles);
        let _ = writeln!(out, "{files}: {words}; {took}");
        out
    }

    /// How to repeat the random choices that a failure may depend on.
    fn repeat_line(&self, counts: Counts) -> String {
        let mut flags = Vec::new();
        if self.summary.depends_on_seed
            && let Some(seed) = self.seed
        {
            flags.push(format!("--seed {seed}"));
        }
        if counts.failed > 0
            && let Some(seed) = self.options.shuffle
        {
            flags.push(format!("--shuffle={seed}"));
        }
        match flags.is_empty() {
            true => String::new(),
            false => format!("repeat with {}\n", flags.join(" ")),
        }
    }

    fn file(&mut self, completed: &CompletedFile) -> String {
        let file = &completed.file;
        let slow_ns = nanoseconds(self.options.slow_after);
        self.summary.add(completed, slow_ns);
        let quiet = self.options.verbosity == Verbosity::Quiet;
        let word = match completed.status {
            FileStatus::NotRun => return String::new(),
            FileStatus::Passed if file.tests.is_empty() => self.styles.warning("NONE"),
            FileStatus::Passed => self.styles.success("PASS"),
            FileStatus::Failed => self.styles.failure("FAIL"),
            FileStatus::TimedOut => self.styles.failure("TIME"),
            FileStatus::Crashed => self.styles.failure("CRSH"),
            FileStatus::Interrupted => self.styles.warning("INTR"),
        };
        self.ran += 1;
        if quiet
            && matches!(
                completed.status,
                FileStatus::Passed | FileStatus::Interrupted
            )
        {
            return String::new();
        }
        let counts = completed.counts().words(self.styles);
        let took = seconds(completed.duration_ns, 1);
        let path = one_line(&file.path);
        let mut out = format!("{word} {path} ({counts}) {took}\n");
        out.push_str(&self.waits(&file.waits));
        out.push_str(&self.notices(&file.notices, completed.status));
        if self.is_verbose() {
            for boot in &file.boots {
                out.push_str(&self.boot(boot));
            }
        }
        if let Some(error) = &completed.error {
            out.push_str(&file_error(error, &mut self.sources, self.styles));
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
        if self.is_verbose() {
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
        let everything = self.is_verbose();
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
}

/// The line of a test that has ended, and what belongs below it.
fn test_lines(
    path: &str,
    test: &TestRecord,
    options: &HumanOptions,
    sources: &mut SourceCache,
    styles: Styles,
) -> String {
    let everything = options.verbosity == Verbosity::Verbose;
    let has_line = match test.status {
        TestStatus::Failed => true,
        // The summary has them.
        TestStatus::NotRun => false,
        _ => options.each_test && options.verbosity != Verbosity::Quiet,
    };
    if !has_line {
        return String::new();
    }
    let word = match test.status {
        TestStatus::Passed if test.is_flaky() => styles.warning("flaky"),
        TestStatus::Passed if test.details.expected_failure.is_some() => styles.warning("xfail"),
        TestStatus::Passed => styles.success("pass"),
        TestStatus::Failed => styles.failure("fail"),
        TestStatus::Skipped => styles.warning("skip"),
        TestStatus::Interrupted | TestStatus::NotRun => styles.warning("intr"),
    };
    let mut out = format!("{word} {}", address(path, &test.name));
    match (test.status, &test.message) {
        (TestStatus::Skipped, Some(reason)) => {
            let _ = write!(out, ": {}", first_line(reason));
        }
        (TestStatus::Skipped, None) => {}
        _ => {
            let _ = write!(out, " {}", seconds(test.duration_ns, 2));
        }
    }
    if test.details.attempts > 1 {
        let _ = write!(out, ", {} attempts", test.details.attempts);
    }
    if let Some(reason) = &test.details.expected_failure {
        let _ = write!(out, ": {}", first_line(reason));
    }
    if test.duration_ns >= nanoseconds(options.slow_after) {
        let _ = write!(out, " {}", styles.warning("slow"));
    }
    out.push('\n');
    if test.status == TestStatus::Failed {
        out.push_str(&failure(test, everything, sources, styles));
    } else if everything {
        out.push_str(&details(test, styles));
    }
    out
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
