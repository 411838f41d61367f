//! The part of Lua's `io` library that could block, or write to the run's own output.
//!
//! Lua's own stays for regular files. What may block (standard input, pipes, terminals,
//! the commands of `io.popen`) is a [`HostFile`]: its calls wait as those of a guest do, so that time
//! limits hold and the file's other tasks run. Standard output and standard error are the test's log.

mod file;
mod formats;
mod install;
mod open;
mod source;

pub(crate) use install::install;
