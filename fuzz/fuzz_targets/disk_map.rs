//! Hostile maps of saved disks.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_disk::fuzzing::map(bytes));
