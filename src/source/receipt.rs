//! The receipt of a message: how the broker is told that it was settled, is being worked on, or comes back.

use std::{sync::Arc, time::Duration};

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
    },
    /// To nobody: core NATS forgets a message once it is sent.
    Core,
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
        if let Self::JetStream { broker, reply } = self
            && let Err(error) = broker.publish_plain(reply.clone(), word).await
        {
            tracing::warn!(%error, "cannot reach the broker to ack; the message will come again");
        }
    }
}
