//! How a delivery is written into the headers of a message in the retry queue or the dead-letter stream, and
//! read back. Pure; anybody may write into those streams, so reading trusts nothing.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;

use crate::{
    disposition::Reason,
    message::{Delivery, Failed, Headers, MESSAGE_ID_HEADER, Message, Origin, is_stream_name},
    target::is_name,
};

/// What a header is called that would otherwise steer the broker (`Nats-…`) or natshook (`Natshook-…`).
const ORIGINAL: &str = "Natshook-Original-";

const TARGET: &str = "Natshook-Target";
const ATTEMPTS: &str = "Natshook-Attempts";
const NOT_BEFORE: &str = "Natshook-Not-Before";
const REASON: &str = "Natshook-Reason";
const LAST_STATUS: &str = "Natshook-Last-Status";
const LAST_ERROR: &str = "Natshook-Last-Error";
const RESPONSE: &str = "Natshook-Response";
const FIRST_ATTEMPT: &str = "Natshook-First-Attempt";
const LAST_ATTEMPT: &str = "Natshook-Last-Attempt";
const STREAM: &str = "Natshook-Stream";
const SEQUENCE: &str = "Natshook-Sequence";
const SUBJECT: &str = "Natshook-Subject";
/// When the original message was published.
pub const PUBLISHED: &str = "Natshook-Published";
const BODY: &str = "Natshook-Body";
const HEADERS: &str = "Natshook-Headers";

/// The longest subject that is read back. The server's `max_control_line`, 4 KiB unless set, bounds real ones.
const SUBJECT_BYTES_MAX: usize = 16 * 1024;
/// The most bytes of an error text that are stored.
const ERROR_BYTES_MAX: usize = 512;
/// The most bytes of an answer's body that are stored.
pub const RESPONSE_BYTES_MAX: usize = 1024;

/// How long after it was stored a delivery can be due: the longest wait that a config allows (30 days) with the most
/// jitter (twice as long), and a day for clocks that differ. What is due later was not written by natshook.
const WAIT_MAX: Duration = Duration::from_secs(61 * 24 * 3600);

/// A delivery that waits for its next attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What is delivered.
    pub delivery: Delivery,
    /// To which target.
    pub target: String,
    /// When the next attempt is due.
    pub not_before: SystemTime,
    /// At which sequence the retry queue holds this copy of it.
    pub copy: u64,
}

/// Why a message in the retry queue is not a delivery: nobody but natshook should write there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableError {
    /// A header that every waiting delivery has is not there.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header's value makes no sense.
    #[error("the header {0} is unreadable")]
    Bad(&'static str),
    /// A time that no retry policy leads to.
    #[error("the header {0} is later than any retry")]
    TooLate(&'static str),
}

/// The headers under which `delivery` to `target` waits until `not_before`.
#[must_use]
pub fn waiting_headers(delivery: &Delivery, target: &str, not_before: SystemTime) -> Headers {
    let mut headers = Vec::new();
    describe(delivery, target, &mut headers);
    push(&mut headers, NOT_BEFORE, time_text(not_before));
    let attempts = delivery.attempts().to_string();
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(&delivery.message, target, &attempts));
    keep_originals(&delivery.message.headers, &mut headers);
    Headers(headers)
}

/// The headers under which `waiting` is stored anew. The id names the copy that is replaced: under an id that an earlier
/// copy had, the broker would take this one for a duplicate and drop it.
#[must_use]
pub fn renewed_headers(waiting: &Waiting) -> Headers {
    let mut headers = waiting_headers(&waiting.delivery, &waiting.target, waiting.not_before);
    headers.append_to_id(&format!(":after-{}", waiting.copy));
    headers
}

/// The headers under which `delivery` to `target` is stored as a dead letter.
#[must_use]
pub fn dead_letter_headers(delivery: &Delivery, target: &str, reason: Reason) -> Headers {
    let mut headers = Vec::new();
    push(&mut headers, REASON, reason.as_str().to_owned());
    describe(delivery, target, &mut headers);
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(&delivery.message, target, "dead"));
    keep_originals(&delivery.message.headers, &mut headers);
    Headers(headers)
}

/// Notes on a dead letter that its body did not fit, and where the body is.
pub fn omit_body(headers: &mut Headers, message: &Message) {
    let omitted = omitted(message.payload.len(), message);
    push(&mut headers.0, BODY, omitted);
}

