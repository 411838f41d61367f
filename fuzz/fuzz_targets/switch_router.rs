//! Frames of the stations of a router.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_switch::fuzzing::router(bytes));
