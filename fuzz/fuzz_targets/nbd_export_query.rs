//! Hostile bytes of an NBD server that is asked what it exports.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_nbd::fuzzing::export_query(bytes));
