//! Hostile bytes for the stream of events.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_events::fuzzing::stream(bytes));
