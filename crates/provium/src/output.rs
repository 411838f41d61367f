//! Takes the run's events to where the user wants them: report, file, standard output.
//!
//! One thread writes, so that lines never mix and no test waits for a slow terminal.

use crate::failure::Failure;
use crate::hiargs::{JUnitPath, OutputSettings};
use crate::terminal::{self, Stream};
use camino::Utf8PathBuf;
use provium_events::{Event, TimedEvent, encode};
use provium_report::{
    FailedTests, Human, HumanOptions, JUnit, JUnitFile, JsonLines, Live, Sources, Verbosity,
    notice_line,
};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How often what is true now only is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// The report that is written during the run.
enum Report {
    Human { report: Box<Human>, on: Stream },
    Json(JsonLines),
}

/// The live lines below the report.
struct LiveDisplay {
    live: Live,
    on: Stream,
    drawn: Instant,
}

/// The thread that writes.
pub(crate) struct Writer {
    written: oneshot::Receiver<Result<FailedTests, Failure>>,
    /// All events were sent.
    over: Arc<AtomicBool>,
}

struct EventsFile {
    path: Utf8PathBuf,
    file: BufWriter<fs_err::File>,
}

impl Writer {
    /// Starts it; it ends when the last sink is gone, or with [`finish`](Self::finish). `expected` is how
    /// long files took before, by their names in events, in nanoseconds.
    pub(crate) fn start(
        settings: &OutputSettings,
        colour: bool,
        expected: BTreeMap<String, u64>,
        sources: impl Sources + Send + 'static,
        events: Receiver<TimedEvent>,
    ) -> Result<Self, Failure> {
        let settings = settings.clone();
        let mut outputs = Outputs {
            events_stdout: settings.events_stdout,
            file: settings
                .save_events
                .clone()
                .map(EventsFile::create)
                .transpose()?,
            junit: settings
                .junit
                .clone()
                .map(JUnitReport::create)
                .transpose()?,
            failed: FailedTests::default(),
            lost: None,
        };
        let over = Arc::new(AtomicBool::new(false));
        let (is_over, (done, written)) = (Arc::clone(&over), oneshot::channel());
        let builder = std::thread::Builder::new().name("output".to_owned());
        let write = move || {
            let mut report = Report::new(&settings, colour, sources);
            let mut drawing = match &report {
                Report::Human { on, .. } if settings.verbosity != Verbosity::Quiet => {
                    LiveDisplay::on(*on, Live::new(expected, settings.slow_after, colour))
                }
                _ => None,
            };
            let mut run_is_over = false;
            while let Some(stamped) = next(&events, drawing.as_mut(), &is_over) {
                // The end of a run is its last event; what is torn down after it is not reported.
                match stamped.event {
                    Event::RunStarted { .. } => run_is_over = false,
                    _ if run_is_over => continue,
                    Event::RunCompleted { .. } => run_is_over = true,
                    _ => {}
                }
                let wrote = report.show(&stamped.event);
                if let Some(drawing) = &mut drawing {
                    drawing.live.event(&stamped);
                    // What was written took the lines away.
                    if wrote || drawing.is_due() {
                        drawing.draw();
                    }
                }
                outputs.take(&stamped);
            }
            drop(drawing);
            report.finish();
            outputs.finish()
        };
        let thread = builder.spawn(move || {
            // After a second Ctrl-C the receiver is gone.
            let _ = done.send(write());
        });
        thread.map_err(|source| Failure::Host {
            what: "a thread",
            source,
        })?;
        Ok(Self { written, over })
    }

    /// Waits until all is written that was sent; gives the tests that did not pass.
    pub(crate) async fn finish(self) -> Result<FailedTests, Failure> {
        // A file that was abandoned may still have a sink.
        self.over.store(true, Ordering::Relaxed);
        let crashed = |_| {
            Err(Failure::Output {
                stream: "the report",
                source: std::io::Error::other("the thread that writes it has crashed"),
            })
        };
        self.written.await.unwrap_or_else(crashed)
    }
}

