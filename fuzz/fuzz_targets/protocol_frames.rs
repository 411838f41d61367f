//! Hostile bytes for frames between host and agent.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_protocol::fuzzing::frames(bytes));
