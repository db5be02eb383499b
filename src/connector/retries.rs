//! From the retry queue back to the lanes: one consumer for all targets. What is not due, or whose lane is not
//! open, goes back with a delay; nothing waits here for a lane, so no target holds up another.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::watch, time::sleep};

use super::{
    couriers::Couriers, open::OpenDeliveries, prepare::OwnStreams, registry::Registered, space::Part,
};
use crate::{
    config::InstanceName,
    dead_letter::{DeadLetterOffice, DeadLetters},
    delivery::{Courier, Ending},
    disposition::Reason,
    envelope::{self, UnreadableError, Waiting},
    journal::QueueJournal,
    message::Delivery,
    metrics::Metrics,
    retry_queue::RetryQueue,
    source::{
        Broker, BrokerError, ConsumerSpec, Incoming, OwnStream, Position, Pull, PullSpec, Receipt, Recovery,
    },
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
/// How long a replayed delivery goes back for when the dead letter that it was cannot be removed.
const LETTER_STUCK_WAIT: Duration = Duration::from_secs(10);
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
    part: Part,
}

#[derive(Debug)]
struct WayBack {
    couriers: Couriers,
    registered: Option<Registered>,
    queue: RetryQueue,
    dead_letters: DeadLetters,
    metrics: Metrics,
    office: DeadLetterOffice,
    journal: QueueJournal,
    ending: Ending,
}

impl Retries {
    pub(super) fn new(
        broker: Arc<Broker>,
        name: &InstanceName,
        own: &OwnStreams,
        (couriers, registered): (Couriers, Option<Registered>),
        metrics: Metrics,
        part: Part,
        ending: Ending,
    ) -> Self {
        let spec = pull_spec(name, own.retry_queue.clone());
        let queue = RetryQueue::Stream(own.retry_queue.clone());
        let dead_letters = DeadLetters::Stream(own.dead_letters.clone());
        let office = DeadLetterOffice::new(Arc::clone(&broker), name.clone());
        let journal = QueueJournal::default();
        let way_back =
            WayBack { couriers, registered, queue, dead_letters, office, metrics, journal, ending };
        Self { pull: Pull::new(broker, spec), way_back, part }
    }

    pub(super) fn attached(&self) -> watch::Receiver<bool> {
        self.pull.attached()
    }

    pub(super) async fn run(self) {
        let Self { mut pull, way_back, part } = self;
        let mut open = OpenDeliveries::new(part);
        let mut ticks = open.ticks();
        loop {
            open.advance();
            let room = open.room(OPEN_MAX, OPEN_MAX);
            tokio::select! {
                biased;
                () = way_back.ending.drain.cancelled() => break,
                incoming = pull.next(room.messages, room.bytes) => {
                    let receipt = incoming.receipt.clone();
                    let bytes = incoming.delivery.message.payload.len();
                    open.push(&receipt, bytes, way_back.take(incoming));
                }
                () = open.one_ended() => {}
                _ = ticks.tick() => {
                    way_back.journal.sum_up();
                    open.report_progress().await;
                    pull.watch_silence();
                }
            }
        }
        tokio::join!(pull.close(), open.finish(&way_back.ending));
        way_back.close_journals();
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
        expires: PullSpec::EXPIRES,
        recovery: Recovery::RetryQueue(queue),
    }
}

impl WayBack {
    /// Whoever ends last, a target's pump or this, says what was left to say of the target.
    fn close_journals(&self) {
        self.journal.close();
        for courier in self.couriers.all() {
            courier.journal.close();
        }
    }

    async fn take(&self, incoming: Incoming) {
        let Incoming { delivery: stored, receipt, handed_out } = incoming;
        let subject = stored.message.subject.clone();
        match envelope::read_waiting(stored.message.clone()) {
            Err(error) => self.set_aside(stored, &subject, &error, &receipt).await,
            Ok(waiting) => self.go_on(waiting, receipt, handed_out).await,
        }
    }

    async fn go_on(&self, mut waiting: Waiting, receipt: Receipt, handed_out: u64) {
        if let Err(error) = self.remove_letter(&mut waiting).await {
            self.journal.stuck(&waiting.target, &error);
            return self.send_back(waiting, &receipt, handed_out, LETTER_STUCK_WAIT).await;
        }
        match self.couriers.get(&waiting.target) {
            Some(courier) => self.attempt_when_due(&courier, waiting, receipt, handed_out).await,
            None => self.unknown_target(waiting, receipt, handed_out).await,
        }
    }

    /// The dead letter that a replayed delivery was leaves its stream before anything becomes of the delivery: whoever
    /// replays then knows that a letter which is there was not delivered (see `dead_letter::replay`).
    async fn remove_letter(&self, waiting: &mut Waiting) -> Result<(), BrokerError> {
        if let Some(mark) = waiting.letter {
            self.office.remove_marked(mark).await?;
            waiting.letter = None;
        }
        Ok(())
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
        if let Some(wait) = courier.lane.paused_for() {
            return self.send_back(waiting, &receipt, handed_out, wait).await;
        }
        if courier.is_too_old(&waiting.delivery, waiting.not_before) {
            courier.give_up(waiting.delivery, Reason::TooOld, &receipt).await;
            return;
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
                Err(error) => self.journal.not_renewed(&error),
            }
        }
        receipt.hand_back(wait.min(BACK_MAX)).await;
    }

    async fn unknown_target(&self, waiting: Waiting, receipt: Receipt, handed_out: u64) {
        // One that registered and cannot be used at the moment is known all the same.
        if self.registered.as_ref().is_some_and(|registered| registered.may_have(&waiting.target)) {
            return self.send_back(waiting, &receipt, handed_out, UNKNOWN_TARGET_WAIT).await;
        }
        if handed_out <= RENEW_AFTER {
            self.journal.unknown(&waiting.delivery.message, &waiting.target);
            return receipt.hand_back(UNKNOWN_TARGET_WAIT).await;
        }
        let Waiting { delivery, target, .. } = waiting;
        self.give_up(&delivery, &target, Reason::UnknownTarget, &receipt).await;
    }

    /// Somebody else wrote into the retry queue: the message becomes a dead letter under the target that its
    /// subject names.
    async fn set_aside(&self, stored: Delivery, subject: &str, error: &UnreadableError, receipt: &Receipt) {
        self.journal.strange(&stored.message, &error.to_string());
        let target = subject.rsplit('.').next().unwrap_or_default();
        self.give_up(&stored, target, Reason::Unreadable, receipt).await;
    }

    async fn give_up(&self, delivery: &Delivery, target: &str, reason: Reason, receipt: &Receipt) {
        match self.dead_letters.put(delivery, target, reason).await {
            Ok(omitted) => {
                self.metrics.stray_dead_lettered(reason);
                self.journal.incomplete(&delivery.message, target, omitted);
                receipt.ack().await;
            }
            Err(error) => {
                self.metrics.stray_store_failed();
                self.journal.not_stored(&delivery.message, target, &error);
                receipt.hand_back(UNKNOWN_TARGET_WAIT).await;
            }
        }
    }
}
