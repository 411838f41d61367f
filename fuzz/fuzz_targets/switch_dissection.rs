//! Any bytes as a frame that is summarised.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_switch::fuzzing::dissection(bytes));
