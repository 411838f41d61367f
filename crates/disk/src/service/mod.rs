//! The service that gives a disk to QEMU: an NBD server on a Unix socket.
//!
//! ```text
//! QEMU ── connection ──▶ thread of the connection ── without a delay ──▶ Export
//!                             │ with a delay                             ▲
//!                             └──▶ queue ──▶ thread of its delays ───────┘
//! ```
//!
//! A thread accepts, and each connection has a thread that reads requests and carries them out one after the other:
//! with the processors busy running guests, the wake-ups of a second thread would cost more than they bring. What the
//! client has sent by then is carried out as a batch, and the replies leave with one system call. The bytes of a write
//! are read into the buffer that the export gets, and an export reads into the buffer that is sent. *Measured*
//! (`benches/service.rs`, two busy processors, a plain file): about 3 times what qemu-nbd carries for 4 KiB at random
//! and for 1 MiB in sequence, and as much for writes of 64 KiB. The layers of a disk take little of that; what a write
//! costs in addition is the host's memory for a new part of the overlay.
//!
//! A command for which the export wants a delay waits in a queue of its connection, whose thread is started for the
//! first of them; commands without a delay overtake it. A connection has a bounded number of bytes in the queue, and
//! is not read from while they are exceeded. When a connection ends in the middle of a request, that is dropped; so is
//! what waits for its delay, as a drive would lose it: it was never acknowledged. After `NBD_CMD_DISC` it is carried
//! out. While QEMU stops a machine, commands are treated differently: see [`Pace`].
//!
//! The protocol is `provium_nbd`'s; this module has sockets and threads, and knows no layers of a disk.

mod connection;
mod delays;
mod disk_service;
mod pace;
mod perform;

pub use disk_service::DiskService;
pub use pace::Pace;
