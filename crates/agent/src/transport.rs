//! The way to the host: a virtio-serial port, or a UART.

use std::os::fd::OwnedFd;

/// The byte stream to the host.
pub(crate) struct Transport {
    /// Non-blocking, close-on-exec, for reading and writing.
    pub(crate) fd: OwnedFd,
    /// What it is.
    pub(crate) kind: TransportKind,
}

/// What carries the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TransportKind {
    /// A virtio-serial port. `poll(2)` says `POLLHUP` for as long as the host's end is closed.
    Virtio,
    /// A 16550 UART in raw mode. What was said before the host listened is lost.
    Uart,
}

/// Waits until there is a way to the host.
pub(crate) fn wait_for() -> Transport {
    loop {}
}
