//! Messages that the client cannot read. NATS headers may hold any bytes, but a header block that is not UTF-8 or
//! not well-formed ends the client's connection before anybody sees the message; the broker then hands it out
//! again, and again. Here such messages are found through the broker's JSON interface, which any bytes pass,
//! and go on with the headers that can be read.

use std::{
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use async_nats::{HeaderName, HeaderValue, Subject, jetstream::consumer};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;

use super::{
    broker::{Broker, BrokerError},
    consumer::ConsumerSpec,
};
use crate::{
    failure_log::{Failure, FailureLog, Fate, Summary},
    message::{Headers, Message, Origin},
};

/// The most messages that are looked at after the connection broke.
const LOOKED_AT_MAX: u64 = 1024;

/// A message that had to be read another way, and its ack subject.
#[derive(Debug)]
pub(super) struct Rescued {
    pub(super) message: Message,
    pub(super) reply: Subject,
}

#[derive(Deserialize)]
pub(super) struct RawAnswer {
    pub(super) message: RawMessage,
}

/// A message as the JSON interface tells it.
#[derive(Deserialize)]
pub(super) struct RawMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    time: String,
}

impl RawMessage {
    /// The message, with the headers that can be read.
    pub(super) fn into_message(self, stream: &Arc<str>) -> Message {
        let block = STANDARD.decode(&self.hdrs).unwrap_or_default();
        Message {
            subject: self.subject,
            payload: Bytes::from(STANDARD.decode(&self.data).unwrap_or_default()),
            headers: readable_headers(&block),
            origin: Origin::Stored { stream: Arc::clone(stream), sequence: self.seq },
            published: humantime::parse_rfc3339(&self.time).unwrap_or_else(|_| SystemTime::now()),
        }
    }
}

/// Looks through what `consumer` has handed out and nobody has acked, for messages that the client cannot read.
///
/// # Errors
/// The broker refuses, or does not answer.
pub(super) async fn unreadable_messages(
    broker: &Broker,
    spec: &ConsumerSpec,
    info: &consumer::Info,
) -> Result<Vec<Rescued>, BrokerError> {
    let began = Instant::now();
    let first = info.ack_floor.stream_sequence + 1;
    let last = info.delivered.stream_sequence.min(first.saturating_add(LOOKED_AT_MAX));
    let mut rescued = Vec::new();
    let mut told = FailureLog::default();
    for sequence in first..=last {
        let Some(raw) = raw_message(broker, &spec.stream, sequence).await? else { continue };
        let block = STANDARD.decode(&raw.hdrs).unwrap_or_default();
        if block.is_empty() || is_readable(&block) {
            continue;
        }
        let invalid =
            Failure { fate: Fate::Waits, error: &raw.subject, place: Some((&spec.stream, sequence)) };
        if told.note(&invalid, began).in_full {
            tracing::error!(
                stream = %spec.stream, sequence, subject = raw.subject,
                "a message has headers that are not valid; it goes on with those that can be read"
            );
        }
        rescued.push(Rescued { reply: ack_subject(spec, sequence), message: raw.into_message(&spec.stream) });
    }
    if let Some(Summary { waiting: count, error: subject, .. }) = told.close() {
        tracing::error!(stream = %spec.stream, count, subject, "messages have headers that are not valid, summed up");
    }
    Ok(rescued)
}

async fn raw_message(
    broker: &Broker,
    stream: &str,
    sequence: u64,
) -> Result<Option<RawMessage>, BrokerError> {
    let question = serde_json::json!({ "seq": sequence }).to_string();
    let answer = broker.ask::<RawAnswer>(&format!("STREAM.MSG.GET.{stream}"), question.into()).await?;
    // Refused is what is not there any more.
    Ok(answer.ok().map(|answer| answer.message))
}

/// The broker finds a pending message by its stream sequence; the other numbers only have to be numbers.
fn ack_subject(spec: &ConsumerSpec, sequence: u64) -> Subject {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    Subject::from(format!("$JS.ACK.{}.{}.1.{sequence}.1.{now}.0", spec.stream, spec.name))
}

/// Whether the client reads this header block, by the client's own rules.
fn is_readable(block: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(block) else { return false };
    let mut lines = text.lines();
    let first = lines.next().is_some_and(|line| line.starts_with("NATS/1.0"));
    first
        && lines
            .filter(|line| !line.is_empty() && !line.starts_with(char::is_whitespace))
            .all(|line| line.split_once(':').is_some_and(|(name, _)| name.parse::<HeaderName>().is_ok()))
}

fn readable_headers(block: &[u8]) -> Headers {
    let lines = block.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        let value = value.trim();
        name.parse::<HeaderName>().ok()?;
        value.parse::<HeaderValue>().ok()?;
        Some((name.to_owned(), value.to_owned()))
    });
    Headers(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_client_cannot_read_is_told_from_what_it_can() {
        assert!(is_readable(b"NATS/1.0\r\nA: b\r\n\r\n"));
        assert!(is_readable("NATS/1.0\r\nA: é\r\n\r\n".as_bytes()));
        assert!(!is_readable(b"NATS/1.0\r\nA: \xff\r\n\r\n"));
        assert!(!is_readable(b"NATS/1.0\r\nno colon\r\n\r\n"));
        assert!(!is_readable(b"NATS/1.0\r\nb\x01d: x\r\n\r\n"));
    }

    #[test]
    fn the_headers_that_can_be_read_go_on() {
        let headers = readable_headers(b"NATS/1.0\r\nGood: 1\r\nBad: \xff\r\nnone\r\nNats-Msg-Id: x\r\n\r\n");
        assert_eq!(headers.iter().collect::<Vec<_>>(), [("Good", "1"), ("Nats-Msg-Id", "x")]);
    }
}
