#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| sennit_fuzz::resequencer::run(data));