/// Leaves the message's own headers out of a dead letter that does not fit even without its body.
pub fn omit_original_headers(headers: &mut Headers, message: &Message) {
    let own = |name: &str| starts_with(name, "natshook-") && !starts_with(name, ORIGINAL);
    headers.0.retain(|(name, _)| own(name) || name == MESSAGE_ID_HEADER);
    let bytes = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    push(&mut headers.0, HEADERS, omitted(bytes, message));
}

fn omitted(bytes: usize, message: &Message) -> String {
    let place = match &message.origin {
        Origin::Stored { stream, sequence } => format!("; they are in stream {stream} at {sequence}"),
        Origin::Passing { .. } => String::new(),
    };
    format!("omitted: {bytes} bytes are more than the server takes{place}")
}

/// Reads back what [`waiting_headers`] wrote, from a message in the retry queue.
///
/// # Errors
/// Names the header that is missing or unreadable.
pub fn read_waiting(stored: Message) -> Result<Waiting, UnreadableError> {
    let headers = &stored.headers;
    // The name becomes part of a subject.
    let target = required(headers, TARGET)?.to_owned();
    if !is_name(&target) {
        return Err(UnreadableError::Bad(TARGET));
    }
    let not_before = time(headers, NOT_BEFORE)?;
    if not_before.duration_since(stored.published).is_ok_and(|wait| wait > WAIT_MAX) {
        return Err(UnreadableError::TooLate(NOT_BEFORE));
    }
    let published = time(headers, PUBLISHED)?;
    let subject = required(headers, SUBJECT)?.to_owned();
    if subject.len() > SUBJECT_BYTES_MAX {
        return Err(UnreadableError::Bad(SUBJECT));
    }
    let stream = Arc::from(required(headers, STREAM)?);
    if !is_stream_name(&stream) {
        return Err(UnreadableError::Bad(STREAM));
    }
    let origin = Origin::Stored { stream, sequence: number(headers, SEQUENCE)? };
    let copy = match stored.origin {
        Origin::Stored { sequence, .. } => sequence,
        // No stream counts it, so there is one copy.
        Origin::Passing { .. } => 0,
    };
    let failed = match NonZeroU32::new(number(headers, ATTEMPTS)?) {
        None => None,
        Some(attempts) => Some(Failed {
            attempts,
            first_attempt: time(headers, FIRST_ATTEMPT)?,
            last_attempt: time(headers, LAST_ATTEMPT)?,
            last_status: headers.get(LAST_STATUS).and_then(|text| text.parse().ok()),
            last_error: headers.get(LAST_ERROR).unwrap_or_default().to_owned(),
            response: Bytes::copy_from_slice(headers.get(RESPONSE).unwrap_or_default().as_bytes()),
        }),
    };
    let message =
        Message { subject, payload: stored.payload, headers: originals(&stored.headers), origin, published };
    Ok(Waiting { delivery: Delivery { message, failed }, target, not_before, copy })
}

/// `<stream>:<sequence>:<published>:<target>:<end>`: the broker stores a second message of the same id only once. A
/// stream that was deleted and made again counts from 1 anew, so the time of publication, in Unix nanoseconds, is part
/// of the id: what the broker calls a duplicate is one.
fn storage_id(message: &Message, target: &str, end: &str) -> String {
    match &message.origin {
        Origin::Stored { stream, sequence } => {
            let published = message.published.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
            format!("{stream}:{sequence}:{published}:{target}:{end}")
        }
        Origin::Passing { id } => format!("{id}:{target}:{end}"),
    }
}

/// What every stored delivery says of itself.
fn describe(delivery: &Delivery, target: &str, headers: &mut Vec<(String, String)>) {
    let message = &delivery.message;
    push(headers, TARGET, target.to_owned());
    push(headers, ATTEMPTS, delivery.attempts().to_string());
    if let Some(failed) = &delivery.failed {
        if let Some(status) = failed.last_status {
            push(headers, LAST_STATUS, status.to_string());
        }
        push(headers, LAST_ERROR, one_line(failed.last_error.as_bytes(), ERROR_BYTES_MAX));
        push(headers, RESPONSE, one_line(&failed.response, RESPONSE_BYTES_MAX));
        push(headers, FIRST_ATTEMPT, time_text(failed.first_attempt));
        push(headers, LAST_ATTEMPT, time_text(failed.last_attempt));
    }
    if let Origin::Stored { stream, sequence } = &message.origin {
        push(headers, STREAM, stream.to_string());
        push(headers, SEQUENCE, sequence.to_string());
    }
    push(headers, SUBJECT, message.subject.clone());
    push(headers, PUBLISHED, time_text(message.published));
}