/// Where events go beside the report.
struct Outputs {
    events_stdout: bool,
    file: Option<EventsFile>,
    junit: Option<JUnitReport>,
    failed: FailedTests,
    /// The first thing that could not be written.
    lost: Option<Failure>,
}

impl Outputs {
    fn take(&mut self, stamped: &TimedEvent) {
        self.failed.event(&stamped.event);
        if let Some(junit) = &mut self.junit {
            junit.report.event(&stamped.event);
        }
        // An event that is too long is shortened, so every event has its frame.
        if (self.events_stdout || self.file.is_some())
            && let Ok(bytes) = encode(stamped)
        {
            if self.events_stdout {
                terminal::out_bytes(&bytes);
            }
            // A full disk costs the events, not the report.
            if let Some(Err(error)) = self.file.as_mut().map(|file| file.write(&bytes)) {
                self.lost = Some(error);
                self.file = None;
            }
        }
    }

    fn finish(self) -> Result<FailedTests, Failure> {
        let junit = self.junit.map_or(Ok(()), JUnitReport::finish);
        let file = self.file.map_or(Ok(()), EventsFile::finish);
        self.lost.map_or(Ok(()), Err)?;
        junit.and(file).map(|()| self.failed)
    }
}

impl Report {
    fn new(
        settings: &OutputSettings,
        colour: bool,
        sources: impl Sources + Send + 'static,
    ) -> Self {
        if settings.json {
            return Self::Json(JsonLines::new());
        }
        let on = match settings.events_stdout {
            true => Stream::Error,
            false => Stream::Out,
        };
        let is_verbose = settings.verbosity == Verbosity::Verbose;
        let options = HumanOptions {
            verbosity: settings.verbosity,
            colour,
            // On a terminal the live lines show what runs.
            each_test: is_verbose || terminal::size(on).is_none(),
            slow_after: settings.slow_after,
            shuffle: settings.shuffle,
            repeated: settings.repetition.is_repeated(),
        };
        let report = Box::new(Human::new(options, sources));
        Self::Human { report, on }
    }

    /// Writes what there is to say after the last event.
    fn finish(&self) {
        if let Self::Human { report, on } = self {
            write(*on, &report.finish());
        }
    }

    /// Writes what there is to say; whether there was something.
    fn show(&mut self, event: &Event) -> bool {
        if let Event::Notice(notice) = event {
            // What takes time is said while it takes it, in every form of report.
            terminal::error(&notice_line(notice));
        }
        let (text, on) = match self {
            Self::Human { report, on } => (report.event(event), *on),
            Self::Json(report) => (report.event(event), Stream::Out),
        };
        write(on, &text);
        !text.is_empty() || matches!(event, Event::Notice(_))
    }
}

fn write(on: Stream, text: &str) {
    match on {
        Stream::Out => terminal::out(text),
        Stream::Error => terminal::error(text),
    }
}

