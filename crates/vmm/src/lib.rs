//! From a machine's specification to a running QEMU, and its end.
