//! Hostile bytes for the records of a directory tree.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_protocol::fuzzing::tree(bytes));
