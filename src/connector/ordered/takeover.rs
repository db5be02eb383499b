//! What a new leader does before it delivers: it reads what is parked, and takes back what the leader before had in memory.
//! Whoever leads does the latter again when it sees that something was handed out to somebody else.
//! Redeliveries come in the order in which they expired, so nothing may be sent before all of them are there.

use std::time::{Duration, Instant};

use tokio::time::{MissedTickBehavior, interval, sleep};

use super::{
    ground::Ground,
    leader::{Leader, Over},
    leftovers,
};
use crate::{
    envelope::{self, Waiting},
    message::{Message, Origin},
    order::{Loaded, Parked},
    source::{AHEAD_MAX, BrokerError, Pull, Receipt},
};

/// How often the broker is asked how much is still missing.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(250);
/// After so long in which nothing more came back, the rest is not waited for: another natshook has it, which knows of no
/// order, or handed it back with a delay. Longer than `ack_wait`, and than natshook's grace period.
const PATIENCE: Duration = Duration::from_secs(60);
/// After parked deliveries could not be read.
const READ_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Leader<'_> {
    /// Knows afterwards everything that is not settled yet.
    pub(super) async fn take_over(&mut self, pull: &mut Pull) -> Result<(), Over> {
        let drain = &self.ground.courier.ending.drain;
        tokio::select! {
            () = self.load() => {}
            () = drain.cancelled() => return Err(Over::Drained),
        }
        self.collect(pull).await
    }

    /// Reads what is parked.
    async fn load(&mut self) {
        let ground = self.ground;
        let mut walk = ground.parked.walk(ground.parked_subject.clone(), 1, AHEAD_MAX);
        loop {
            match walk.next().await {
                Ok(Some(stored)) => self.take_parked(stored).await,
                Ok(None) => break,
                // It is made when something is parked.
                Err(BrokerError::NoStream(_)) => break,
                Err(error) => {
                    tracing::warn!(target = %ground.courier.target.name, %error, "cannot read parked deliveries; trying again");
                    sleep(READ_AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn take_parked(&mut self, stored: Message) {
        let ground = self.ground;
        let Origin::Stored { sequence: copy, .. } = stored.origin else { return };
        let receipt = Receipt::Parked { stream: ground.parked.clone(), sequence: copy };
        let waiting = match envelope::read_waiting(stored.clone()) {
            Ok(waiting) => waiting,
            Err(_) => {
                leftovers::set_aside(ground, stored, &receipt).await;
                return;
            }
        };
        let message = &waiting.delivery.message;
        let Origin::Stored { stream, sequence } = &message.origin else {
            leftovers::set_aside(ground, stored, &receipt).await;
            return;
        };
        if *stream != ground.stream {
            return take_foreign(ground, &waiting, &receipt).await;
        }
        let parked = Parked { copy, attempts: waiting.delivery.attempts(), not_before: waiting.not_before };
        match self.lines.load(&ground.order.key(message), *sequence, message.published, parked) {
            Loaded::New => {}
            Loaded::Twice { superfluous } => {
                Receipt::Parked { stream: ground.parked.clone(), sequence: superfluous }.ack().await;
            }
            Loaded::Stranger => leftovers::put_back(&ground.retry_queue, &waiting, &receipt).await,
        }
    }

    /// Takes messages until everything that was handed out and is not acked is here. Begins no attempt meanwhile.
    pub(super) async fn collect(&mut self, pull: &mut Pull) -> Result<(), Over> {
        let ground = self.ground;
        let attached = pull.attached();
        let mut asking = interval(ASK_AGAIN_AFTER);
        asking.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut missing = 0;
        let mut moved = (self.held(), Instant::now());
        loop {
            tokio::select! {
                biased;
                () = ground.courier.ending.drain.cancelled() => return Err(Over::Drained),
                settled = self.work_once() => settled?,
                incoming = pull.next(missing, 0) => self.arrived(incoming)?,
                _ = asking.tick() => if *attached.borrow() {
                    pull.watch_silence();
                    self.report_progress().await;
                    // What is being worked on may be acked already.
                    if self.is_at_work() {
                        moved.1 = Instant::now();
                        continue;
                    }
                    let held = self.held();
                    pull.take_elsewhere();
                    missing = match ground.unacked().await {
                        Ok(unacked) => usize::try_from(unacked.unwrap_or(0)).unwrap_or(usize::MAX).saturating_sub(held),
                        Err(error) => {
                            tracing::debug!(%error, "the broker does not say what was handed out");
                            continue;
                        }
                    };
                    if missing == 0 {
                        return Ok(());
                    }
                    if moved.0 != held {
                        moved = (held, Instant::now());
                    }
                    if moved.1.elapsed() >= PATIENCE {
                        tracing::warn!(
                            target = %ground.courier.target.name, missing,
                            "messages of an ordered target are with somebody else; they are delivered when they come, out of order"
                        );
                        return Ok(());
                    }
                },
            }
        }
    }
}

/// A message of another stream is for the leader there. Where the target has no such stream any more, there is no order
/// left to keep.
async fn take_foreign(ground: &Ground<'_>, waiting: &Waiting, receipt: &Receipt) {
    let Ground { stream, streams, retry_queue, .. } = ground;
    let Origin::Stored { stream: origin, .. } = &waiting.delivery.message.origin else { return };
    if streams.first() == Some(stream) && !streams.contains(origin) {
        leftovers::put_back(retry_queue, waiting, receipt).await;
    }
}
