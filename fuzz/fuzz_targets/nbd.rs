//! Hostile bytes of an NBD client.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_nbd::fuzzing::connection(bytes));
