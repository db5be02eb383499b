//! The parent: runs one delivery from its receipt to its settling. What it calls is pure, or does one thing to
//! the outside; nothing is acked before a 2xx or before another stream has confirmed that it holds the message.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    dead_letter::DeadLetters,
    disposition::{Disposition, Reason, decide},
    failpoint::Failpoint,
    lane::Lane,
    message::{Delivery, Failed},
    metrics::TargetMetrics,
    outcome::{End, Outcome, classify},
    request::Template,
    retry_queue::RetryQueue,
    sender::Sender,
    source::{Incoming, Receipt, StoreError},
    target::Target,
};

/// A message that was handed out so often beyond the first time without a settled attempt seems to end natshook.
const CRASHES_MAX: u64 = 10;
const STORE_WAIT_MIN: Duration = Duration::from_secs(1);
const STORE_WAIT_MAX: Duration = Duration::from_secs(30);

/// How natshook ends, as a delivery sees it.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Nothing new begins; what waits is handed back.
    pub drain: CancellationToken,
    /// The grace period is over: everything is handed back.
    pub abandon: CancellationToken,
}

/// Everything that deliveries to one target need.
#[derive(Debug)]
pub struct Courier {
    /// The target.
    pub target: Target,
    /// What its requests have in common.
    pub template: Template,
    /// How they are sent.
    pub sender: Sender,
    /// What they pass through.
    pub lane: Lane,
    /// Where failed ones wait.
    pub retry_queue: RetryQueue,
    /// Where given-up ones go.
    pub dead_letters: DeadLetters,
    /// What is counted.
    pub metrics: TargetMetrics,
    /// How natshook ends.
    pub ending: Ending,
}

impl Courier {
    /// Runs a delivery to its end: acked, waiting in the retry queue, a dead letter, or handed back. Whoever polls
    /// this tells the broker meanwhile that work goes on.
    pub async fn run(&self, incoming: Incoming) {
        let Incoming { delivery, receipt, handed_out } = incoming;
        Failpoint::Fetched.pass();
        self.metrics.in_flight.inc();
        self.deliver(delivery, &receipt, handed_out).await;
        self.metrics.in_flight.dec();
    }

    async fn deliver(&self, mut delivery: Delivery, receipt: &Receipt, handed_out: u64) {
        let storable = self.retry_queue.can_hold(&delivery);
        if !storable && delivery.failed.is_none() {
            delivery.failed = attempts_by_hand_outs(&delivery, handed_out);
        }
        if let Some(reason) = self.unfit(&delivery, if storable { handed_out } else { 1 }) {
            return self.settle(delivery, Disposition::DeadLetter(reason), receipt).await;
        }
        loop {
            let Some(disposition) = self.attempt(&mut delivery, receipt).await else {
                return self.hand_back(delivery, receipt).await;
            };
            match (disposition, &self.retry_queue) {
                (Disposition::Retry { at }, RetryQueue::Memory) if self.wait_until(at).await => {}
                (Disposition::Retry { .. }, RetryQueue::Memory) => {
                    return self.hand_back(delivery, receipt).await;
                }
                _ => return self.settle(delivery, disposition, receipt).await,
            }
        }
    }

    /// Why the delivery is given up without an attempt.
    fn unfit(&self, delivery: &Delivery, handed_out: u64) -> Option<Reason> {
        if handed_out > CRASHES_MAX + 1 {
            return Some(Reason::CrashLoop);
        }
        let too_large = delivery.message.payload.len() > self.target.max_payload_bytes;
        too_large.then_some(Reason::MessageTooLarge)
    }

    /// Makes one attempt and decides what follows; `None` when natshook ends before it could begin.
    async fn attempt(&self, delivery: &mut Delivery, receipt: &Receipt) -> Option<Disposition> {
        // What cannot be given back is worked on to the end of the grace period.
        let stop = if receipt.takes_back() { &self.ending.drain } else { &self.ending.abandon };
        let pass = tokio::select! {
            biased;
            pass = self.lane.enter() => pass,
            () = stop.cancelled() => return None,
        };
        let started = SystemTime::now();
        let end = tokio::select! {
            biased;
            end = self.sender.attempt(|| self.template.request(delivery, started)) => end,
            () = stop.cancelled(), if !receipt.takes_back() => return None,
        };
        Failpoint::Answered.pass();
        let outcome = classify(&end, &self.target.outcomes);
        let now = Instant::now();
        self.metrics.attempted(&end, outcome, now.saturating_duration_since(pass.began()));
        let opened = pass.report(&end, outcome, now);
        self.metrics.lane_limit(self.lane.limit());
        if let Some(wait) = opened {
            tracing::warn!(
                target = %self.target.name, end = end.word(), cause = end.describe(),
                wait = %humantime::format_duration(wait), "breaker opened: the target gets nothing until then"
            );
        }
        if outcome == Outcome::Delivered {
            return Some(Disposition::Ack);
        }
        let failed = note_failure(delivery, &end, started);
        let (published, policy) = (delivery.message.published, &self.target.retry);
        Some(decide(outcome, &end, &failed, published, policy, SystemTime::now(), fastrand::f64()))
            .inspect(|_| delivery.failed = Some(failed))
    }

