//! See `natshook_fuzz::retry_after`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natshook_fuzz::retry_after::check(bytes));
