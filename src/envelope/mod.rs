//! How a delivery is written into the headers of a message in the retry queue or the dead-letter stream; `waiting` and
//! `letter` read it back. `answer` is what is told of a receiver's answer. Pure; anybody may write into those streams, so reading trusts nothing.

mod answer;
mod letter;
#[cfg(test)]
mod tests;
mod waiting;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use answer::answer_headers;
pub use letter::{DeadLetter, NotReplayable, Place, read_letter};
pub use waiting::{UnreadableError, Waiting, read_waiting};

use crate::{
    disposition::Reason,
    message::{Delivery, Headers, MESSAGE_ID_HEADER, Message, Origin},
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
/// The id of a message that no stream holds.
const ID: &str = "Natshook-Id";
/// When a message was last put on the retry queue again by a replay.
const REPLAYED: &str = "Natshook-Replayed";
/// The dead letter that a waiting delivery was.
const LETTER: &str = "Natshook-Dead-Letter";
/// The span under which the delivery was first worked on, as a `traceparent`.
const TRACE: &str = "Natshook-Trace";
const BODY: &str = "Natshook-Body";
const HEADERS: &str = "Natshook-Headers";

/// The most bytes of an error text that are stored.
const ERROR_BYTES_MAX: usize = 512;
/// The most bytes of an answer's body that are stored.
pub const RESPONSE_BYTES_MAX: usize = 1024;

/// One dead letter. A dead-letter stream that was deleted and made again counts from 1 anew, so the time at which it
/// was stored is part of what tells one letter from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LetterMark {
    /// Its sequence in the dead-letter stream.
    pub id: u64,
    /// When the stream stored it.
    pub stored: SystemTime,
}

impl LetterMark {
    fn text(self) -> String {
        format!("{}@{}", self.id, unix_nanos(self.stored))
    }

    /// Reads back [`Self::text`].
    fn parse(text: &str) -> Option<Self> {
        let (id, nanos) = text.split_once('@')?;
        let stored = UNIX_EPOCH.checked_add(Duration::from_nanos(nanos.parse().ok()?))?;
        Some(Self { id: id.parse().ok()?, stored })
    }
}

/// Why a delivery is put on the retry queue again by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayOf {
    /// It was this dead letter, which leaves the dead-letter stream with that.
    Letter(LetterMark),
    /// A stream still holds it.
    History,
}

/// The headers under which `delivery` to `target` is put on the retry queue again, due at `now`. The id is the same
/// however often that is done: of several stores within the stream's window the broker keeps one.
#[must_use]
pub fn replayed_headers(delivery: &Delivery, target: &str, of: ReplayOf, now: SystemTime) -> Headers {
    let mut headers = Vec::new();
    describe(delivery, target, &mut headers);
    push(&mut headers, NOT_BEFORE, time_text(now));
    let end = match of {
        ReplayOf::Letter(mark) => {
            push(&mut headers, LETTER, mark.text());
            format!("replay-{}-{}", mark.id, unix_nanos(mark.stored))
        }
        ReplayOf::History => "replay".to_owned(),
    };
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(&delivery.message, target, &end));
    keep_originals(&delivery.message.headers, &mut headers);
    Headers(headers)
}

/// The headers under which `delivery` to `target` waits until `not_before`.
#[must_use]
pub fn waiting_headers(delivery: &Delivery, target: &str, not_before: SystemTime) -> Headers {
    let mut headers = Vec::new();
    describe(delivery, target, &mut headers);
    push(&mut headers, NOT_BEFORE, time_text(not_before));
    let end = end_of_id(delivery, &delivery.attempts().to_string());
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(&delivery.message, target, &end));
    keep_originals(&delivery.message.headers, &mut headers);
    Headers(headers)
}

/// The headers under which `waiting` is stored anew. The id names the copy that is replaced: under an id that an earlier
/// copy had, the broker would take this one for a duplicate and drop it.
#[must_use]
pub fn renewed_headers(waiting: &Waiting) -> Headers {
    let mut headers = waiting_headers(&waiting.delivery, &waiting.target, waiting.not_before);
    headers.append_to_id(&format!(":after-{}", waiting.copy));
    if let Some(mark) = waiting.letter {
        push(&mut headers.0, LETTER, mark.text());
    }
    headers
}

/// The headers under which `delivery` to `target` is stored as a dead letter.
#[must_use]
pub fn dead_letter_headers(delivery: &Delivery, target: &str, reason: Reason) -> Headers {
    let mut headers = Vec::new();
    push(&mut headers, REASON, reason.as_str().to_owned());
    describe(delivery, target, &mut headers);
    let end = end_of_id(delivery, "dead");
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(&delivery.message, target, &end));
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

/// `<stream>:<sequence>:<published>:<target>:<end>`: the broker stores a second message of the same id only once. A
/// stream that was deleted and made again counts from 1 anew, so the time of publication, in Unix nanoseconds, is part
/// of the id: what the broker calls a duplicate is one.
fn storage_id(message: &Message, target: &str, end: &str) -> String {
    match &message.origin {
        Origin::Stored { stream, sequence } => {
            format!("{stream}:{sequence}:{}:{target}:{end}", unix_nanos(message.published))
        }
        Origin::Passing { id, .. } => format!("{id}:{target}:{end}"),
    }
}

/// A replayed delivery counts its attempts from 1 anew, and can become a dead letter again: without the time of its
/// replay the broker would take it for what it was before, and drop it.
fn end_of_id(delivery: &Delivery, end: &str) -> String {
    match delivery.replayed {
        None => end.to_owned(),
        Some(replayed) => format!("{end}:replayed-{}", unix_nanos(replayed)),
    }
}

fn unix_nanos(time: SystemTime) -> u128 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()
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
        push(headers, RESPONSE, one_line(&failed.response, RESPONSE_BYTES_MAX));
        push(headers, FIRST_ATTEMPT, time_text(failed.first_attempt));
        push(headers, LAST_ATTEMPT, time_text(failed.last_attempt));
    }
    if let Some(error) = delivery.last_error() {
        push(headers, LAST_ERROR, one_line(error.as_bytes(), ERROR_BYTES_MAX));
    }
    match &message.origin {
        Origin::Stored { stream, sequence } => {
            push(headers, STREAM, stream.to_string());
            push(headers, SEQUENCE, sequence.to_string());
        }
        Origin::Passing { id, .. } => push(headers, ID, id.clone()),
    }
    push(headers, SUBJECT, message.subject.clone());
    push(headers, PUBLISHED, time_text(message.published));
    if let Some(trace) = delivery.trace {
        push(headers, TRACE, trace.to_string());
    }
    if let Some(replayed) = delivery.replayed {
        push(headers, REPLAYED, time_text(replayed));
    }
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
