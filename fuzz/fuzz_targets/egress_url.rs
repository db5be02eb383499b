//! See `natshook_fuzz::egress_url`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natshook_fuzz::egress_url::check(bytes));
