//! Hostile bytes for QEMU's machine protocol.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_qmp::fuzzing::stream(bytes));
