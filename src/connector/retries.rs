//! From the retry queue back to the lanes: one consumer for all targets. What is not due, or whose lane is not
//! open, goes back with a delay; nothing waits here for a lane, so no target holds up another.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{OwnStreams, open::OpenDeliveries};
use crate::{
    config::{Config, InstanceName},
    dead_letter::DeadLetters,
    delivery::{Courier, Ending},
    disposition::{Disposition, Reason, expired},
    envelope::{self, UnreadableError, Waiting},
    message::Delivery,
    retry_queue::RetryQueue,
    source::{Broker, ConsumerSpec, Incoming, OwnStream, Position, Pull, PullSpec, Receipt, Recovery},
    subject::Pattern,
    target::Start,
};

/// The most deliveries from the retry queue that are looked at or attempted at a time.
const OPEN_MAX: usize = 1024;
/// What is due within this time is waited for here: the broker's timers are no finer than a second.
const SOON: Duration = Duration::from_secs(1);
/// How long a delivery goes back for when its lane has no place for it.
const LANE_FULL_WAIT: Duration = Duration::from_secs(1);
/// How long a delivery goes back for when its target is not in the config: another replica may know it.
const UNKNOWN_TARGET_WAIT: Duration = Duration::from_secs(30);
/// After so many hand-outs a delivery that goes back is stored anew. Its count of hand-outs starts again with
/// that, so that only crashes make it grow further.
const RENEW_AFTER: u64 = 5;
/// The longest a delivery goes back for at a time.
const BACK_MAX: Duration = Duration::from_secs(24 * 3600);

/// The way back from the retry queue.
#[derive(Debug)]
pub(super) struct Retries {
    pull: Pull,
    way_back: WayBack,
}

#[derive(Debug)]
struct WayBack {
    couriers: HashMap<String, Arc<Courier>>,
    queue: RetryQueue,
    dead_letters: DeadLetters,
    ending: Ending,
}

impl Retries {
    pub(super) fn new(
        broker: Arc<Broker>,
        config: &Config,
        own: &OwnStreams,
        couriers: HashMap<String, Arc<Courier>>,
        ending: Ending,
    ) -> Self {
        let spec = pull_spec(&config.name, own.retry_queue.clone());
        let queue = RetryQueue::Stream(own.retry_queue.clone());
        let dead_letters = DeadLetters::Stream(own.dead_letters.clone());
        Self { pull: Pull::new(broker, spec), way_back: WayBack { couriers, queue, dead_letters, ending } }
    }

    pub(super) fn attached(&self) -> watch::Receiver<bool> {
        self.pull.attached()
    }

    pub(super) async fn run(self) {
        let Self { mut pull, way_back } = self;
        let mut open = OpenDeliveries::new();
        let mut ticks = OpenDeliveries::ticks();
        loop {
            open.advance();
            let room = open.room(OPEN_MAX);
            tokio::select! {
                biased;
                () = way_back.ending.drain.cancelled() => break,
                incoming = pull.next(room) => {
                    let receipt = incoming.receipt.clone();
                    let bytes = incoming.delivery.message.payload.len();
                    open.push(&receipt, bytes, way_back.take(incoming));
                }
                () = open.one_ended() => {}
                _ = ticks.tick() => {
                    open.report_progress().await;
                    pull.watch_silence();
                }
            }
        }
        tokio::join!(pull.close(), open.finish(&way_back.ending));
    }
}

fn pull_spec(name: &InstanceName, queue: OwnStream) -> PullSpec {
    let filter = name.retry_subject("*");
    PullSpec {
        wanted: Pattern::new(&filter).into_iter().collect(),
        consumer: ConsumerSpec {
            stream: name.retry_stream().into(),
            name: name.consumer("retry"),
            filters: vec![filter],
            // Deliveries that went back with a delay count until they are due.
            max_ack_pending: -1,
        },
        start: Position::Start(Start::All),
        recovery: Recovery::RetryQueue(queue),
    }
}

impl WayBack {
    async fn take(&self, incoming: Incoming) {
        let Incoming { delivery: stored, receipt, handed_out } = incoming;
        let subject = stored.message.subject.clone();
        match envelope::read_waiting(stored.message.clone()) {
            Err(error) => self.set_aside(stored, &subject, &error, &receipt).await,
            Ok(waiting) => match self.couriers.get(&waiting.target) {
                Some(courier) => self.attempt_when_due(courier, waiting, receipt, handed_out).await,
                None => self.unknown_target(waiting, receipt, handed_out).await,
            },
        }
    }

    async fn attempt_when_due(&self, courier: &Courier, waiting: Waiting, receipt: Receipt, handed_out: u64) {
        let wait = waiting.not_before.duration_since(SystemTime::now()).unwrap_or_default();
        if wait > SOON {
            return self.send_back(waiting, &receipt, handed_out, wait).await;
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = self.ending.drain.cancelled() => return receipt.hand_back(wait).await,
        }
        let (published, policy) = (waiting.delivery.message.published, &courier.target.retry);
        if expired(SystemTime::now(), published, policy) {
            let disposition = Disposition::DeadLetter(Reason::TooOld);
            return courier.settle(waiting.delivery, disposition, &receipt).await;
        }
        if let Some(wait) = courier.lane.closed_for() {
            return self.send_back(waiting, &receipt, handed_out, wait).await;
        }
        let Some(_place) = courier.lane.retry_place() else {
            return self.send_back(waiting, &receipt, handed_out, LANE_FULL_WAIT).await;
        };
        let handed_out = handed_out.saturating_sub(RENEW_AFTER);
        courier.run(Incoming { delivery: waiting.delivery, receipt, handed_out }).await;
    }

    /// Back into the queue, for `wait`.
    async fn send_back(&self, waiting: Waiting, receipt: &Receipt, handed_out: u64, wait: Duration) {
        if handed_out > RENEW_AFTER {
            match self.queue.renew(&waiting).await {
                Ok(()) => return receipt.ack().await,
                Err(error) => {
                    tracing::warn!(%error, "cannot renew a waiting delivery; it goes back as it is")
                }
            }
        }
        receipt.hand_back(wait.min(BACK_MAX)).await;
    }

    async fn unknown_target(&self, waiting: Waiting, receipt: Receipt, handed_out: u64) {
        if handed_out <= RENEW_AFTER {
            tracing::warn!(
                target = waiting.target,
                "a delivery waits for a target that the config does not have"
            );
            return receipt.hand_back(UNKNOWN_TARGET_WAIT).await;
        }
        let Waiting { delivery, target, .. } = waiting;
        self.give_up(&delivery, &target, Reason::UnknownTarget, &receipt).await;
    }

    /// Somebody else wrote into the retry queue: the message becomes a dead letter under the target that its
    /// subject names.
    async fn set_aside(&self, stored: Delivery, subject: &str, error: &UnreadableError, receipt: &Receipt) {
        tracing::error!(subject, %error, "a message in the retry queue is not natshook's; set aside as a dead letter");
        let target = subject.rsplit('.').next().unwrap_or_default();
        self.give_up(&stored, target, Reason::Unreadable, receipt).await;
    }

    async fn give_up(&self, delivery: &Delivery, target: &str, reason: Reason, receipt: &Receipt) {
        match self.dead_letters.put(delivery, target, reason).await {
            Ok(()) => receipt.ack().await,
            Err(error) => {
                tracing::error!(target = target, %error, "cannot store a dead letter; it is tried again");
                receipt.hand_back(UNKNOWN_TARGET_WAIT).await;
            }
        }
    }
}
