//! Takes the run's events to where the user wants them: report, file, standard output.
//!
//! One thread writes, so that lines never mix and no test waits for a slow terminal.

use crate::failure::Failure;
use crate::hiargs::OutputSettings;
use crate::terminal::{self, Stream};
use camino::Utf8PathBuf;
use provium_events::{Event, Stamped, encode};
use provium_report::{Human, HumanOptions, JsonLines, Live, Sources, Verbosity, notice_line};
use std::collections::BTreeMap;
use std::io::{BufWriter, Write as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::oneshot;

/// How often what is true now only is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// A test that takes as long is marked as slow.
const SLOW_AFTER: Duration = Duration::from_secs(10);

/// The report that is written during the run.
enum Report {
    Human { report: Box<Human>, on: Stream },
    Json(JsonLines),
}

/// The live lines below the report.
struct Drawing {
    live: Live,
    on: Stream,
    drawn: Instant,
}

/// The thread that writes.
pub(crate) struct Writer(oneshot::Receiver<Result<(), Failure>>);

struct EventsFile {
    path: Utf8PathBuf,
    file: BufWriter<fs_err::File>,
}

impl Writer {
    /// Starts it; it ends with the run's last event, even if sinks are left, or when the last sink is
    /// gone. `expected` is how long files took before, by their names in events, in nanoseconds.
    pub(crate) fn start(
        settings: &OutputSettings,
        colour: bool,
        expected: BTreeMap<String, u64>,
        sources: impl Sources + Send + 'static,
        events: Receiver<Stamped>,
    ) -> Result<Self, Failure> {
        let settings = settings.clone();
        let mut file = settings.save_events.map(EventsFile::create).transpose()?;
        let builder = std::thread::Builder::new().name("output".to_owned());
        let (done, written) = oneshot::channel();
        let write = move || {
            let mut lost = None;
            let mut report = if settings.json {
                Report::Json(JsonLines::new())
            } else {
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
                    slow_after: SLOW_AFTER,
                    ..HumanOptions::default()
                };
                let report = Box::new(Human::new(options, sources));
                Report::Human { report, on }
            };
            let mut drawing = match &report {
                Report::Human { on, .. } if settings.verbosity != Verbosity::Quiet => {
                    Drawing::on(*on, Live::new(expected, SLOW_AFTER, colour))
                }
                _ => None,
            };
            while let Some(stamped) = next(&events, drawing.as_mut()) {
                let wrote = report.show(&stamped.event);
                if let Some(drawing) = &mut drawing {
                    drawing.live.event(&stamped);
                    // What was written took the lines away.
                    if wrote || drawing.is_due() {
                        drawing.draw();
                    }
                }
                // An event that is too long is shortened, so every event has its frame.
                if (settings.events_stdout || file.is_some())
                    && let Ok(bytes) = encode(&stamped)
                {
                    if settings.events_stdout {
                        terminal::out_bytes(&bytes);
                    }
                    // A full disk costs the events, not the report.
                    if let Some(Err(error)) = file.as_mut().map(|file| file.write(&bytes)) {
                        lost = Some(error);
                        file = None;
                    }
                }
                if matches!(stamped.event, Event::RunCompleted { .. }) {
                    break;
                }
            }
            let finished = file.map_or(Ok(()), EventsFile::finish);
            lost.map_or(finished, Err)
        };
        let thread = builder.spawn(move || {
            // After a second Ctrl-C the receiver is gone.
            let _ = done.send(write());
        });
        thread.map_err(|source| Failure::Host {
            what: "a thread",
            source,
        })?;
        Ok(Self(written))
    }

    /// Waits until all is written.
    pub(crate) async fn finish(self) -> Result<(), Failure> {
        let crashed = |_| {
            Err(Failure::Output {
                stream: "the report",
                source: std::io::Error::other("the thread that writes it has crashed"),
            })
        };
        self.0.await.unwrap_or_else(crashed)
    }
}

impl Report {
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
        match on {
            Stream::Out => terminal::out(&text),
            Stream::Error => terminal::error(&text),
        }
        !text.is_empty() || matches!(event, Event::Notice(_))
    }
}

/// The next event; until it comes, what is true now is drawn from time to time.
fn next(events: &Receiver<Stamped>, mut drawing: Option<&mut Drawing>) -> Option<Stamped> {
    loop {
        let Some(drawing) = &mut drawing else {
            return events.recv().ok();
        };
        match events.recv_timeout(DRAW_EVERY) {
            Ok(stamped) => return Some(stamped),
            Err(RecvTimeoutError::Timeout) => drawing.draw(),
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
}

impl Drawing {
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

impl Drop for Drawing {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_costs_the_events_and_not_the_report() {
        let settings = OutputSettings {
            verbosity: Verbosity::Quiet,
            json: true,
            save_events: Some("/dev/full".into()),
            events_stdout: false,
        };
        let (sink, events) = std::sync::mpsc::channel();
        let no_sources = |_: &str| None;
        let writer = Writer::start(&settings, false, BTreeMap::new(), no_sources, events).unwrap();
        for _ in 0..3 {
            let event = Event::FixtureCacheHit {
                path: "a".to_owned(),
            };
            // It continues to take events after the first one was lost.
            sink.send(Stamped { ts: 1, event }).unwrap();
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
    fn it_ends_with_the_last_event_while_a_sink_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::from_path_buf(folder.path().join("events")).unwrap();
        let settings = OutputSettings {
            verbosity: Verbosity::Quiet,
            json: true,
            save_events: Some(path.clone()),
            events_stdout: false,
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
        let last = Stamped { ts: 1, event };
        sink.send(last.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(writer.finish()).unwrap();
        assert!(sink.send(last).is_err(), "the receiver is gone");
        assert!(fs_err::metadata(path).unwrap().len() > 0);
    }
}
