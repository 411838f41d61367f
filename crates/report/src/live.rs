//! What a run is doing right now, for a terminal: the files that run, and a last line with the totals.
//!
//! Takes the same events as the other reports, and gives lines on demand, as often as they are to be
//! drawn; the time is passed in. It draws nothing and knows nothing of cursors: the executable draws its
//! lines and removes them again.

use crate::counts::Counts;
use crate::eta::{RemainingWork, remaining};
use crate::styles::Styles;
use crate::text::seconds;
use provium_events::printable::clean;
use provium_events::{BlockReason, Event, Resources, TestStatus, TimedEvent, counted};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// The state of a run, as far as it is shown during the run.
#[derive(Debug)]
pub struct Live {
    styles: Styles,
    /// How long files took before, nanoseconds.
    expected: BTreeMap<String, u64>,
    files: usize,
    waiting: BTreeSet<String>,
    running: BTreeMap<String, RunningFileState>,
    /// How long those took that are through.
    done: Vec<u64>,
    counts: Counts,
    slow_after: Duration,
    /// What is taken of the pool, and what is left.
    pool: Option<(Resources, Resources)>,
    /// The host is too busy for a further file.
    held_back: bool,
    over: bool,
}

#[derive(Debug, Default)]
struct RunningFileState {
    since: i64,
    /// Those that have begun and not ended, and when they began.
    tests: Vec<(String, i64)>,
    /// How many there are of each name: tests that run side by side have copies.
    vms: BTreeMap<String, u64>,
}

impl RunningFileState {
    fn vms(&self) -> u64 {
        self.vms.values().sum()
    }
}

/// The part of the terminal that may be drawn on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns of a line.
    pub columns: usize,
    /// Lines, the last one with the totals among them.
    pub lines: usize,
}

impl Live {
    /// A run that has not begun, of files that took so long before (by their names in events, in
    /// nanoseconds). A test that takes at least `slow_after` is marked.
    pub fn new(expected: BTreeMap<String, u64>, slow_after: Duration, colour: bool) -> Self {
        Self {
            styles: Styles::new(colour),
            expected,
            files: 0,
            waiting: BTreeSet::new(),
            running: BTreeMap::new(),
            done: Vec::new(),
            counts: Counts::default(),
            slow_after,
            pool: None,
            held_back: false,
            over: false,
        }
    }

    /// Updates the state by an event.
    pub fn event(&mut self, stamped: &TimedEvent) {
        match &stamped.event {
            Event::RunStarted { .. } => self.begin(),
            Event::FileDiscovered { path, .. } => {
                self.files += 1;
                self.waiting.insert(path.clone());
            }
            Event::FileBlocked { reason, .. } => {
                self.held_back = *reason == BlockReason::PsiPressure;
            }
            Event::FileDispatched { path, .. } => {
                self.held_back = false;
                self.waiting.remove(path);
                let running = RunningFileState {
                    since: stamped.ts,
                    ..RunningFileState::default()
                };
                self.running.insert(path.clone(), running);
            }
            Event::FileCompleted {
                path, duration_ns, ..
            } => {
                self.waiting.remove(path);
                if self.running.remove(path).is_some() {
                    self.done.push(*duration_ns);
                }
            }
            Event::TestStarted { path, name, .. } => {
                if let Some(file) = self.running.get_mut(path) {
                    file.tests.push((name.clone(), stamped.ts));
                }
            }
            Event::TestPassed { path, name, .. } => {
                self.test_ended(path, name, TestStatus::Passed);
            }
            Event::TestFailed { path, name, .. } => {
                self.test_ended(path, name, TestStatus::Failed);
            }
            Event::TestSkipped { path, name, .. } => {
                self.test_ended(path, name, TestStatus::Skipped);
            }
            Event::TestInterrupted { path, name, .. } => {
                self.test_ended(path, name, TestStatus::Interrupted);
            }
            Event::TestNotRun { path, name, .. } => {
                self.test_ended(path, name, TestStatus::NotRun);
            }
            Event::VmSpawned { file, vm_name, .. } => {
                if let Some(file) = self.running.get_mut(file) {
                    *file.vms.entry(vm_name.clone()).or_default() += 1;
                }
            }
            Event::VmShutdown { file, vm_name, .. } => {
                let file = self.running.get_mut(file);
                if let Some(count) = file.and_then(|file| file.vms.get_mut(vm_name)) {
                    *count = count.saturating_sub(1);
                }
            }
            Event::PoolState { used, available } => self.pool = Some((*used, *available)),
            Event::RunCompleted { .. } => self.over = true,
            _ => {}
        }
    }