fn push(headers: &mut Vec<(String, String)>, name: &str, value: String) {
    headers.push((name.to_owned(), value));
}

fn keep_originals(from: &Headers, to: &mut Vec<(String, String)>) {
    for (name, value) in from.iter() {
        let steers = starts_with(name, "nats-") || starts_with(name, "natshook-");
        let name = if steers { format!("{ORIGINAL}{name}") } else { name.to_owned() };
        to.push((name, value.to_owned()));
    }
}

fn originals(from: &Headers) -> Headers {
    let kept = from.iter().filter_map(|(name, value)| {
        let name = if starts_with(name, ORIGINAL) {
            &name[ORIGINAL.len()..]
        } else if starts_with(name, "nats-") || starts_with(name, "natshook-") {
            return None;
        } else {
            name
        };
        Some((name.to_owned(), value.to_owned()))
    });
    Headers(kept.collect())
}

fn starts_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// At most `max` bytes of text that fits into one header line: what is not text or breaks lines becomes a space.
fn one_line(bytes: &[u8], max: usize) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(max)]);
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    text.trim().to_owned()
}

fn time_text(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time.max(UNIX_EPOCH)).to_string()
}

fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, UnreadableError> {
    headers.get(name).ok_or(UnreadableError::Missing(name))
}

fn number<T: std::str::FromStr>(headers: &Headers, name: &'static str) -> Result<T, UnreadableError> {
    required(headers, name)?.parse().map_err(|_| UnreadableError::Bad(name))
}