/// The next event; until it comes, what is true now is drawn from time to time.
fn next(
    events: &Receiver<TimedEvent>,
    mut drawing: Option<&mut LiveDisplay>,
    is_over: &AtomicBool,
) -> Option<TimedEvent> {
    loop {
        match events.recv_timeout(DRAW_EVERY) {
            Ok(stamped) => return Some(stamped),
            Err(RecvTimeoutError::Timeout) if is_over.load(Ordering::Relaxed) => return None,
            Err(RecvTimeoutError::Timeout) => {
                if let Some(drawing) = &mut drawing {
                    drawing.draw();
                }
            }
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl LiveDisplay {
    fn on(on: Stream, live: Live) -> Option<Self> {
        terminal::size(on)?;
        let drawn = Instant::now();
        Some(Self { live, on, drawn })
    }

    fn is_due(&self) -> bool {
        self.drawn.elapsed() >= DRAW_EVERY
    }

    fn draw(&mut self) {
        self.drawn = Instant::now();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let now = i64::try_from(now.as_nanos()).unwrap_or(i64::MAX);
        if let Some(size) = terminal::size(self.on) {
            terminal::draw(self.on, &self.live.lines(now, size));
        }
    }
}

impl Drop for LiveDisplay {
    fn drop(&mut self) {
        terminal::end();
    }
}

impl EventsFile {
    fn create(path: Utf8PathBuf) -> Result<Self, Failure> {
        match fs_err::File::create(path.as_std_path()) {
            Ok(file) => Ok(Self {
                path,
                file: BufWriter::new(file),
            }),
            Err(source) => Err(Failure::Events { path, source }),
        }
    }

    /// Every event is in the file at once: a reader that follows the file sees it, and a run that is
    /// killed leaves all its events.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let written = self.file.write_all(bytes).and_then(|()| self.file.flush());
        written.map_err(|source| Failure::Events {
            path: self.path.clone(),
            source,
        })
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.write(&[])
    }
}

/// The JUnit report and the files it is written to.
struct JUnitReport {
    path: JUnitPath,
    file: fs_err::File,
    report: JUnit,
}

impl JUnitReport {
    /// Replaces an older report. One that cannot be written is found before any test runs.
    fn create(path: JUnitPath) -> Result<Self, Failure> {
        let refused = |source| Failure::Report {
            path: path.file.clone(),
            source,
        };
        let file = fs_err::File::create(path.file.as_std_path()).map_err(refused)?;
        match fs_err::remove_dir_all(path.attachments()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(refused(error));
            }
            _ => {}
        }
        let report = JUnit::new(path.folder.clone());
        Ok(Self { path, file, report })
    }

    fn finish(mut self) -> Result<(), Failure> {
        let written = self.report.finish().map_err(std::io::Error::other);
        let written = written.and_then(|(document, attachments)| {
            self.file.write_all(&document)?;
            if attachments.is_empty() {
                return Ok(());
            }
            let folder = self.path.attachments();
            fs_err::create_dir_all(&folder)?;
            let write = |file: &JUnitFile| fs_err::write(folder.join(&file.name), &file.content);
            attachments.iter().try_for_each(write)
        });
        written.map_err(|source| Failure::Report {
            path: self.path.file.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hiargs::Repetition;

    fn settings() -> OutputSettings {
        OutputSettings {
            verbosity: Verbosity::Quiet,
            json: true,
            junit: None,
            save_events: None,
            events_stdout: false,
            repetition: Repetition {
                times: Some(1),
                until_fail: false,
                fail_flaky: false,
            },
            shuffle: None,
            slow_after: Duration::from_secs(10),
        }
    }

    #[test]
    fn a_full_disk_costs_the_events_and_not_the_report() {
        let settings = OutputSettings {
            save_events: Some("/dev/full".into()),
            ..settings()
        };
        let (sink, events) = std::sync::mpsc::channel();
        let no_sources = |_: &str| None;
        let writer = Writer::start(&settings, false, BTreeMap::new(), no_sources, events).unwrap();
        for _ in 0..3 {
            let event = Event::FixtureCacheHit {
                path: "a".to_owned(),
            };
            // It continues to take events after the first one was lost.
            sink.send(TimedEvent { ts: 1, event }).unwrap();
        }
        drop(sink);
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        let written = runtime.unwrap().block_on(writer.finish());
        assert!(
            matches!(written, Err(Failure::Events { .. })),
            "{written:?}"
        );
    }

    #[test]
    fn it_ends_when_all_was_sent_while_a_sink_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("events")).unwrap();
        let settings = OutputSettings {
            save_events: Some(path.clone()),
            ..settings()
        };
        let (sink, events) = std::sync::mpsc::channel();
        let no_sources = |_: &str| None;
        let writer = Writer::start(&settings, false, BTreeMap::new(), no_sources, events).unwrap();
        let event = Event::RunCompleted {
            passed: 1,
            failed: 0,
            skipped: 0,
            interrupted: 0,
            not_run: 0,
            flaky: 0,
            duration_ns: 1,
        };
        let last = TimedEvent { ts: 1, event };
        sink.send(last.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(writer.finish()).unwrap();
        assert!(sink.send(last).is_err(), "the receiver is gone");
        assert!(fs_err::metadata(path).unwrap().len() > 0);
    }
}
