//! A message as natshook carries it from the source to its end, and the delivery that a target makes of it.
//! Pure data: how it is read from or written to the broker is the business of `source`, `retry_queue` and
//! `dead_letter`.

use std::{num::NonZeroU32, sync::Arc, time::SystemTime};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::{outcome::Answer, trace_parent::TraceParent};

/// The header by which publishers name a message; the broker drops a second one within its window.
pub const MESSAGE_ID_HEADER: &str = "Nats-Msg-Id";

/// What a `webhook-id` cannot hold: the dot separates the parts of the signed text (Standard Webhooks 1.0),
/// the percent sign begins an escape; a header value takes visible ASCII only.
const NOT_IN_WEBHOOK_ID: &AsciiSet = &CONTROLS.add(b' ').add(b'.').add(b'%');

/// What stands around a stored header: a prefix of natshook's, colon, space and line break.
const ENVELOPE_BYTES: usize = "Natshook-Original-: \r\n".len();

/// Message headers in the order in which they came; names may repeat.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(pub Vec<(String, String)>);

impl Headers {
    /// The first value under `name`, whatever the case of its letters.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// Makes the `Nats-Msg-Id`, if there is one, longer by `suffix`.
    pub fn append_to_id(&mut self, suffix: &str) {
        for (_, id) in self.0.iter_mut().filter(|(name, _)| name == MESSAGE_ID_HEADER) {
            id.push_str(suffix);
        }
    }

    /// At most how many bytes they take when natshook stores them: a name may get a prefix of natshook's.
    #[must_use]
    pub fn stored_bytes_max(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + ENVELOPE_BYTES).sum()
    }

    /// All names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }
}

/// Where a message stood when natshook received it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// In a JetStream stream, at a sequence.
    Stored {
        /// The stream's name.
        stream: Arc<str>,
        /// Its sequence in that stream.
        sequence: u64,
    },
    /// Nowhere: it came by core NATS. The id is unique to this reception.
    Passing {
        /// An id made at reception.
        id: String,
        /// The subject on which its publisher waits for an answer, if it does. Known only while the message is in memory.
        reply: Option<Box<str>>,
    },
}

/// Payload, headers and where the message stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The subject it was published to.
    pub subject: String,
    /// Its exact bytes.
    pub payload: Bytes,
    /// Its headers as published.
    pub headers: Headers,
    /// Its place in a stream, or none.
    pub origin: Origin,
    /// When the stream stored it, or when natshook received it by core NATS.
    pub published: SystemTime,
}

impl Message {
    /// The id that stays the same on every attempt and replay: the publisher's `Nats-Msg-Id`, else
    /// `<stream>-<sequence>`. Escaped so that no two messages share one and the signed text stays unambiguous.
    #[must_use]
    pub fn webhook_id(&self) -> String {
        match (self.headers.get(MESSAGE_ID_HEADER), &self.origin) {
            (Some(id), _) if !id.is_empty() => utf8_percent_encode(id, NOT_IN_WEBHOOK_ID).to_string(),
            // Nearly every stream's name has nothing to escape.
            (_, Origin::Stored { stream, sequence }) if is_plain(stream) => format!("{stream}-{sequence}"),
            (_, Origin::Stored { stream, sequence }) => {
                format!("{}-{sequence}", utf8_percent_encode(stream, NOT_IN_WEBHOOK_ID))
            }
            (_, Origin::Passing { id, .. }) => id.clone(),
        }
    }
}

/// Whether nothing in `text` would be escaped in a `webhook-id`.
fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'.' | b'%'))
}

/// The longest name of a stream, in bytes: the server's own limit.
const STREAM_NAME_MAX_BYTES: usize = 255;

/// Whether `text` can name a stream, by the broker's rule.
#[must_use]
pub fn is_stream_name(text: &str) -> bool {
    let illegal = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '/' | '\\');
    !text.is_empty() && text.len() <= STREAM_NAME_MAX_BYTES && !text.contains(illegal)
}

/// What the failed attempts of a delivery left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// How many attempts were made, all of them failed.
    pub attempts: NonZeroU32,
    /// When the first one began.
    pub first_attempt: SystemTime,
    /// When the last one began.
    pub last_attempt: SystemTime,
    /// The status of the last answer, if there was one.
    pub last_status: Option<u16>,
    /// What went wrong last, in words.
    pub last_error: String,
    /// The beginning of the last answer's body.
    pub response: Bytes,
}

/// One message on its way to one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// What is delivered.
    pub message: Message,
    /// The attempts so far; none for a fresh delivery.
    pub failed: Option<Failed>,
    /// Why it is given up although no attempt says so, in words. Kept only in its dead letter.
    pub refused: Option<Box<str>>,
    /// The answer that settles it, where the target tells of answers.
    pub answer: Option<Box<Answer>>,
    /// When somebody last replayed it, if anybody did.
    pub replayed: Option<SystemTime>,
    /// The span under which it was first worked on, if it is traced.
    pub trace: Option<TraceParent>,
}

impl Delivery {
    /// A delivery that has not been attempted yet.
    #[must_use]
    pub fn fresh(message: Message) -> Self {
        Self { message, failed: None, refused: None, answer: None, replayed: None, trace: None }
    }

    /// From when on its age counts: its replay, else its publication.
    #[must_use]
    pub fn aged_since(&self) -> SystemTime {
        self.replayed.unwrap_or(self.message.published)
    }

    /// How many attempts have been made and have failed.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.failed.as_ref().map_or(0, |failed| failed.attempts.get())
    }

    /// What went wrong last, in words: why it is refused, else how its last attempt failed.
    #[must_use]
    pub fn last_error(&self) -> Option<&str> {
        let failed = self.failed.as_ref().map(|failed| failed.last_error.as_str());
        self.refused.as_deref().or(failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(id: Option<&str>) -> Message {
        Message {
            subject: "a".into(),
            payload: Bytes::new(),
            headers: Headers(id.map(|id| ("Nats-Msg-Id".into(), id.into())).into_iter().collect()),
            origin: Origin::Stored { stream: "EVENTS".into(), sequence: 7 },
            published: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn without_an_id_of_its_own_a_message_is_named_by_its_place() {
        assert_eq!(message(None).webhook_id(), "EVENTS-7");
        assert_eq!(message(Some("")).webhook_id(), "EVENTS-7");
    }

    #[test]
    fn a_stream_s_name_is_escaped_too() {
        let mut message = message(None);
        for (stream, id) in [("a%b", "a%25b-7"), ("événements", "%C3%A9v%C3%A9nements-7")] {
            message.origin = Origin::Stored { stream: stream.into(), sequence: 7 };
            assert_eq!(message.webhook_id(), id);
        }
    }

    #[test]
    fn dots_percent_signs_and_strange_bytes_are_escaped() {
        assert_eq!(message(Some("a.b")).webhook_id(), "a%2Eb");
        assert_eq!(message(Some("a%2Eb")).webhook_id(), "a%252Eb");
        assert_eq!(message(Some("é\n ")).webhook_id(), "%C3%A9%0A%20");
    }

    proptest! {
        #[test]
        fn ids_are_visible_ascii_without_dots_and_never_collide(a in "\\PC{1,12}", b in "\\PC{1,12}") {
            let (one, two) = (message(Some(&a)).webhook_id(), message(Some(&b)).webhook_id());
            prop_assert!(one.bytes().all(|c| c.is_ascii_graphic() && c != b'.'));
            prop_assert_eq!(a == b, one == two);
        }
    }
}
