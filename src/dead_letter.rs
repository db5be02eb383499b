//! Dead letters: messages that natshook gave up on, stored with the reason and everything that is known of the
//! attempts.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    config::InstanceName,
    disposition::Reason,
    envelope,
    message::Delivery,
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

    /// Stores `delivery` with `reason`. On success the message that it came from may be acked.
    ///
    /// A body that the server does not take together with the headers is left out; the headers then say where
    /// it is.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn put(&self, delivery: &Delivery, target: &str, reason: Reason) -> Result<(), StoreError> {
        let mut headers = envelope::dead_letter_headers(delivery, target, reason);
        let payload = delivery.message.payload.clone();
        match self {
            Self::Plain { broker, name } => {
                Ok(broker.publish(&name.dead_letter_subject(target), &headers, payload).await?)
            }
            Self::Stream(stream) => match stream.store(target, headers.clone(), payload).await {
                Err(StoreError::TooLarge { bytes, max_payload }) => {
                    tracing::error!(
                        target,
                        bytes,
                        max_payload,
                        "a dead letter is stored without its body: the server's max_payload is too small for it"
                    );
                    envelope::note_omitted_body(&mut headers, &delivery.message);
                    stream.store(target, headers, Bytes::new()).await
                }
                other => other,
            },
        }
    }
}
