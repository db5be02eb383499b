//! The receipt of a message: how the broker is told that it was settled, is being worked on, or comes back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::Subject;
use bytes::Bytes;

use super::broker::Broker;
use crate::{failpoint::Failpoint, message::Delivery};

/// A delivery as it comes in, with the receipt by which it is acked.
#[derive(Debug)]
pub struct Incoming {
    /// What is to be delivered.
    pub delivery: Delivery,
    /// How its settling is reported.
    pub receipt: Receipt,
    /// How often the broker has handed the message out, this time included; 1 for the first.
    pub handed_out: u64,
}

/// How the settling of a message is reported to where it came from. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Receipt {
    /// To a JetStream consumer.
    JetStream {
        /// The connection.
        broker: Arc<Broker>,
        /// The message's ack subject.
        reply: Subject,
        /// The stream that it is in.
        life: Life,
    },
    /// To nobody: core NATS forgets a message once it is sent.
    Core,
}

/// The lives of a stream. One that is deleted and made again counts from 1 anew, under the same name and with a
/// consumer of the same name: the broker would take an ack of the old one's fifth message for the new one's.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives(Arc<AtomicU64>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Life {
    latest: Arc<AtomicU64>,
    number: u64,
}

impl Lives {
    /// The receipt of a message that came in the latest life.
    pub(super) fn receipt(&self, broker: &Arc<Broker>, reply: Subject) -> Receipt {
        let life = Life { latest: Arc::clone(&self.0), number: self.0.load(Ordering::Relaxed) };
        Receipt::JetStream { broker: Arc::clone(broker), reply, life }
    }

    /// The stream was made again: nothing is said any more about what came before.
    pub(super) fn begin_another(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Life {
    fn is_over(&self) -> bool {
        self.latest.load(Ordering::Relaxed) != self.number
    }
}

impl Receipt {
    /// Whether the source takes a message back and hands it out again.
    #[must_use]
    pub fn takes_back(&self) -> bool {
        matches!(self, Self::JetStream { .. })
    }

    /// The message is settled; the broker may forget it.
    pub async fn ack(&self) {
        Failpoint::BeforeAck.pass();
        self.say(Bytes::from_static(b"+ACK")).await;
        Failpoint::AfterAck.pass();
    }

    /// Work goes on: the broker starts its `ack_wait` again.
    pub async fn progress(&self) {
        self.say(Bytes::from_static(b"+WPI")).await;
    }

    /// The message comes back after `delay`.
    pub async fn hand_back(&self, delay: Duration) {
        if delay.is_zero() {
            self.say(Bytes::from_static(b"-NAK")).await;
        } else {
            self.say(Bytes::from(format!("-NAK {{\"delay\": {}}}", delay.as_nanos()))).await;
        }
    }

    /// An ack that gets lost costs a duplicate and loses nothing, so a failure is reported and that is all.
    async fn say(&self, word: Bytes) {
        if let Self::JetStream { broker, reply, life } = self
            && !life.is_over()
            && let Err(error) = broker.publish_plain(reply.clone(), word).await
        {
            tracing::warn!(%error, "cannot reach the broker to ack; the message will come again");
        }
    }
}
