//! Threads for what a file's Lua code does.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Deep enough for Lua's own limit on nested calls, without optimisation, bytes.
const STACK: usize = 16 << 20;

/// Starts `work` on a thread that is fit for a file's Lua code.
///
/// # Errors
/// When the host has no thread left.
pub fn file_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let builder = Builder::new().name("test file".to_owned());
    builder.stack_size(STACK).spawn(work)
}
