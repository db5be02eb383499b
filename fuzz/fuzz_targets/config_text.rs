//! See `natshook_fuzz::config_text`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natshook_fuzz::config_text::check(bytes));
