//! Reading a dead letter back from its stream: what can be read is shown, whoever wrote it, and only what natshook can
//! have written becomes a delivery again.

use std::time::SystemTime;

use bytes::Bytes;

use super::{
    ATTEMPTS, BODY, FIRST_ATTEMPT, HEADERS, LAST_ATTEMPT, LAST_ERROR, LAST_STATUS, LetterMark, PUBLISHED,
    REASON, REPLAYED, RESPONSE, SEQUENCE, STREAM, SUBJECT, TARGET, TRACE, originals,
    waiting::{self, SUBJECT_BYTES_MAX, UnreadableError},
};
use crate::{
    disposition::Reason,
    message::{Delivery, Headers, Message, Origin},
    target::TargetName,
    trace_parent::TraceParent,
};

/// A dead letter as it is stored. All of it may have been written by a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its sequence in the dead-letter stream.
    pub id: u64,
    /// When the stream stored it.
    pub stored: SystemTime,
    /// The target that did not get it: the last token of the subject under which it is stored.
    pub target: String,
    /// Why natshook gave up, a word of [`Reason`]; empty where nothing says so.
    pub reason: String,
    /// How many attempts were made.
    pub attempts: u32,
    /// The status of the last answer, if there was one.
    pub last_status: Option<u16>,
    /// What went wrong last, in words.
    pub last_error: String,
    /// The beginning of the last answer's body.
    pub response: String,
    /// When the first attempt began.
    pub first_attempt: Option<SystemTime>,
    /// When the last attempt began.
    pub last_attempt: Option<SystemTime>,
    /// The stream that the message came from; none for core NATS.
    pub stream: Option<String>,
    /// Its sequence there.
    pub sequence: Option<u64>,
    /// The subject that the message was published to.
    pub subject: String,
    /// When the message was published.
    pub published: Option<SystemTime>,
    /// When it was last replayed, if it was.
    pub replayed: Option<SystemTime>,
    /// The message's own headers, under their own names.
    pub headers: Headers,
    /// The message's exact bytes.
    pub payload: Bytes,
    /// Why the body was left out and where it is, if it was.
    pub omitted_body: Option<String>,
    /// Why the message's headers were left out and where they are, if they were.
    pub omitted_headers: Option<String>,
    /// What its own headers said of the message's place, with which it can become a delivery again.
    origin: Result<Origin, UnreadableError>,
    named_target: Option<String>,
    /// The trace that it belongs to, which a replay continues.
    trace: Option<TraceParent>,
}

/// Why a dead letter cannot be replayed. It stays where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    /// natshook had not written it in the first place.
    #[error("it was found in the retry queue and was not natshook's, so nobody knows what it was")]
    Unreadable,
    /// A header that natshook writes is missing or makes no sense.
    #[error("{0}, so natshook has not written it")]
    Header(#[from] UnreadableError),
    /// The target is not in the config.
    #[error("the config has no target {0}; it would come back as unknown_target")]
    UnknownTarget(String),
    /// What was left out of the letter is not where it was.
    #[error("its {what} was left out, and stream {stream} does not hold message {sequence} any more")]
    Gone {
        /// The body or the headers.
        what: &'static str,
        /// Where the message was.
        stream: String,
        /// Its sequence there.
        sequence: u64,
    },
    /// What was left out was never stored anywhere.
    #[error("its {0} was left out, and a message of core NATS is stored nowhere else")]
    NeverStored(&'static str),
    /// The retry queue does not take so much.
    #[error("the retry queue cannot hold it: {0}")]
    TooLarge(String),
}

/// Where a message stands that a dead letter does not hold whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The stream.
    pub stream: String,
    /// The sequence in it.
    pub sequence: u64,
    /// What was left out of the letter.
    pub what: &'static str,
}