    /// Does what was decided, again and again until it is done. The message stays unacked meanwhile, so that
    /// whatever happens it is not lost.
    pub async fn settle(&self, delivery: Delivery, disposition: Disposition, receipt: &Receipt) {
        match disposition {
            Disposition::Ack => receipt.ack().await,
            // Boxed, so that the common case does not carry this one's size around.
            Disposition::Retry { .. } | Disposition::DeadLetter(_) => {
                Box::pin(self.settle_failed(delivery, disposition, receipt)).await;
            }
        }
    }

    async fn settle_failed(&self, delivery: Delivery, disposition: Disposition, receipt: &Receipt) {
        let mut wait = STORE_WAIT_MIN;
        while let Err(error) = self.store(&delivery, disposition).await {
            self.metrics.store_failures.inc();
            let too_large = matches!(error, StoreError::TooLarge { .. } | StoreError::TooManyHeaders { .. });
            if let (true, Disposition::Retry { at }) = (too_large, disposition) {
                return receipt.hand_back(at.duration_since(SystemTime::now()).unwrap_or_default()).await;
            }
            tracing::error!(
                target = %self.target.name, subject = delivery.message.subject, %error, ?disposition,
                stream = self.place(disposition), retry_in = %humantime::format_duration(wait),
                "cannot store what was not delivered; it stays unacked until it can be stored"
            );
            tokio::select! {
                () = sleep(wait) => {}
                () = self.dead_letters.reconnected() => {}
                () = self.ending.drain.cancelled() => return receipt.hand_back(Duration::ZERO).await,
            }
            wait = (wait * 2).min(STORE_WAIT_MAX);
        }
        receipt.ack().await;
        self.tell(&delivery, disposition);
    }

    async fn store(&self, delivery: &Delivery, disposition: Disposition) -> Result<(), StoreError> {
        let target = self.target.name.as_str();
        match disposition {
            Disposition::Ack => Ok(()),
            Disposition::Retry { at } => {
                Failpoint::BeforeRetryPublish.pass();
                self.retry_queue.put(delivery, target, at).await?;
                Failpoint::AfterRetryPublish.pass();
                Ok(())
            }
            Disposition::DeadLetter(reason) => {
                Failpoint::BeforeDeadLetterPublish.pass();
                self.dead_letters.put(delivery, target, reason).await?;
                Failpoint::AfterDeadLetterPublish.pass();
                self.metrics.dead_lettered(reason);
                Ok(())
            }
        }
    }

    fn place(&self, disposition: Disposition) -> String {
        match disposition {
            Disposition::Ack => String::new(),
            Disposition::Retry { .. } => self.retry_queue.place(),
            Disposition::DeadLetter(_) => self.dead_letters.place(),
        }
    }

    fn tell(&self, delivery: &Delivery, disposition: Disposition) {
        let (target, message) = (&self.target.name, &delivery.message);
        let id = message.webhook_id();
        let error = delivery.failed.as_ref().map_or("", |failed| failed.last_error.as_str());
        match disposition {
            Disposition::Ack => {}
            Disposition::Retry { at } => tracing::info!(
                target = %target, subject = message.subject, id, attempt = delivery.attempts(), error,
                next_attempt = %humantime::format_rfc3339_seconds(at), "attempt failed"
            ),
            Disposition::DeadLetter(reason) => tracing::warn!(
                target = %target, subject = message.subject, id, attempts = delivery.attempts(), error,
                reason = reason.as_str(), "given up: stored as a dead letter"
            ),
        }
    }

    /// Gives an unattempted message back to where it came from. Core NATS takes nothing back, so there it
    /// becomes a dead letter.
    async fn hand_back(&self, delivery: Delivery, receipt: &Receipt) {
        if receipt.takes_back() {
            return receipt.hand_back(Duration::ZERO).await;
        }
        self.settle(delivery, Disposition::DeadLetter(Reason::ShutDown), receipt).await;
    }

    /// Waits in memory; false when natshook ends first.
    async fn wait_until(&self, at: SystemTime) -> bool {
        let wait = at.duration_since(SystemTime::now()).unwrap_or_default();
        tokio::select! {
            () = sleep(wait) => true,
            () = self.ending.drain.cancelled() => false,
        }
    }
}

/// A message so large that the retry queue cannot hold it stays in its stream between attempts; the broker's
/// count of hand-outs then counts them.
fn attempts_by_hand_outs(delivery: &Delivery, handed_out: u64) -> Option<Failed> {
    let attempts = u32::try_from(handed_out.saturating_sub(1)).unwrap_or(u32::MAX);
    NonZeroU32::new(attempts).map(|attempts| Failed {
        attempts,
        first_attempt: delivery.message.published,
        last_attempt: delivery.message.published,
        last_status: None,
        last_error: String::new(),
        response: Bytes::new(),
    })
}

fn note_failure(delivery: &Delivery, end: &End, started: SystemTime) -> Failed {
    let response = match end {
        End::Answered(answer) => answer.excerpt.clone(),
        End::Broken(_) => Bytes::new(),
    };
    Failed {
        attempts: NonZeroU32::MIN.saturating_add(delivery.attempts()),
        first_attempt: delivery.failed.as_ref().map_or(started, |failed| failed.first_attempt),
        last_attempt: started,
        last_status: end.status(),
        last_error: end.describe(),
        response,
    }
}