fn time(headers: &Headers, name: &'static str) -> Result<SystemTime, UnreadableError> {
    humantime::parse_rfc3339(required(headers, name)?).map_err(|_| UnreadableError::Bad(name))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn delivery(headers: Vec<(String, String)>, attempts: u32, seconds: u64) -> Delivery {
        let at = UNIX_EPOCH + Duration::from_secs(seconds);
        Delivery {
            message: Message {
                subject: "orders.created".into(),
                payload: Bytes::from_static(b"\x00\xff"),
                headers: Headers(headers),
                origin: Origin::Stored { stream: "EVENTS".into(), sequence: 9 },
                published: at,
            },
            failed: NonZeroU32::new(attempts).map(|attempts| Failed {
                attempts,
                first_attempt: at,
                last_attempt: at + Duration::from_nanos(5),
                last_status: Some(503),
                last_error: "answered 503".into(),
                response: Bytes::from_static(b"busy"),
            }),
        }
    }

    fn stored(headers: Headers, payload: Bytes) -> Message {
        Message {
            subject: "natshook.retry.a".into(),
            payload,
            headers,
            origin: Origin::Stored { stream: "NATSHOOK_RETRY".into(), sequence: 1 },
            // Later than any time in these tests is due.
            published: UNIX_EPOCH + Duration::from_secs(5_000_000_000),
        }
    }

    /// Of a message at 9 of EVENTS, published 5 s after the epoch.
    const DEAD_ID: &str = "EVENTS:9:5000000000:a:dead";

    #[test]
    fn headers_that_would_steer_the_broker_or_us_are_kept_under_another_name() {
        let original = vec![
            ("Nats-Rollup".to_owned(), "all".to_owned()),
            ("natshook-target".to_owned(), "other".to_owned()),
            ("X-Plain".to_owned(), "1".to_owned()),
        ];
        let headers = dead_letter_headers(&delivery(original, 1, 5), "a", Reason::PermanentStatus);
        assert_eq!(headers.get("Nats-Rollup"), None);
        assert_eq!(headers.get("Natshook-Original-Nats-Rollup"), Some("all"));
        assert_eq!(headers.get(TARGET), Some("a"));
        assert_eq!(headers.get("X-Plain"), Some("1"));
        assert_eq!(headers.get(MESSAGE_ID_HEADER), Some(DEAD_ID));
    }

    #[test]
    fn a_stranger_s_message_is_refused_by_the_header_it_lacks() {
        let bare = stored(Headers::default(), Bytes::new());
        assert_eq!(read_waiting(bare), Err(UnreadableError::Missing(TARGET)));
    }

    #[test]
    fn what_no_natshook_would_have_written_is_refused_by_its_header() {
        let headers = waiting_headers(&delivery(Vec::new(), 1, 5), "a", UNIX_EPOCH);
        for (name, value, error) in [
            (TARGET, "a.b", UnreadableError::Bad(TARGET)),
            (TARGET, "a b 3", UnreadableError::Bad(TARGET)),
            (TARGET, "", UnreadableError::Bad(TARGET)),
            (SUBJECT, &"x".repeat(20_000), UnreadableError::Bad(SUBJECT)),
            (STREAM, &"x".repeat(256), UnreadableError::Bad(STREAM)),
            (STREAM, "a.>", UnreadableError::Bad(STREAM)),
            (NOT_BEFORE, "9999-12-31T23:59:60Z", UnreadableError::TooLate(NOT_BEFORE)),
            (NOT_BEFORE, "1969-12-31T23:59:59Z", UnreadableError::Bad(NOT_BEFORE)),
            (ATTEMPTS, "4294967296", UnreadableError::Bad(ATTEMPTS)),
            (SEQUENCE, "-1", UnreadableError::Bad(SEQUENCE)),
        ] {
            let mut forged = headers.clone();
            forged.0.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| *v = value.to_owned());
            assert_eq!(read_waiting(stored(forged, Bytes::new())), Err(error), "{name}: {value:?}");
        }
    }

    #[test]
    fn a_dead_letter_without_headers_of_its_own_says_what_it_lacks() {
        let delivery =
            delivery(vec![("X-Large".to_owned(), "x".repeat(93)), ("Nats-TTL".into(), "1".into())], 1, 5);
        let mut headers = dead_letter_headers(&delivery, "a", Reason::AttemptsExhausted);
        omit_body(&mut headers, &delivery.message);
        omit_original_headers(&mut headers, &delivery.message);
        assert_eq!(headers.get("X-Large").or(headers.get("Natshook-Original-Nats-TTL")), None);
        assert_eq!(headers.get(MESSAGE_ID_HEADER), Some(DEAD_ID));
        assert_eq!(headers.get(REASON), Some("attempts_exhausted"));
        let note = "omitted: 109 bytes are more than the server takes; they are in stream EVENTS at 9";
        assert_eq!(headers.get(HEADERS), Some(note));
    }

    #[test]
    fn each_copy_of_a_waiting_delivery_is_renewed_under_an_id_of_its_own() {
        let waiting = |copy| Waiting {
            delivery: delivery(vec![], 1, 5),
            target: "a".into(),
            not_before: UNIX_EPOCH,
            copy,
        };
        let id = |copy| renewed_headers(&waiting(copy)).get(MESSAGE_ID_HEADER).map(str::to_owned);
        assert_eq!(id(7).as_deref(), Some("EVENTS:9:5000000000:a:1:after-7"));
        assert_ne!(id(7), id(8));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            names in prop::collection::vec("(Nats-|Natshook-|natshook-original-|X-)[A-Za-z]{1,8}", 0..4),
            attempts in 0_u32..20,
            seconds in 0_u64..4_000_000_000,
        ) {
            let original: Vec<_> = names.into_iter().map(|name| (name, "v".to_owned())).collect();
            let delivery = delivery(original, attempts, seconds);
            let not_before = UNIX_EPOCH + Duration::from_secs(seconds + 30);
            let headers = waiting_headers(&delivery, "a", not_before);
            let read = read_waiting(stored(headers, delivery.message.payload.clone())).unwrap();
            prop_assert_eq!(read, Waiting { delivery, target: "a".into(), not_before, copy: 1 });
        }

        #[test]
        fn nothing_a_stranger_writes_makes_reading_fail_otherwise(
            values in prop::collection::vec(("(Natshook-(Target|Attempts|Not-Before|Published|Subject|Stream|Sequence|First-Attempt))", "\\PC{0,12}"), 0..10),
        ) {
            let _ = read_waiting(stored(Headers(values), Bytes::new()));
        }
    }
}
