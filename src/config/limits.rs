//! What a key is when nobody sets it, and what it may be. `check` judges by these values and `raw` puts them into the
//! schema, so that what is shown is what holds. Nothing is judged here.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroUsize,
    ops::RangeInclusive,
    time::Duration,
};

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

pub(super) const NAME: &str = "natshook";
pub(super) const SOURCE: &str = "jetstream";
pub(super) const SERVER: &str = "nats://127.0.0.1:4222";
/// The client library's own.
pub(super) const INBOX_PREFIX: &str = "_INBOX";
pub(super) const STREAM: &str = "EVENTS";
pub(super) const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8822);
pub(super) const METHOD: &str = "POST";
pub(super) const START: &str = "new";
pub(super) const ORDER: &str = "none";
/// A subject cannot have more tokens: the server's `max_control_line` is 4 KiB unless set.
pub(super) const ORDER_TOKEN: RangeInclusive<u64> = 1..=2048;

pub(super) const GRACE_PERIOD_DEFAULT: Duration = Duration::from_secs(35);
pub(super) const GRACE_PERIOD: RangeInclusive<Duration> = Duration::ZERO..=HOUR;

/// On how many servers JetStream can keep a stream.
pub(super) const REPLICAS: RangeInclusive<u64> = 1..=5;
pub(super) const REPLICAS_DEFAULT: u64 = 1;
/// What the broker can be told: its limits are signed.
pub(super) const STREAM_BYTES: RangeInclusive<u64> = 1..=i64::MAX as u64;
pub(super) const DEAD_LETTER_AGE_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
pub(super) const DEAD_LETTER_AGE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(3650 * 86_400);

/// A shorter token could be guessed by whoever may ask often enough.
pub(super) const TOKEN_CHARS_MIN: usize = 16;

pub(super) const SHARE: RangeInclusive<f64> = 0.0..=1.0;
pub(super) const SAMPLE_RATIO_DEFAULT: f64 = 1.0;

/// TCP ports (RFC 9293, 3.1); 0 is nobody's.
pub(super) const PORT: RangeInclusive<u64> = 1..=65_535;

pub(super) const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);
/// At least: below it even a receiver on the same machine can fail for no other reason. At most: a receiver that needs
/// longer should answer first and work afterwards.
pub(super) const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(300);
pub(super) const CONCURRENCY_DEFAULT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(63);
/// Each request in flight holds a connection and its message.
pub(super) const CONCURRENCY: RangeInclusive<u64> = 1..=10_000;
pub(super) const PAYLOAD_DEFAULT: u64 = 1 << 20;
/// The most that a nats-server can be told to accept in one message.
pub(super) const PAYLOAD: RangeInclusive<u64> = 1..=64 << 20;
pub(super) const BATCH_MESSAGES_DEFAULT: u64 = 100;
/// At least: one is no batch. At most: natshook has some thousands of deliveries open, and several batches should fit.
pub(super) const BATCH_MESSAGES: RangeInclusive<u64> = 2..=1_000;
pub(super) const BATCH_BYTES_DEFAULT: u64 = 1 << 20;
/// A target's open deliveries hold 32 MiB of payloads at most, and a batch is in memory twice.
pub(super) const BATCH_BYTES: RangeInclusive<u64> = 1 << 10..=16 << 20;
pub(super) const BATCH_WAIT_DEFAULT: Duration = SECOND;
pub(super) const BATCH_WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=MINUTE;
pub(super) const BATCH_FORMAT: &str = "json-array";
pub(super) const BATCH_ANSWER: &str = "whole";
/// What can be judged otherwise: a 2xx is a success whatever else is said.
pub(super) const STATUSES: RangeInclusive<u64> = 300..=599;

