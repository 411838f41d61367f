//! A running switch: a thread that moves frames between sockets of QEMU and a [`Fabric`](crate::Fabric).
//!
//! ```text
//! QEMU ◀── stream socket ──▶ connection.rs ──▶ event_loop.rs ──▶ Fabric
//! router_task.rs ◀──────────── queues ────────────┤   ▲
//! script, capture ◀─────────── queues ────────────┘   ▲     last frames: recent.rs
//! Switch (handle.rs) ── closures, wake-up ────────────┘
//! ```
//!
//! One thread does all of it, so a frame passes from one socket to another without a lock and without
//! waiting for another task, and delays are as exact as the kernel's timers. What a round of the loop
//! delivers to one socket is written with one system call.
//!
//! A receiver that does not read does not delay others: what exceeds its buffer is dropped and counted.

mod capture;
mod clock;
mod connection;
mod event_loop;
mod handle;
mod owned_port;
mod recent;
mod router_task;

pub use capture::{CAPTURE_LIMIT, Capture, CapturedFrame, FRAME_OVERHEAD};
pub use connection::OUTPUT_LIMIT;
pub use event_loop::{FRAME_QUEUE, FrozenSwitch};
pub use handle::{PortSender, StartError, Switch, SwitchStopped};
pub use owned_port::{OpenError, OwnedPort, PortSource};
pub use recent::{FrameOutcome, RECENT_BYTES, RECENT_FRAMES, RecentFrame};
pub use router_task::RouterTask;
