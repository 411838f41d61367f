//! Any bytes as what a peer of QEMU's stream sockets sends.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_switch::fuzzing::framing(bytes));