pub(super) const FORMAT: &str = "raw";
pub(super) const REPLY_ON: &str = "delivered";
pub(super) const REPLY_BODY_DEFAULT: u64 = 64 << 10;
/// More than a server takes in one message unless it is told to take more (its max_payload).
pub(super) const REPLY_BODY: RangeInclusive<u64> = 0..=1 << 20;
/// The longest DNS name, in characters (RFC 1035, 2.3.4).
pub(super) const ORIGIN_CHARS_MAX: usize = 253;
pub(super) const CLIENT_AUTH: &str = "basic";
/// What RFC 9421 (7.2.1) wants covered of a request with a body, and the id that tells a repetition.
pub(super) const COMPONENTS_DEFAULT: [&str; 5] =
    ["@method", "@target-uri", "content-type", "content-digest", "webhook-id"];
pub(super) const COMPONENTS_MAX: usize = 50;
pub(super) const LABEL: &str = "sig1";
pub(super) const SIGNATURE_LIFE: RangeInclusive<Duration> = SECOND..=DAY;

/// The default waits, in seconds: nine attempts over about 17 h 43 min.
pub(super) const DELAYS_DEFAULT: [u64; 8] = [5, 30, 120, 600, 1800, 7200, 18_000, 36_000];
pub(super) const DELAYS_MAX: usize = 100;
pub(super) const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(30 * 86_400);
pub(super) const GROWING_WAIT: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(30 * 86_400);
pub(super) const FACTOR_DEFAULT: f64 = 2.0;
pub(super) const FACTOR: RangeInclusive<f64> = 1.0..=1000.0;
pub(super) const ATTEMPTS: RangeInclusive<u64> = 1..=1000;
pub(super) const RETRY_AGE_DEFAULT: Duration = DAY;
pub(super) const RETRY_AGE: RangeInclusive<Duration> = SECOND..=Duration::from_secs(365 * 86_400);
pub(super) const OVERLOAD_WAIT_DEFAULT: Duration = MINUTE;
pub(super) const OVERLOAD_WAIT: RangeInclusive<Duration> = Duration::ZERO..=HOUR;
/// The waits that Standard Webhooks 1.0 recommends, in seconds.
pub(super) const STANDARD_WEBHOOKS: [u64; 9] = [5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// Enough for the last wait of [`STANDARD_WEBHOOKS`] to end.
pub(super) const STANDARD_WEBHOOKS_AGE: Duration = Duration::from_secs(4 * 86_400);

/// A duration as one would write it: in the largest unit that it is a whole number of, but "24h" and "60s".
pub(super) fn span(span: Duration) -> String {
    let millis = span.as_millis();
    let whole = |unit: Duration| millis.is_multiple_of(unit.as_millis()) && millis > 0;
    let count = |unit: Duration| millis / unit.as_millis();
    match () {
        () if whole(DAY) && count(DAY) > 1 => format!("{}d", count(DAY)),
        () if whole(HOUR) => format!("{}h", count(HOUR)),
        () if whole(MINUTE) && count(MINUTE) > 1 => format!("{}m", count(MINUTE)),
        () if whole(SECOND) || millis == 0 => format!("{}s", count(SECOND)),
        () => format!("{millis}ms"),
    }
}

/// Bytes as one would write them.
pub(super) fn size(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 20 && bytes.is_multiple_of(1 << 20) => format!("{}MiB", bytes >> 20),
        bytes if bytes >= 1 << 10 && bytes.is_multiple_of(1 << 10) => format!("{}KiB", bytes >> 10),
        bytes => bytes.to_string(),
    }
}

/// Waits that are given in seconds.
pub(super) fn spans(seconds: &[u64]) -> Vec<String> {
    seconds.iter().map(|seconds| span(Duration::from_secs(*seconds))).collect()
}

/// "0s to 1h".
pub(super) fn span_range(range: &RangeInclusive<Duration>) -> String {
    format!("{} to {}", span(*range.start()), span(*range.end()))
}

/// "1 to 5".
pub(super) fn int_range(range: &RangeInclusive<u64>) -> String {
    format!("{} to {}", range.start(), range.end())
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
