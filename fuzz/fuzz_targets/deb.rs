//! Hostile bytes for packages of a distribution.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_image::fuzzing::deb(bytes));
