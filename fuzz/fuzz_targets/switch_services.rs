//! Messages to the DHCP and DNS services.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| provium_switch::fuzzing::services(bytes));
