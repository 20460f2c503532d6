#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| stopgap_fuzz::check("rules", octets));
