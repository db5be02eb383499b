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
use tokio::time::sleep;

use super::{
    broker::{Broker, BrokerError},
    browse::StreamReader,
};
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
    /// To a JetStream consumer, which has to confirm an ack: what comes behind the message must not be sent before.
    Confirmed {
        /// The connection.
        broker: Arc<Broker>,
        /// The message's ack subject.
        reply: Subject,
        /// The stream that it is in.
        life: Life,
    },
    /// To a stream that holds the message without a consumer: an ack removes it, and it is there until then.
    Parked {
        /// The stream.
        stream: StreamReader,
        /// The message's sequence there.
        sequence: u64,
    },
    /// To nobody: core NATS forgets a message once it is sent.
    Core,
}

/// The waits between attempts to have an ack confirmed.
const CONFIRM_WAIT_MIN: Duration = Duration::from_millis(100);
const CONFIRM_WAIT_MAX: Duration = Duration::from_secs(2);

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
        !matches!(self, Self::Core)
    }

    /// The same receipt, whose acks the broker has to confirm.
    #[must_use]
    pub fn confirmed(self) -> Self {
        match self {
            Self::JetStream { broker, reply, life } => Self::Confirmed { broker, reply, life },
            other => other,
        }
    }

    /// The message is settled; the broker may forget it. Where that has to be confirmed, this goes on until it is.
    pub async fn ack(&self) {
        Failpoint::BeforeAck.pass();
        match self {
            Self::JetStream { .. } | Self::Core => self.say(Bytes::from_static(b"+ACK")).await,
            // Boxed, so that the common case does not carry this one's size around.
            Self::Confirmed { .. } | Self::Parked { .. } => Box::pin(self.ack_until_confirmed()).await,
        }
        Failpoint::AfterAck.pass();
    }

    async fn ack_until_confirmed(&self) {
        let mut wait = CONFIRM_WAIT_MIN;
        loop {
            let confirmed = match self {
                Self::Confirmed { life, .. } if life.is_over() => return,
                Self::Confirmed { broker, reply, .. } => broker.confirm(reply, b"+ACK").await,
                Self::Parked { stream, sequence } => stream.remove(*sequence).await.map(drop),
                Self::JetStream { .. } | Self::Core => return,
            };
            match confirmed {
                Ok(()) => return,
                Err(error) if wait < CONFIRM_WAIT_MAX => {
                    tracing::debug!(%error, "an ack is not confirmed yet")
                }
                Err(error) => self.tell_of_an_unconfirmed_ack(&error),
            }
            sleep(wait).await;
            wait = (wait * 2).min(CONFIRM_WAIT_MAX);
        }
    }

    /// What cannot be settled keeps its line waiting.
    fn tell_of_an_unconfirmed_ack(&self, error: &BrokerError) {
        let broker: &Broker = match self {
            Self::JetStream { broker, .. } | Self::Confirmed { broker, .. } => broker,
            Self::Parked { stream, .. } => stream.broker(),
            Self::Core => return,
        };
        if let Some(unsaid) = broker.may_tell_of_a_lost_ack() {
            tracing::warn!(%error, unsaid, "the broker does not confirm that a delivery is settled; trying again");
        }
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
        if let Self::JetStream { broker, reply, life } | Self::Confirmed { broker, reply, life } = self
            && !life.is_over()
            && let Err(error) = broker.publish_plain(reply.clone(), word).await
            && let Some(unsaid) = broker.may_tell_of_a_lost_ack()
        {
            tracing::warn!(%error, unsaid, "cannot reach the broker to ack; the message will come again");
        }
    }
}
