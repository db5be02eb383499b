//! See `natshook_fuzz::subject_matching`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| natshook_fuzz::subject_matching::check(bytes));
