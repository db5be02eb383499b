//! See `natshook_fuzz::request_headers`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natshook_fuzz::request_headers::check(bytes));
