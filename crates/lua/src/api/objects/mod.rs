//! The objects that authors handle, one file each.
//!
//! | object | made by |
//! |---|---|
//! | `lab` | `provium`, `lab:lab()` |
//! | `vm` | `lab:vm()` |
//! | `worker` | `vm:spawn_worker()` |
//! | `process` | `run_async()` |
//! | `result` | `run()`, `process:wait()` |
//! | `file` | `open_file()` |
//! | `stream` | `tail_file()`, `fd_stream()`, `process:stdout_stream()`, `console:read()` … |
//! | `connection` | `connect()` |
//! | `pending` | `syscall_async()` |
//! | `bridge` (in `network`) | `lab:bridge()` |
//! | `nic` (in `network`) | `bridge:nic()`, `vm:nic()` |
//! | `port`, `capture` (in `network`) | `bridge:port()`, `bridge:capture()` |
//! | `disk` | `vm:disk()`, `vm:attach_disk()` |
//! | `crash_image` (in `disk`) | `disk:crash_states()` |
//! | `console`, `clock` | `vm:console()`, `vm:clock()` |
//! | `snapshot`, `lab_snapshot` | `vm:snapshot()`, `lab:snapshot()` |
//! | `task` | `co.spawn()` |
//!
//! `handles` holds labs, VMs and workers, `surface` what `vm` and `worker` share, `value` the rule that a resource is
//! one Lua value.

mod batch;
mod clock;
mod command;
mod connection;
mod console;
mod disk;
mod file;
mod fixture;
mod handles;
mod install;
mod lab;
mod metadata;
mod network;
mod paths;
mod pending;
mod process;
mod result;
mod server;
mod settings;
mod snapshot;
mod stream;
mod surface;
mod syscall;
mod syscall_result;
mod task;
mod tree;
mod value;
mod vm;
mod vm_options;
mod worker;

pub(crate) use fixture::{FixtureBuilder, FixtureScript};
pub(crate) use install::install;
pub(crate) use snapshot::taken_from;
pub(crate) use task::{outcome, start};
