//! A receiver's `Retry-After`: never longer than an hour, never nothing, and as RFC 9110, 10.2.3 reads it.

use std::time::{Duration, UNIX_EPOCH};

use natshook::outcome::retry_after;

const HOUR: u64 = 3600;

/// The first four bytes are the time, in seconds since 1970; the rest is the value.
pub fn check(bytes: &[u8]) {
    let Some((now, value)) = bytes.split_first_chunk::<4>() else { return };
    let value = String::from_utf8_lossy(value);
    let now = UNIX_EPOCH + Duration::from_secs(u32::from_le_bytes(*now).into());
    let wait = retry_after(&value, now);
    assert!(
        wait.is_none_or(|wait| wait <= Duration::from_secs(HOUR) && !wait.is_zero()),
        "{value:?}: {wait:?}"
    );
    assert_eq!(retry_after(&format!(" {value}\t"), now), wait, "white space around {value:?}");
    let text = value.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let significant = text.trim_start_matches('0');
        // Four digits are more than an hour already, so no larger type is needed to compare.
        let seconds = if significant.len() > 4 { HOUR } else { significant.parse().unwrap_or(0).min(HOUR) };
        let expected = (seconds > 0).then_some(Duration::from_secs(seconds));
        assert_eq!(wait, expected, "{value:?}");
    } else if let Some(wait) = wait {
        let date = httpdate::parse_http_date(text);
        let date =
            date.unwrap_or_else(|_| panic!("{value:?} is neither a number nor a date, and waits {wait:?}"));
        assert!(date > now && wait <= date.duration_since(now).unwrap_or_default(), "{value:?}: {wait:?}");
    }
}
