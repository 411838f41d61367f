//! Captured frames: as packets, as a file, and as a stream of lines.

use crate::error::LabError;
use crate::guest::stream::{
    ByteSource, ByteStream, OpenStreams, ReadFuture, Site, StreamKind, StreamParts,
};
use crate::network::bridge::Bridge;
use crate::network::captured::CapturedFrames;
use crate::resource::{ResourceId, Scope};
use camino::Utf8Path;
use provium_switch::PortId;
use provium_switch::capture::{PcapWriter, Summary, summarize};
use std::fmt::Write as _;
use std::future::poll_fn;
use std::io::{self, BufWriter};
use std::sync::Arc;

/// A capture of a bridge, or of one of its ports. It ends when it is closed.
#[derive(Clone, Debug)]
pub struct Capture {
    frames: Arc<CapturedFrames>,
    bridge: Bridge,
    lines: ByteStream,
}

/// A frame of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// When it passed, nanoseconds since 1970.
    pub time_ns: i64,
    /// The name of the member that it came from.
    pub from: String,
    /// What it contains.
    pub summary: Summary,
}

/// The frames as lines of text.
struct Lines {
    subject: String,
    frames: Arc<CapturedFrames>,
    bridge: Bridge,
    /// How many frames were given.
    given: usize,
    /// How many of the lost frames were reported.
    reported: u64,
}

impl Bridge {
    /// Captures all frames, each when it comes from its port, until the scope ends.
    ///
    /// # Errors
    /// When the bridge is closed.
    pub async fn capture(&self, scope: &Scope, site: Site) -> Result<Capture, LabError> {
        let subject = format!("capture of {}", self.subject());
        Capture::start(self, scope, None, subject, site).await
    }
}

impl Capture {
    pub(crate) async fn start(
        bridge: &Bridge,
        scope: &Scope,
        port: Option<PortId>,
        subject: String,
        site: Site,
    ) -> Result<Self, LabError> {
        let call = "capture()";
        let queue = bridge.0.switch(call)?.capture(port).await;
        let queue = queue.map_err(|error| bridge.0.stopped(call, error))?;
        let frames = Arc::new(CapturedFrames::new(port, queue));
        let source = Lines {
            subject: subject.clone(),
            frames: Arc::clone(&frames),
            bridge: bridge.clone(),
            given: 0,
            reported: 0,
        };
        let parts = StreamParts {
            kind: StreamKind::Capture,
            subject,
            site,
            source: Box::new(source),
            open: Arc::<OpenStreams>::default(),
        };
        let lines = ByteStream::open(scope, parts);
        bridge.0.note_capture(Arc::downgrade(&frames));
        Ok(Self {
            frames,
            bridge: bridge.clone(),
            lines,
        })
    }

    /// Its number.
    pub fn id(&self) -> ResourceId {
        self.lines.id()
    }

    /// One line for each frame, as it comes.
    pub fn lines(&self) -> &ByteStream {
        &self.lines
    }

    /// All frames so far, decoded.
    ///
    /// # Errors
    /// This and the following: when frames were lost, because more came than a capture keeps.
    pub async fn packets(&self) -> Result<Vec<Packet>, LabError> {
        self.take_all("packets()").await?;
        let names = PortNames::new(&self.bridge);
        let packets = self.frames.list();
        let packets = packets.iter().map(|captured| Packet {
            time_ns: i64::try_from(captured.time.as_nanos()).unwrap_or(i64::MAX),
            from: names.of(captured.from),
            summary: summarize(&captured.frame),
        });
        Ok(packets.collect())
    }

    /// Writes all frames so far to a file in the format of libpcap.
    ///
    /// # Errors
    /// Also when the file cannot be written.
    pub async fn save(&self, path: &Utf8Path) -> Result<(), LabError> {
        let call = format!("save({path:?})");
        self.take_all(&call).await?;
        let write = || -> io::Result<()> {
            let file = BufWriter::new(fs_err::File::create(path)?);
            let mut writer = PcapWriter::new(file)?;
            for captured in self.frames.list().iter() {
                writer.write(captured.time, &captured.frame)?;
            }
            writer.finish().map(drop)
        };
        write().map_err(|error| LabError::host(self.lines.subject(), &call, error))
    }

    /// Ends the capture. Closed already is fine. What it has can still be read as packets and saved. That frames were
    /// lost is not an error of this call.
    pub async fn close(&self) -> Result<(), LabError> {
        self.take_what_passed("close()").await;
        self.frames.close();
        self.lines.close().await
    }

    /// Takes all frames that have passed so far; an error if some were lost.
    async fn take_all(&self, call: &str) -> Result<(), LabError> {
        match self.take_what_passed(call).await {
            0 => Ok(()),
            lost => Err(frames_lost(self.lines.subject(), call, lost)),
        }
    }

    /// Takes all frames that have passed so far; how many were lost.
    async fn take_what_passed(&self, call: &str) -> u64 {
        // The switch answers when it has passed on what came before.
        if let Ok(switch) = self.bridge.0.switch(call) {
            let _ = switch.with(|_, _| ()).await;
        }
        self.frames.take_all()
    }
}

fn frames_lost(subject: &str, call: &str, lost: u64) -> LabError {
    let why = format!(
        "{lost} frames were lost, because more came than a capture keeps; read it more \
         often, or capture a single NIC"
    );
    LabError::invalid(subject, call, why)
}

/// The names of the members of a bridge.
struct PortNames(Vec<(PortId, String)>);

impl PortNames {
    fn new(bridge: &Bridge) -> Self {
        let entries = bridge.0.entries().into_iter();
        Self(
            entries
                .map(|entry| (entry.member.port, entry.member.name))
                .collect(),
        )
    }

    fn of(&self, port: PortId) -> String {
        let found = self.0.iter().find(|(of, _)| *of == port);
        found.map_or_else(|| port.to_string(), |(_, name)| name.clone())
    }
}

impl Lines {
    /// Reports once that more frames were lost.
    fn report(&mut self, lost: u64) -> LabError {
        let more = lost - self.reported;
        self.reported = lost;
        frames_lost(&self.subject, "read()", more)
    }
}

impl ByteSource for Lines {
    fn read(&mut self) -> ReadFuture<'_> {
        Box::pin(async {
            let (given, reported) = (self.given, self.reported);
            let more = poll_fn(|context| self.frames.poll_more(given, reported, context));
            let lost = more.await;
            let names = PortNames::new(&self.bridge);
            let frames = Arc::clone(&self.frames);
            let list = frames.list();
            let mut text = String::new();
            for captured in &list[self.given..] {
                if captured.lost_before > self.reported {
                    // What precedes the gap comes first.
                    if text.is_empty() {
                        return Err(self.report(captured.lost_before));
                    }
                    break;
                }
                // Writing to a string cannot fail.
                let _ = writeln!(
                    text,
                    "{}: {}",
                    names.of(captured.from),
                    summarize(&captured.frame).text
                );
                self.given += 1;
            }
            if !text.is_empty() {
                return Ok(Some(text.into_bytes()));
            }
            match lost > self.reported {
                true => Err(self.report(lost)),
                false => Ok(None),
            }
        })
    }
}
