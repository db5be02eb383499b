//! The retry queue: where deliveries wait for their next attempt. It is a stream, so waiting survives restarts of
//! everything and holds no slot; without JetStream it is memory, and does not.

use std::{sync::Arc, time::SystemTime};

use crate::{
    config::InstanceName,
    envelope,
    message::{Delivery, Headers},
    source::{Broker, StoreError},
};

/// What the headers of a waiting delivery may take at most, beside the message's own.
const HEADER_BYTES_RESERVED: usize = 4096;

/// Where deliveries wait.
#[derive(Clone, Debug)]
pub enum RetryQueue {
    /// In the stream.
    Stream {
        /// The connection.
        broker: Arc<Broker>,
        /// Whose queue.
        name: InstanceName,
    },
    /// In the delivery itself, which waits.
    Memory,
}

impl RetryQueue {
    /// Whether the server takes `delivery` together with the headers that it needs here.
    #[must_use]
    pub fn can_hold(&self, delivery: &Delivery) -> bool {
        match self {
            Self::Stream { broker, .. } => {
                delivery.message.payload.len() + HEADER_BYTES_RESERVED <= broker.max_payload()
            }
            Self::Memory => true,
        }
    }

    /// Stores `delivery` until it is due. On success the message that it came from may be acked.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn put(&self, delivery: &Delivery, target: &str, due: SystemTime) -> Result<(), StoreError> {
        let Self::Stream { broker, name } = self else { return Ok(()) };
        let headers = envelope::waiting_headers(delivery, target, due);
        store_once(broker, &name.retry_subject(target), headers, delivery).await
    }

    /// Stores `delivery` again under an id of its own, with everything else as it was. A message that was handed
    /// out often without being attempted gets a new life so, and its count of hand-outs keeps its meaning.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn renew(&self, waiting: &envelope::Waiting, generation: u64) -> Result<(), StoreError> {
        let Self::Stream { broker, name } = self else { return Ok(()) };
        let mut headers = envelope::waiting_headers(&waiting.delivery, &waiting.target, waiting.not_before);
        headers.append_to_id(&format!(":{generation}"));
        let payload = waiting.delivery.message.payload.clone();
        broker.store(&name.retry_subject(&waiting.target), &headers, payload).await.map(|_| ())
    }
}

/// Stores once even where the ids lie: a stream that was deleted and made again counts from 1 anew, and the broker
/// would take another message's id for ours. What it calls a duplicate is compared, and stored under a longer
/// id if it is another message.
pub(crate) async fn store_once(
    broker: &Broker,
    subject: &str,
    mut headers: Headers,
    delivery: &Delivery,
) -> Result<(), StoreError> {
    let payload = &delivery.message.payload;
    let stored = broker.store(subject, &headers, payload.clone()).await?;
    if !stored.duplicate {
        return Ok(());
    }
    let known = broker.published_header(&stored, envelope::PUBLISHED).await?;
    if known.as_deref() == headers.get(envelope::PUBLISHED) {
        return Ok(());
    }
    let published = headers.get(envelope::PUBLISHED).unwrap_or_default().to_owned();
    headers.append_to_id(&format!(":{published}"));
    broker.store(subject, &headers, payload.clone()).await.map(|_| ())
}
