//! What a leader stands on: the target's courier, the stream and consumer that it takes from, and where it parks.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{super::pump, OrderedTarget, leftovers};
use crate::{
    delivery::{Courier, Settled},
    disposition::Reason,
    envelope,
    order::{Key, Order, Parked},
    retry_queue::RetryQueue,
    source::{Broker, BrokerError, Incoming, OwnStream, Pull, Receipt, StreamReader, TargetStream, survey},
};

/// How many messages a leader has in memory for each request that it may have in flight, and the least and most.
const WINDOW_FACTOR: usize = 4;
const WINDOW_MIN: usize = 64;
const WINDOW_MAX: usize = 1024;
/// Which part of them may be of one key, where there are several.
const SHARES: usize = 4;
/// How long the broker keeps a leader's request for messages open: one that stops without a word is sent messages for so
/// long, and those have to be due again when another takes over.
const EXPIRES: Duration = Duration::from_secs(4);
/// After a parked delivery could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What a leader of one of a target's streams stands on.
#[derive(Debug)]
pub(super) struct Ground<'a> {
    pub(super) broker: Arc<Broker>,
    pub(super) courier: &'a Courier,
    pub(super) order: &'a Order,
    /// Where deliveries are parked.
    pub(super) queue: RetryQueue,
    /// The same, to be read.
    pub(super) parked: StreamReader,
    /// Under which subject the target's are.
    pub(super) parked_subject: String,
    /// The retry queue of unordered targets.
    pub(super) retry_queue: OwnStream,
    /// The source stream.
    pub(super) stream: Arc<str>,
    /// All streams of the target; the leader of the first takes care of what belongs to none.
    pub(super) streams: Vec<Arc<str>>,
    pub(super) consumer: String,
    /// How many messages may be in memory.
    pub(super) window: usize,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        ordered: &'a OrderedTarget,
        term: u64,
        streams: &[TargetStream],
        stream: &TargetStream,
    ) -> Self {
        let OrderedTarget { broker, setup, office, courier, order, .. } = ordered;
        let target = courier.target.name.as_str();
        let wanted = WINDOW_FACTOR * courier.target.concurrency.max().get();
        Self {
            broker: Arc::clone(broker),
            courier,
            order,
            queue: RetryQueue::Parked { stream: office.retry_queue.parked(), term },
            parked: StreamReader::new(Arc::clone(broker), setup.name.retry_stream()),
            parked_subject: setup.name.ordered_subject(target),
            retry_queue: office.retry_queue.clone(),
            stream: Arc::clone(&stream.stream),
            streams: streams.iter().map(|stream| Arc::clone(&stream.stream)).collect(),
            consumer: setup.name.consumer(target),
            window: wanted.clamp(WINDOW_MIN, WINDOW_MAX),
        }
    }

    /// Takes from the target's consumer, as nobody else does meanwhile.
    pub(super) fn pull(&self, setup: &pump::Setup, stream: &TargetStream) -> Pull {
        let mut spec = pump::pull_spec(setup, self.courier, stream);
        spec.consumer.max_ack_pending = i64::try_from(self.window).unwrap_or(i64::MAX);
        spec.expires = EXPIRES;
        Pull::new(Arc::clone(&self.broker), spec)
    }

    /// How many messages of one key may be in memory.
    pub(super) fn share(&self) -> usize {
        match self.order {
            // Nobody else needs the rest.
            Order::Target => usize::MAX,
            Order::Subject | Order::Token(_) | Order::Header(_) => self.window / SHARES,
        }
    }

    /// How many messages the consumer has handed out that are not acked; `None` while it is not there.
    pub(super) async fn unacked(&self) -> Result<Option<u64>, BrokerError> {
        let lag = survey::lag(&self.broker, &self.stream, &self.consumer).await?;
        Ok(lag.map(|lag| lag.unacked))
    }

    /// Reads a parked delivery and makes the attempt that is due.
    pub(super) async fn attempt_parked(&self, key: Key, parked: Parked) -> Settled {
        let stored = loop {
            match self.parked.get(parked.copy).await {
                Ok(Some(stored)) => break stored,
                Ok(None) => {
                    let target = &self.courier.target.name;
                    tracing::warn!(%target, key = &*key, "a parked delivery is gone; somebody else removed it");
                    return Settled::Ended;
                }
                Err(error) => tracing::debug!(%error, "a parked delivery cannot be read yet"),
            }
            tokio::select! {
                () = sleep(READ_AGAIN_AFTER) => {}
                () = self.courier.ending.drain.cancelled() => return Settled::HandedBack,
            }
        };
        let receipt = Receipt::Parked { stream: self.parked.clone(), sequence: parked.copy };
        let waiting = match envelope::read_waiting(stored.clone()) {
            Ok(waiting) => waiting,
            Err(_) => return leftovers::set_aside(self, stored, &receipt).await,
        };
        if self.courier.is_too_old(&waiting.delivery, parked.not_before) {
            return self.courier.give_up(waiting.delivery, Reason::TooOld, &receipt).await;
        }
        let incoming = Incoming { delivery: waiting.delivery, receipt, handed_out: 1 };
        self.courier.run_through(incoming, &self.queue).await
    }

    /// Parks a delivery that waits behind another.
    pub(super) async fn park(&self, incoming: Incoming) -> Settled {
        self.courier.park(incoming.delivery, &incoming.receipt, &self.queue).await
    }
}