    /// The lines to show at `now` (nanoseconds since 1970, as events are stamped), each no longer
    /// than the size is wide; none before the first file and after the last.
    pub fn lines(&self, now: i64, size: TerminalSize) -> Vec<String> {
        if self.over || self.files == 0 || size.lines == 0 {
            return Vec::new();
        }
        let mut files: Vec<_> = self.running.iter().collect();
        files.sort_by_key(|(path, file)| (file.since, *path));
        let for_files = size.lines - 1;
        let fits = files.len() <= for_files;
        let shown = if fits {
            files.len()
        } else {
            for_files.saturating_sub(1)
        };
        let mut lines: Vec<String> = files
            .iter()
            .take(shown)
            .map(|(path, file)| self.file(path, file, now, size.columns))
            .collect();
        if !fits && for_files > 0 {
            let more = format!("         … and {} more", files.len() - shown);
            lines.push(self.styles.dim(&cut(&more, size.columns)));
        }
        lines.push(cut(&self.totals(now), size.columns));
        lines
    }

    fn file(&self, path: &str, file: &RunningFileState, now: i64, columns: usize) -> String {
        let vms = match file.vms() {
            0 => String::new(),
            count => format!("  {}", counted(count, "VM")),
        };
        let took = seconds(elapsed(file.since, now), 1);
        let mut text = format!("{took:>8} {}", one_line(path));
        let mut is_slow = false;
        if let Some((test, since)) = file.tests.first() {
            let _ = write!(text, " › {}", one_line(test));
            let slow_after = u64::try_from(self.slow_after.as_nanos()).unwrap_or(u64::MAX);
            is_slow = elapsed(*since, now) >= slow_after;
        }
        let more = file.tests.len().saturating_sub(1);
        if more > 0 {
            let _ = write!(text, " and {more} more");
        }
        let slow = if is_slow { "  slow" } else { "" };
        let columns_left = columns.saturating_sub(vms.width() + slow.width());
        let text = cut(&text, columns_left);
        let slow = cut(slow, columns.saturating_sub(text.width()));
        let vms = cut(&vms, columns.saturating_sub(text.width() + slow.width()));
        text + &self.styles.warning(&slow) + &self.styles.dim(&vms)
    }

    fn totals(&self, now: i64) -> String {
        let through = self.files - self.waiting.len() - self.running.len();
        let mut text = format!("{through}/{} files", self.files);
        if self.counts != Counts::default() {
            let _ = write!(text, "; {}", self.counts.words(Styles::new(false)));
        }
        let vms: u64 = self.running.values().map(RunningFileState::vms).sum();
        let _ = write!(text, "; {}", counted(vms, "VM"));
        if let Some((used, available)) = self.pool {
            let gibibytes = |bytes: u64| bytes as f64 / f64::from(1 << 30);
            let memory = gibibytes(used.memory_bytes.saturating_add(available.memory_bytes));
            let _ = write!(
                text,
                "; pool {:.1} of {memory:.1}G, {} of {} vCPUs",
                gibibytes(used.memory_bytes),
                used.cpus,
                used.cpus.saturating_add(available.cpus)
            );
        }
        if self.held_back {
            text.push_str("; held back, the host is busy");
        }
        if let Some(left) = self.remaining(now) {
            let _ = write!(text, "; about {} left", words(left));
        }
        text
    }

    fn remaining(&self, now: i64) -> Option<u64> {
        let expected = |path: &String| self.expected.get(path).copied();
        let running = self.running.iter();
        remaining(&RemainingWork {
            running: running
                .map(|(path, file)| (elapsed(file.since, now), expected(path)))
                .collect(),
            waiting: self.waiting.iter().map(expected).collect(),
            done: self.done.clone(),
        })
    }

