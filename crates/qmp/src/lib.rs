//! QEMU's machine protocol: codec and client.
