#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| drop(fleet_fuzz::expressions::run(input)));
