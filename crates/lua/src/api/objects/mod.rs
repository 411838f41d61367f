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
//! | `bridge` (`bridge_members`, `bridge_rules`, `bridge_faults`) | `lab:bridge()` |
//! | `nic` | `bridge:nic()`, `vm:nic()` |
//! | `port`, `capture` | `bridge:port()`, `bridge:capture()` |
//! | `disk` (`disk_faults`, `disk_power`, `disk_options`) | `vm:disk()`, `vm:attach_disk()` |
//! | `console`, `clock` | `vm:console()`, `vm:clock()` |
//! | `snapshot`, `lab_snapshot` | `vm:snapshot()`, `lab:snapshot()` |
//! | `task` | `co.spawn()` |
//!
//! `handles` holds labs, VMs and workers, `network_handles` bridges, NICs and ports, `disk_handles` disks, `surface`
//! what `vm` and `worker` share, `value` the rule that a resource is one Lua value.

mod batch;
mod bridge;
mod bridge_faults;
mod bridge_members;
mod bridge_rules;
mod capture;
mod clock;
mod command;
mod connection;
mod console;
mod crash_states;
mod disk;
mod disk_faults;
mod disk_handles;
mod disk_options;
mod disk_power;
mod file;
mod fixture;
mod handles;
mod install;
mod lab;
mod metadata;
mod network_handles;
mod nic;
mod paths;
mod pending;
mod port;
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
