//! What a test does in a guest: commands, processes, files, streams, raw syscalls, workers, the
//! console and the clock; and the waits for a guest that may not answer.

pub(crate) mod answer;
pub(crate) mod attached;
pub(crate) mod batch;
pub(crate) mod clock;
pub(crate) mod command;
pub(crate) mod console;
pub(crate) mod context;
pub(crate) mod describe;
pub(crate) mod ending;
pub(crate) mod file;
pub(crate) mod process;
pub(crate) mod raw;
pub(crate) mod stream;
pub(crate) mod surface;
pub(crate) mod tail;
pub(crate) mod unanswered;
pub(crate) mod worker;
