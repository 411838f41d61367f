//! Hostile bytes for kernels, packed or not.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_image::fuzzing::kernel(bytes));
