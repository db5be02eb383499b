//! Between the broker's types and ours: headers both ways, and what an ack subject tells about a message. No
//! I/O.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{HeaderMap, HeaderName, HeaderValue};

use crate::message::{Headers, Message, Origin};

/// What the reply subject of a pulled message says: `$JS.ACK.` and seven tokens, or nine and more with the
/// domain and the account's hash before them (NATS ADR-15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckInfo<'a> {
    pub(super) stream: &'a str,
    pub(super) delivered: u64,
    pub(super) sequence: u64,
    /// How many hand-outs the consumer has made, this one included.
    pub(super) consumer_sequence: u64,
    pub(super) published: SystemTime,
    /// How many messages the consumer has not handed out yet.
    pub(super) pending: u64,
}

impl<'a> AckInfo<'a> {
    /// `None` when `reply` is not an ack subject.
    pub(super) fn parse(reply: &'a str) -> Option<Self> {
        let mut tokens = [""; 9];
        let mut count = 0;
        for token in reply.strip_prefix("$JS.ACK.")?.split('.').take(tokens.len()) {
            tokens[count] = token;
            count += 1;
        }
        let [stream, _consumer, delivered, sequence, consumer_sequence, published, pending] =
            (if count == tokens.len() { &tokens[2..] } else { &tokens[..7] })
        else {
            return None;
        };
        let published = UNIX_EPOCH + Duration::from_nanos(published.parse().ok()?);
        Some(Self {
            stream,
            delivered: delivered.parse().ok()?,
            sequence: sequence.parse().ok()?,
            consumer_sequence: consumer_sequence.parse().ok()?,
            published,
            pending: pending.parse().ok()?,
        })
    }
}

/// A message as it stood in a stream. `stream` is the known name, shared instead of copied.
pub(super) fn stored_message(message: async_nats::Message, stream: &Arc<str>, info: &AckInfo<'_>) -> Message {
    Message {
        subject: message.subject.into_string(),
        payload: message.payload,
        headers: message.headers.map(headers).unwrap_or_default(),
        origin: Origin::Stored { stream: Arc::clone(stream), sequence: info.sequence },
        published: info.published,
    }
}

/// A message that no stream holds.
pub(super) fn passing_message(message: async_nats::Message, id: String, now: SystemTime) -> Message {
    let reply = message.reply.map(|reply| reply.as_str().into());
    Message {
        subject: message.subject.into_string(),
        payload: message.payload,
        headers: message.headers.map(headers).unwrap_or_default(),
        origin: Origin::Passing { id, reply },
        published: now,
    }
}

fn headers(map: HeaderMap) -> Headers {
    let pairs = map.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| (name.to_string(), value.as_str().to_owned()))
    });
    Headers(pairs.collect())
}

/// Our headers as the broker's. A name or value that the protocol cannot carry is left out: all of ours can be
/// carried, and a message's own came through the same protocol.
pub(super) fn header_map(headers: &Headers) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter() {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse::<HeaderValue>()) {
            map.append(name, value);
        }
    }
    map
}

/// How many bytes `headers` take on the wire.
pub(super) fn header_bytes(headers: &Headers) -> usize {
    const FRAME: usize = "NATS/1.0\r\n\r\n".len();
    FRAME + headers.iter().map(|(name, value)| name.len() + value.len() + ": \r\n".len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_ack_subjects_are_read() {
        let expected = AckInfo {
            stream: "EVENTS",
            delivered: 2,
            sequence: 7,
            consumer_sequence: 9,
            published: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_000_000_001),
            pending: 3,
        };
        for reply in [
            "$JS.ACK.EVENTS.natshook-a.2.7.9.1700000000000000001.3",
            "$JS.ACK._.ACCHASH.EVENTS.natshook-a.2.7.9.1700000000000000001.3",
            "$JS.ACK.hub.ACCHASH.EVENTS.natshook-a.2.7.9.1700000000000000001.3.token",
        ] {
            assert_eq!(AckInfo::parse(reply), Some(expected), "{reply}");
        }
        for other in ["", "_INBOX.x", "$JS.ACK.EVENTS.c.2", "$JS.ACK.EVENTS.c.x.7.9.1.3"] {
            assert_eq!(AckInfo::parse(other), None, "{other}");
        }
    }
}