    fn test_ended(&mut self, path: &str, name: &str, status: TestStatus) {
        self.counts.add(status);
        if let Some(file) = self.running.get_mut(path) {
            file.tests.retain(|(open, _)| open != name);
        }
    }

    /// A further run begins.
    fn begin(&mut self) {
        let expected = std::mem::take(&mut self.expected);
        let mut new = Self::new(expected, self.slow_after, false);
        new.styles = self.styles;
        *self = new;
    }
}

fn elapsed(since: i64, now: i64) -> u64 {
    u64::try_from(now.saturating_sub(since)).unwrap_or(0)
}

/// A time to come, as exactly as a guess deserves.
fn words(nanoseconds: u64) -> String {
    match nanoseconds.div_ceil(1_000_000_000) {
        seconds @ ..100 => format!("{seconds}s"),
        seconds => format!("{} min", seconds.div_ceil(60)),
    }
}

/// Text that fits on a line.
fn one_line(text: &str) -> String {
    clean(text).replace(['\n', '\t'], " ")
}

/// `text`, shortened to `columns` of a terminal; a character may take two columns or none. An ellipsis
/// marks text that is shortened.
fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let Some(room) = columns.checked_sub(1) else {
        return String::new();
    };
    let mut short = String::new();
    let mut used = 0;
    for character in text.chars() {
        used += character.width().unwrap_or(0);
        if used > room {
            break;
        }
        short.push(character);
    }
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use provium_events::{BootKind, Details, FileStatus, Value};

    const SECOND: i64 = 1_000_000_000;
    const ROOM: TerminalSize = TerminalSize {
        columns: 120,
        lines: 4,
    };

    fn live() -> Live {
        let expected = [("a.test.lua", 9), ("d.test.lua", 30)];
        let expected = expected.map(|(path, seconds)| (path.to_owned(), seconds * 1_000_000_000));
        Live::new(expected.into(), Duration::from_secs(8), false)
    }

    fn tell(live: &mut Live, at: i64, event: Event) {
        live.event(&TimedEvent {
            ts: at * SECOND,
            event,
        });
    }

    fn discovered(live: &mut Live, names: &[&str]) {
        for name in names {
            let event = Event::FileDiscovered {
                path: format!("{name}.test.lua"),
                fixture_refs: vec![],
                declared_claim: None,
            };
            tell(live, 0, event);
        }
    }

    fn dispatched(live: &mut Live, at: i64, name: &str) {
        let event = Event::FileDispatched {
            path: format!("{name}.test.lua"),
            reservation: Resources::default(),
        };
        tell(live, at, event);
    }

    fn test_started(live: &mut Live, name: &str) {
        let event = Event::TestStarted {
            path: "a.test.lua".into(),
            name: name.into(),
            meta: Value::Nil,
        };
        tell(live, 1, event);
    }

    fn shown(live: &Live, at: i64, size: TerminalSize) -> String {
        live.lines(at * SECOND, size).join("\n")
    }

    #[test]
    fn running_files_and_the_sums_are_shown() {
        let mut live = live();
        assert_eq!(shown(&live, 0, ROOM), "");
        discovered(&mut live, &["a", "b", "c", "d"]);
        dispatched(&mut live, 1, "a");
        dispatched(&mut live, 2, "b");
        test_started(&mut live, "boots\nand \x1b[31mruns");
        let boot = Event::VmSpawned {
            file: "a.test.lua".into(),
            vm_name: "vm".into(),
            profile: "default".into(),
            memory_bytes: 1,
            cid: 0,
            boot: BootKind::Cold,
            boot_ns: 1,
        };
        tell(&mut live, 2, boot);
        let pool = Event::PoolState {
            used: Resources {
                memory_bytes: 3 << 29,
                cpus: 1,
            },
            available: Resources {
                memory_bytes: 5 << 29,
                cpus: 3,
            },
        };
        tell(&mut live, 3, pool);
        // Lanes: a has 9 - 5 left, b the mean 19.5 - 4; d's 30 go to a's, c's 19.5 to b's.
        insta::assert_snapshot!(shown(&live, 6, ROOM), @r"
            5.0s a.test.lua › boots and runs  1 VM
            4.0s b.test.lua
        0/4 files; 1 VM; pool 1.5 of 4.0G, 1 of 4 vCPUs; about 35s left
        ");
        let blocked = Event::FileBlocked {
            path: "c.test.lua".into(),
            waiting_for: Resources::default(),
            reason: BlockReason::PsiPressure,
        };
        tell(&mut live, 6, blocked);
        let said = "; held back, the host is busy; about 35s left";
        let wide = TerminalSize {
            columns: 200,
            ..ROOM
        };
        assert!(shown(&live, 6, wide).ends_with(said));
        let completed = Event::FileCompleted {
            path: "a.test.lua".into(),
            status: FileStatus::Passed,
            duration_ns: 1,
            error: None,
        };
        tell(&mut live, 6, completed);
        let last = shown(&live, 6, ROOM);
        assert!(
            last.contains("\n1/4 files;") && last.contains("; 0 VMs;"),
            "{last}"
        );
        let over = Event::RunCompleted {
            passed: 0,
            failed: 0,
            skipped: 0,
            interrupted: 0,
            not_run: 0,
            flaky: 0,
            duration_ns: 0,
        };
        tell(&mut live, 7, over);
        assert_eq!(shown(&live, 7, ROOM), "");
    }

    #[test]
    fn tests_side_by_side_and_their_copies_are_counted() {
        let mut live = live();
        discovered(&mut live, &["a"]);
        dispatched(&mut live, 0, "a");
        for name in ["one", "two", "three"] {
            test_started(&mut live, name);
            let copy = Event::VmSpawned {
                file: "a.test.lua".into(),
                vm_name: "vm".into(),
                profile: "default".into(),
                memory_bytes: 1,
                cid: 0,
                boot: BootKind::Snapshot,
                boot_ns: 1,
            };
            tell(&mut live, 1, copy);
        }
        let said = shown(&live, 2, ROOM);
        assert!(
            said.contains("a.test.lua › one and 2 more  3 VMs\n"),
            "{said}"
        );
        let copy_gone = Event::VmShutdown {
            file: "a.test.lua".into(),
            vm_name: "vm".into(),
            duration_ns: 1,
        };
        tell(&mut live, 2, copy_gone);
        let skipped = Event::TestSkipped {
            path: "a.test.lua".into(),
            name: "one".into(),
            reason: String::new(),
            meta: Value::Nil,
            duration_ns: 1,
            details: Details::default(),
        };
        tell(&mut live, 2, skipped);
        let said = shown(&live, 2, ROOM);
        assert!(
            said.contains("a.test.lua › two and 1 more  2 VMs\n"),
            "{said}"
        );
    }

    #[test]
    fn a_slow_test_is_marked() {
        let mut live = live();
        discovered(&mut live, &["a"]);
        dispatched(&mut live, 0, "a");
        test_started(&mut live, "waits");
        assert!(!shown(&live, 8, ROOM).contains("slow"));
        let said = shown(&live, 9, ROOM);
        assert!(said.contains("a.test.lua › waits  slow\n"), "{said}");
    }

    #[test]
    fn lines_stay_within_the_room() {
        let mut live = live();
        discovered(&mut live, &["a", "b", "c", "d"]);
        for name in ["a", "b", "c", "d"] {
            dispatched(&mut live, 1, name);
        }
        test_started(&mut live, "a näme, 名前, that is longer than any line");
        for lines in 0..6 {
            for columns in 0..60 {
                let drawn = live.lines(6 * SECOND, TerminalSize { columns, lines });
                assert!(drawn.len() <= lines);
                for line in &drawn {
                    assert!(line.width() <= columns, "{columns}: {line}");
                }
            }
        }
        let size = TerminalSize {
            columns: 30,
            lines: 3,
        };
        insta::assert_snapshot!(shown(&live, 6, size), @r"
            5.0s a.test.lua › a näme,…
                 … and 3 more
        0/4 files; 0 VMs; about 25s l…
        ");
    }
}
