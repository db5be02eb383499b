//! Reading a delivery back from the retry queue. What natshook cannot have written is refused by the header that is
//! wrong.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{
    ATTEMPTS, FIRST_ATTEMPT, ID, LAST_ATTEMPT, LAST_ERROR, LAST_STATUS, LETTER, LetterMark, NOT_BEFORE,
    PUBLISHED, REPLAYED, RESPONSE, SEQUENCE, STREAM, SUBJECT, TARGET, TRACE, originals,
};
use crate::{
    message::{Delivery, Failed, Headers, Message, Origin, is_stream_name},
    target::is_name,
};

/// The longest subject that is read back. The server's `max_control_line`, 4 KiB unless set, bounds real ones.
pub(super) const SUBJECT_BYTES_MAX: usize = 16 * 1024;
/// The longest id of a message that no stream holds; natshook's own have 27 bytes.
const ID_BYTES_MAX: usize = 128;

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
    /// The dead letter that it was, which may still have to leave the dead-letter stream.
    pub letter: Option<LetterMark>,
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

/// Reads back what [`waiting_headers`](super::waiting_headers) wrote, from a message in the retry queue.
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
    let origin = origin(headers)?;
    let replayed = headers.get(REPLAYED).map(|_| time(headers, REPLAYED)).transpose()?;
    let letter = match headers.get(LETTER) {
        None => None,
        Some(text) => Some(LetterMark::parse(text).ok_or(UnreadableError::Bad(LETTER))?),
    };
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
    // One that is unreadable costs a trace and nothing else.
    let trace = headers.get(TRACE).and_then(|text| text.parse().ok());
    let delivery = Delivery { failed, replayed, trace, ..Delivery::fresh(message) };
    Ok(Waiting { delivery, target, not_before, copy, letter })
}

/// Where the message stood. One that came by core NATS has an id instead, which becomes its `webhook-id` as it is.
///
/// # Errors
/// It says neither, or what it says cannot be.
pub(super) fn origin(headers: &Headers) -> Result<Origin, UnreadableError> {
    if let (None, Some(id)) = (headers.get(STREAM), headers.get(ID)) {
        let plain = id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'%'));
        let plain = plain && !id.is_empty() && id.len() <= ID_BYTES_MAX;
        return if plain {
            Ok(Origin::Passing { id: id.to_owned(), reply: None })
        } else {
            Err(UnreadableError::Bad(ID))
        };
    }
    let stream = Arc::from(required(headers, STREAM)?);
    if !is_stream_name(&stream) {
        return Err(UnreadableError::Bad(STREAM));
    }
    Ok(Origin::Stored { stream, sequence: number(headers, SEQUENCE)? })
}

pub(super) fn required<'a>(headers: &'a Headers, name: &'static str) -> Result<&'a str, UnreadableError> {
    headers.get(name).ok_or(UnreadableError::Missing(name))
}

pub(super) fn number<T: std::str::FromStr>(
    headers: &Headers,
    name: &'static str,
) -> Result<T, UnreadableError> {
    required(headers, name)?.parse().map_err(|_| UnreadableError::Bad(name))
}

pub(super) fn time(headers: &Headers, name: &'static str) -> Result<SystemTime, UnreadableError> {
    humantime::parse_rfc3339(required(headers, name)?).map_err(|_| UnreadableError::Bad(name))
}
