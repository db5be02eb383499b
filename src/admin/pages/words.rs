//! Numbers, times and sizes as people read them. Pure.

use std::time::SystemTime;

use maud::{Markup, html};

/// What stands where a value is not known.
pub(super) const UNKNOWN: &str = "–";

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number, if it is known.
pub(super) fn known(number: Option<u64>) -> String {
    number.map_or_else(|| UNKNOWN.to_owned(), count)
}

/// So many a second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second >= 100.0 {
        format!("{}/s", count(per_second.round() as u64))
    } else {
        format!("{per_second:.1}/s")
    }
}

/// A share of one, never rounded to all or nothing.
pub(super) fn share(share: Option<f64>) -> String {
    match share {
        None => UNKNOWN.to_owned(),
        Some(share) if share >= 1.0 => "100 %".to_owned(),
        Some(share) if share <= 0.0 => "0 %".to_owned(),
        Some(share) => format!("{:.1} %", (share * 100.0).clamp(0.1, 99.9)),
    }
}

/// A time span in its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// A duration in microseconds.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0 => UNKNOWN.to_owned(),
        1..1_000 => "< 1 ms".to_owned(),
        1_000..10_000 => format!("{:.1} ms", micros as f64 / 1e3),
        10_000..1_000_000 => format!("{} ms", micros / 1_000),
        _ => format!("{:.1} s", micros as f64 / 1e6),
    }
}

/// A number of bytes.
pub(super) fn bytes(bytes: usize) -> String {
    const KIB: usize = 1 << 10;
    const MIB: usize = 1 << 20;
    match bytes {
        1 => "1 byte".to_owned(),
        0..KIB => format!("{bytes} bytes"),
        KIB..MIB => format!("{:.1} KiB", bytes as f64 / KIB as f64),
        _ => format!("{:.1} MiB", bytes as f64 / MIB as f64),
    }
}

/// A moment, in UTC.
pub(super) fn moment(time: SystemTime) -> Markup {
    let exact = humantime::format_rfc3339_millis(time).to_string();
    let day = exact.get(..10).unwrap_or_default();
    let clock = exact.get(11..19).unwrap_or_default();
    html! { time datetime=(exact) title=(exact) { (day) " " (clock) " UTC" } }
}

/// A moment that may not be known.
pub(super) fn known_moment(time: Option<SystemTime>) -> Markup {
    time.map_or_else(|| html! { (UNKNOWN) }, moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_as_people_read_them() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 9.96, 1_234.5].map(rate), ["0.0/s", "10.0/s", "1,235/s"]);
        assert_eq!(
            [Some(1.0), Some(0.9999), Some(0.0001), None].map(share),
            ["100 %", "99.9 %", "0.1 %", "–"]
        );
        assert_eq!([9, 61, 3_700, 90_000].map(span), ["9 s", "1 min 1 s", "1 h 1 min", "1 d 1 h"]);
        assert_eq!([0, 5, 1_500, 30_500, 1_500_000].map(micros), ["–", "< 1 ms", "1.5 ms", "30 ms", "1.5 s"]);
        assert_eq!(
            [0, 1, 1_023, 1_536, 3 << 20].map(bytes),
            ["0 bytes", "1 byte", "1023 bytes", "1.5 KiB", "3.0 MiB"]
        );
    }

    #[test]
    fn a_moment_is_readable_for_people_and_machines() {
        let html = moment(SystemTime::UNIX_EPOCH).into_string();
        assert!(
            html.contains("1970-01-01 00:00:00 UTC") && html.contains("1970-01-01T00:00:00.000Z"),
            "{html}"
        );
    }
}
