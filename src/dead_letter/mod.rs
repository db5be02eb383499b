//! Dead letters: messages that natshook gave up on, stored with the reason and everything that is known of the
//! attempts. Here they are stored; `office` looks them up and removes them, `replay` sends them again.

mod office;
mod replay;

use std::sync::Arc;

use bytes::Bytes;

pub use office::{DeadLetterOffice, OfficeError, Page, Round, Selection};
pub use replay::{Pace, Replay, Replayed, Tally};

use crate::{
    config::InstanceName,
    disposition::Reason,
    envelope,
    message::{Delivery, Headers, Message},
    source::{Broker, OwnStream, StoreError},
};

/// Where dead letters go.
#[derive(Clone, Debug)]
pub enum DeadLetters {
    /// To the stream; they are safe once it has confirmed them.
    Stream(OwnStream),
    /// To the subject, for whoever listens.
    Plain {
        /// The connection.
        broker: Arc<Broker>,
        /// Whose.
        name: InstanceName,
    },
}

/// What a dead letter lacks, because the server or a stream would not take it whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Omitted {
    /// The message's own headers, which made it so many bytes of headers.
    pub headers: Option<usize>,
    /// The body, which made it more bytes than the server's `max_payload`.
    pub body: Option<TooLarge>,
}

/// Why a body was left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLarge {
    /// How many bytes the dead letter would have.
    pub bytes: usize,
    /// How many the server takes.
    pub max_payload: usize,
}

impl DeadLetters {
    /// Where dead letters go, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Stream(stream) => stream.name(),
            Self::Plain { name, .. } => name.dead_letter_subject("*"),
        }
    }

    /// Resolves when the connection to the broker has been made again: what failed may succeed now.
    pub async fn reconnected(&self) {
        match self {
            Self::Stream(stream) => stream.reconnected().await,
            Self::Plain { broker, .. } => broker.reconnected().await,
        }
    }

    /// Stores `delivery` with `reason`, and says what was left out. On success the message that it came from may be
    /// acked.
    ///
    /// A body that the server does not take together with the headers is left out, and so are the message's own
    /// headers where they are too many with natshook's; natshook's say what was left out and where it is.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn put(
        &self,
        delivery: &Delivery,
        target: &str,
        reason: Reason,
    ) -> Result<Omitted, StoreError> {
        let headers = envelope::dead_letter_headers(delivery, target, reason);
        let message = &delivery.message;
        match self {
            Self::Plain { broker, name } => {
                let subject = name.dead_letter_subject(target);
                broker.publish(&subject, &headers, message.payload.clone()).await?;
                Ok(Omitted::default())
            }
            Self::Stream(stream) => put_in_stream(stream, target, headers, message).await,
        }
    }
}

/// Each part is left out once at most, so this ends.
async fn put_in_stream(
    stream: &OwnStream,
    target: &str,
    mut headers: Headers,
    message: &Message,
) -> Result<Omitted, StoreError> {
    let mut payload = message.payload.clone();
    let mut omitted = Omitted::default();
    loop {
        match stream.store(target, headers.clone(), payload.clone()).await.map(drop) {
            Err(StoreError::TooManyHeaders { bytes }) if omitted.headers.is_none() => {
                envelope::omit_original_headers(&mut headers, message);
                omitted.headers = Some(bytes);
            }
            Err(StoreError::TooLarge { bytes, max_payload }) if omitted.body.is_none() => {
                envelope::omit_body(&mut headers, message);
                payload = Bytes::new();
                omitted.body = Some(TooLarge { bytes, max_payload });
            }
            stored => return stored.map(|()| omitted),
        }
    }
}
