//! Hostile bytes for initial RAM file systems.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_image::fuzzing::cpio(bytes));
