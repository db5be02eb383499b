//! Dead letters: messages that natshook gave up on, stored with the reason and everything that is known of the
//! attempts.

use std::sync::Arc;

use bytes::Bytes;

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

    /// Stores `delivery` with `reason`. On success the message that it came from may be acked.
    ///
    /// A body that the server does not take together with the headers is left out, and so are the message's own
    /// headers where they are too many with natshook's; natshook's say what was left out and where it is.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn put(&self, delivery: &Delivery, target: &str, reason: Reason) -> Result<(), StoreError> {
        let headers = envelope::dead_letter_headers(delivery, target, reason);
        let message = &delivery.message;
        match self {
            Self::Plain { broker, name } => {
                let subject = name.dead_letter_subject(target);
                Ok(broker.publish(&subject, &headers, message.payload.clone()).await?)
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
) -> Result<(), StoreError> {
    let mut payload = message.payload.clone();
    let (mut bare, mut bodiless) = (false, false);
    loop {
        match stream.store(target, headers.clone(), payload.clone()).await {
            Err(StoreError::TooManyHeaders { bytes }) if !bare => {
                tracing::error!(
                    target,
                    bytes,
                    "a dead letter is stored without the message's headers: a stream takes 64 KiB of them"
                );
                envelope::omit_original_headers(&mut headers, message);
                bare = true;
            }
            Err(StoreError::TooLarge { bytes, max_payload }) if !bodiless => {
                tracing::error!(
                    target,
                    bytes,
                    max_payload,
                    "a dead letter is stored without its body: the server's max_payload is too small for it"
                );
                envelope::omit_body(&mut headers, message);
                payload = Bytes::new();
                bodiless = true;
            }
            stored => return stored,
        }
    }
}
