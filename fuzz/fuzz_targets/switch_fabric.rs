//! Any series of actions on a switch: no frame is lost without a reason.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_switch::fuzzing::fabric(bytes));
