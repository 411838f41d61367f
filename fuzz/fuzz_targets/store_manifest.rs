//! Hostile bytes for manifests of cache entries.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_store::fuzzing::manifest(bytes));
