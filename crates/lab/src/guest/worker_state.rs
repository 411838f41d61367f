//! What the handles in a worker share: which process it is, whether it is gone, and its streams.

use crate::guest::stream::{ByteStream, WeakStream};
use crate::lock::lock;
use crate::resource::{HandleEpoch, ResourceId, Timeline};
use provium_protocol::Lane;
use std::sync::Mutex;

/// A worker, as the handles in it see it.
#[derive(Debug)]
pub(crate) struct WorkerState {
    /// The worker's number.
    pub(crate) id: ResourceId,
    pub(crate) lane: Lane,
    /// Its process id in the guest.
    pub(crate) pid: u32,
    /// When it was started.
    pub(crate) epoch: HandleEpoch,
    /// Why it is gone, and since when. It exists again if the VM is restored to a time before that.
    gone: Mutex<Option<(&'static str, HandleEpoch)>>,
    /// Tails of its files and descriptors.
    tails: Mutex<Vec<WeakStream>>,
    /// Streams of what its commands print, which the harness has captured.
    outputs: Mutex<Vec<WeakStream>>,
}

impl WorkerState {
    pub(crate) fn new(id: ResourceId, lane: Lane, pid: u32, epoch: HandleEpoch) -> Self {
        Self {
            id,
            lane,
            pid,
            epoch,
            gone: Mutex::default(),
            tails: Mutex::default(),
            outputs: Mutex::default(),
        }
    }

    /// The state of the same worker in a clone of its VM.
    pub(crate) fn copy(&self) -> Self {
        Self {
            gone: Mutex::new(*lock(&self.gone)),
            ..Self::new(self.id, self.lane, self.pid, self.epoch)
        }
    }

    /// Why it is gone; `None` if it is there.
    pub(crate) fn why_gone(&self, timeline: &Timeline) -> Option<&'static str> {
        let (why, since) = (*lock(&self.gone))?;
        timeline.is_valid(since).then_some(why)
    }

    /// Marks it gone; false if it was already.
    pub(crate) fn leave(&self, timeline: &Timeline, why: &'static str) -> bool {
        let mut gone = lock(&self.gone);
        if gone.is_some_and(|(_, since)| timeline.is_valid(since)) {
            return false;
        }
        *gone = Some((why, timeline.mark()));
        true
    }

    /// Adds a stream that reads one of the worker's files or descriptors: it ends with the worker.
    pub(crate) fn adopt_tail(&self, stream: &ByteStream) {
        add(&self.tails, stream);
    }

    /// Adds a stream of a command's output: what was printed can be read after the worker's end.
    pub(crate) fn adopt_output(&self, stream: &ByteStream) {
        add(&self.outputs, stream);
    }

    /// The worker has ended: its tails end, and its other streams no longer need the guest.
    pub(crate) async fn end_streams(&self) {
        let tails = std::mem::take(&mut *lock(&self.tails));
        for stream in tails.iter().filter_map(WeakStream::upgrade) {
            stream.end().await;
        }
        let outputs = std::mem::take(&mut *lock(&self.outputs));
        for stream in outputs.iter().filter_map(WeakStream::upgrade) {
            stream.leave_guest();
        }
    }
}

fn add(streams: &Mutex<Vec<WeakStream>>, stream: &ByteStream) {
    let mut streams = lock(streams);
    streams.retain(|stream| stream.upgrade().is_some_and(|stream| !stream.is_closed()));
    streams.push(stream.downgrade());
}
