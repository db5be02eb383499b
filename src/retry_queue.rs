//! The retry queue: where deliveries wait for their next attempt. It is a stream, so waiting survives restarts of
//! everything and holds no slot; without JetStream it is memory, and does not.

use std::time::SystemTime;

use crate::{
    envelope::{self, Waiting},
    message::{Delivery, Message},
    source::{OwnStream, StoreError},
};

/// What the headers of a waiting delivery may take at most, beside the message's own.
const HEADER_BYTES_RESERVED: usize = 4096;

/// Where deliveries wait.
#[derive(Clone, Debug)]
pub enum RetryQueue {
    /// In the stream.
    Stream(OwnStream),
    /// In the same stream, apart from the others: there they wait for their turn.
    Parked {
        /// The stream.
        stream: OwnStream,
        /// What tells one leader of the target from the next: a delivery that is parked once more is not the copy before.
        term: u64,
    },
    /// In the delivery itself, which waits.
    Memory,
}

impl RetryQueue {
    /// Whether the server takes `delivery` together with the headers that it needs here.
    #[must_use]
    pub fn can_hold(&self, delivery: &Delivery) -> bool {
        match self {
            Self::Stream(stream) | Self::Parked { stream, .. } => {
                let Message { payload, headers, .. } = &delivery.message;
                stream.takes(headers.stored_bytes_max() + HEADER_BYTES_RESERVED, payload.len())
            }
            Self::Memory => true,
        }
    }

    /// Where deliveries wait, for people.
    #[must_use]
    pub fn place(&self) -> String {
        match self {
            Self::Stream(stream) | Self::Parked { stream, .. } => stream.name(),
            Self::Memory => "memory".to_owned(),
        }
    }

    /// Stores `delivery` until it is due. On success the message that it came from may be acked. Returns the sequence at
    /// which the stream holds it; memory has none.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn put(&self, delivery: &Delivery, target: &str, due: SystemTime) -> Result<u64, StoreError> {
        let mut headers = envelope::waiting_headers(delivery, target, due);
        let stream = match self {
            Self::Stream(stream) => stream,
            Self::Parked { stream, term } => {
                headers.append_to_id(&format!(":in-term-{term}"));
                stream
            }
            Self::Memory => return Ok(0),
        };
        stream.store(target, headers, delivery.message.payload.clone()).await
    }

    /// Stores `waiting` again under an id of its own, with everything else as it was. A delivery that was handed
    /// out often without being attempted gets a new life so, and its count of hand-outs keeps its meaning.
    ///
    /// # Errors
    /// It is not stored, or nobody knows; trying again is safe.
    pub async fn renew(&self, waiting: &Waiting) -> Result<(), StoreError> {
        let Self::Stream(stream) = self else { return Ok(()) };
        let headers = envelope::renewed_headers(waiting);
        stream.store(&waiting.target, headers, waiting.delivery.message.payload.clone()).await.map(drop)
    }
}