/// Reads a dead letter. What is missing or unreadable is left empty.
#[must_use]
pub fn read_letter(stored: Message) -> DeadLetter {
    let headers = &stored.headers;
    let text = |name: &str| headers.get(name).unwrap_or_default().to_owned();
    let time = |name| waiting::time(headers, name).ok();
    let id = match &stored.origin {
        Origin::Stored { sequence, .. } => *sequence,
        Origin::Passing { .. } => 0,
    };
    DeadLetter {
        id,
        stored: stored.published,
        target: stored.subject.rsplit('.').next().unwrap_or_default().to_owned(),
        reason: text(REASON),
        attempts: waiting::number(headers, ATTEMPTS).unwrap_or_default(),
        last_status: waiting::number(headers, LAST_STATUS).ok(),
        last_error: text(LAST_ERROR),
        response: text(RESPONSE),
        first_attempt: time(FIRST_ATTEMPT),
        last_attempt: time(LAST_ATTEMPT),
        stream: headers.get(STREAM).map(str::to_owned),
        sequence: waiting::number(headers, SEQUENCE).ok(),
        subject: text(SUBJECT),
        published: time(PUBLISHED),
        replayed: time(REPLAYED),
        omitted_body: headers.get(BODY).map(str::to_owned),
        omitted_headers: headers.get(HEADERS).map(str::to_owned),
        origin: waiting::origin(headers),
        named_target: headers.get(TARGET).map(str::to_owned),
        trace: headers.get(TRACE).and_then(|text| text.parse().ok()),
        headers: originals(headers),
        payload: stored.payload,
    }
}

impl DeadLetter {
    /// What tells it from every other dead letter.
    #[must_use]
    pub fn mark(&self) -> LetterMark {
        LetterMark { id: self.id, stored: self.stored }
    }

    /// The `webhook-id` under which it was sent, if it can be told.
    #[must_use]
    pub fn webhook_id(&self) -> Option<String> {
        Some(self.message(UNKNOWN).ok()?.webhook_id())
    }

    /// The delivery that it was, without failed attempts and replayed at `now`, and its target.
    ///
    /// # Errors
    /// natshook cannot have written it, so it is no delivery.
    pub fn delivery(&self, now: SystemTime) -> Result<(TargetName, Delivery), NotReplayable> {
        if self.reason == Reason::Unreadable.as_str() {
            return Err(NotReplayable::Unreadable);
        }
        let named = self.named_target.as_deref().ok_or(UnreadableError::Missing(TARGET))?;
        let target = TargetName::new(named).filter(|name| name.as_str() == self.target);
        let target = target.ok_or(UnreadableError::Bad(TARGET))?;
        let published = self.published.ok_or(UnreadableError::Bad(PUBLISHED))?;
        let message = self.message(published)?;
        Ok((target, Delivery { replayed: Some(now), trace: self.trace, ..Delivery::fresh(message) }))
    }

    fn message(&self, published: SystemTime) -> Result<Message, UnreadableError> {
        if self.subject.is_empty() || self.subject.len() > SUBJECT_BYTES_MAX {
            return Err(UnreadableError::Bad(SUBJECT));
        }
        Ok(Message {
            subject: self.subject.clone(),
            payload: self.payload.clone(),
            headers: self.headers.clone(),
            origin: self.origin.clone()?,
            published,
        })
    }

    /// Where the rest of the message is, if the letter does not hold all of it.
    ///
    /// # Errors
    /// It is nowhere.
    pub fn rest(&self) -> Result<Option<Place>, NotReplayable> {
        let what = match (&self.omitted_body, &self.omitted_headers) {
            (None, None) => return Ok(None),
            (Some(_), None) => "body",
            (None, Some(_)) => "header",
            (Some(_), Some(_)) => "body and header",
        };
        match &self.origin {
            Ok(Origin::Stored { stream, sequence }) => {
                Ok(Some(Place { stream: stream.to_string(), sequence: *sequence, what }))
            }
            Ok(Origin::Passing { .. }) => Err(NotReplayable::NeverStored(what)),
            Err(error) => Err(error.clone().into()),
        }
    }
}

/// A time that is not looked at.
const UNKNOWN: SystemTime = SystemTime::UNIX_EPOCH;
