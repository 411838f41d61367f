//! Takes the run's events to where the user wants them: report, file, standard output.
//!
//! One thread writes, so that lines never mix and no test waits for a slow terminal.

use crate::failure::Failure;
use crate::hiargs::OutputSettings;
use crate::terminal;
use camino::Utf8PathBuf;
use provium_events::{Event, Stamped, encode};
use provium_report::{Human, HumanOptions, JsonLines, Sources};
use std::io::{BufWriter, Write as _};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;

/// What is shown as the run goes on.
enum Report {
    Human { report: Box<Human>, to_stderr: bool },
    Json(JsonLines),
}

/// The thread that writes.
pub(crate) struct Writer(JoinHandle<Result<(), Failure>>);

struct EventsFile {
    path: Utf8PathBuf,
    file: BufWriter<fs_err::File>,
}

impl Writer {
    /// Starts it; it ends when the last sink is gone.
    pub(crate) fn start(
        settings: &OutputSettings,
        colour: bool,
        sources: impl Sources + Send + 'static,
        events: Receiver<Stamped>,
    ) -> Result<Self, Failure> {
        let settings = settings.clone();
        let mut file = settings.save_events.map(EventsFile::create).transpose()?;
        let builder = std::thread::Builder::new().name("output".to_owned());
        let thread = builder.spawn(move || {
            let mut report = if settings.json {
                Report::Json(JsonLines::new())
            } else {
                let options = HumanOptions {
                    verbosity: settings.verbosity,
                    colour,
                };
                let report = Box::new(Human::new(options, sources));
                Report::Human {
                    report,
                    to_stderr: settings.events_stdout,
                }
            };
            for stamped in events {
                report.show(&stamped.event);
                // Too long for a frame: an attachment that no reader would take either.
                let Ok(bytes) = encode(&stamped) else {
                    continue;
                };
                if settings.events_stdout {
                    terminal::out_bytes(&bytes);
                }
                if let Some(file) = &mut file {
                    file.write(&bytes)?;
                }
            }
            file.map_or(Ok(()), EventsFile::finish)
        });
        let thread = thread.map_err(|source| Failure::Host {
            what: "a thread",
            source,
        })?;
        Ok(Self(thread))
    }

    /// Waits until all is written.
    pub(crate) fn finish(self) -> Result<(), Failure> {
        // A panic was printed by the thread itself.
        self.0.join().unwrap_or(Ok(()))
    }
}

impl Report {
    fn show(&mut self, event: &Event) {
        match self {
            Self::Human {
                report,
                to_stderr: false,
            } => terminal::out(&report.event(event)),
            Self::Human {
                report,
                to_stderr: true,
            } => terminal::error(&report.event(event)),
            Self::Json(report) => terminal::out(&report.event(event)),
        }
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

    /// Every event is in the file at once: whoever follows it sees it, and a run that is killed
    /// leaves all that happened.
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
