//! The parent: runs one delivery from its receipt to its settling. What it calls is pure, or does one thing to
//! the outside; nothing is acked before a 2xx or before another stream has confirmed that it holds the message.

mod settling;

use std::{
    num::NonZeroU32,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{Batcher, Entry, Judgement, MemberEnd},
    dead_letter::DeadLetters,
    disposition::{Disposition, Reason, decide, expired},
    failpoint::Failpoint,
    journal::Journal,
    lane::{Lane, Pass},
    message::{Delivery, Failed, Message},
    metrics::TargetMetrics,
    outcome::{End, Outcome, classify},
    replies::Replies,
    request::{Content, Template},
    retry_queue::RetryQueue,
    sender::Sender,
    shape::{Refusal, Verdict},
    shaper::Shaper,
    source::{Incoming, Receipt},
    status::{Failure, TargetStatus},
    target::Target,
    trace::{DeliverySpan, TargetTracer},
};

/// A message that was handed out so often beyond the first time without a settled attempt seems to end natshook.
const CRASHES_MAX: u64 = 10;
/// How long a delivery waits after no worker could be started for it.
const SHAPE_WAIT: Duration = Duration::from_secs(2);

/// How natshook ends, as a delivery sees it.
#[derive(Clone, Debug, Default)]
pub struct Ending {
    /// Nothing new begins; what waits is handed back.
    pub drain: CancellationToken,
    /// The grace period is over: everything is handed back.
    pub abandon: CancellationToken,
}

/// What has become of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is delivered or a dead letter: its source has been told to forget it.
    Ended,
    /// It waits in the retry queue: its source has been told to forget it.
    Waits {
        /// At which sequence the queue's stream holds it.
        copy: u64,
        /// How many attempts it has had.
        attempts: u32,
        /// When its next attempt is due.
        due: SystemTime,
    },
    /// Its source has it again.
    HandedBack,
}

/// Counts a delivery as being worked on, until it is dropped.
struct InFlight<'a>(&'a TargetMetrics);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// Everything that deliveries to one target need.
#[derive(Debug)]
pub struct Courier {
    /// The target.
    pub target: Target,
    /// What its requests have in common.
    pub template: Template,
    /// What is sent of its messages, if they do not all go out as they came.
    pub shaper: Option<Shaper>,
    /// How they are sent.
    pub sender: Sender,
    /// What they pass through.
    pub lane: Lane,
    /// Where deliveries join batches, if several go in one request.
    pub batcher: Option<Batcher>,
    /// Where failed ones wait.
    pub retry_queue: RetryQueue,
    /// Where given-up ones go.
    pub dead_letters: DeadLetters,
    /// Where answers go, if anybody is told of them.
    pub replies: Option<Replies>,
    /// What is counted.
    pub metrics: TargetMetrics,
    /// What the log says of failures.
    pub journal: Journal,
    /// What is traced.
    pub tracer: TargetTracer,
    /// What is shown to people; shared with the courier of the same target after a change of it.
    pub status: Arc<TargetStatus>,
    /// How natshook ends.
    pub ending: Ending,
}

impl Courier {
    /// Runs a delivery to its end: acked, waiting in the retry queue, a dead letter, or handed back. Whoever polls
    /// this tells the broker meanwhile that work goes on.
    pub async fn run(&self, incoming: Incoming) {
        self.run_through(incoming, &self.retry_queue).await;
    }

    /// The same with another place than the retry queue for what fails; says what has become of it.
    pub async fn run_through(&self, incoming: Incoming, queue: &RetryQueue) -> Settled {
        let Incoming { delivery, receipt, handed_out } = incoming;
        Failpoint::Fetched.pass();
        self.metrics.began();
        let _in_flight = InFlight(&self.metrics);
        self.deliver(delivery, &receipt, handed_out, queue).await
    }

    async fn deliver(
        &self,
        mut delivery: Delivery,
        receipt: &Receipt,
        handed_out: u64,
        queue: &RetryQueue,
    ) -> Settled {
        let mut span = self.tracer.delivery(&mut delivery);
        let storable = queue.can_hold(&delivery);
        if !storable && delivery.failed.is_none() {
            delivery.failed = attempts_by_hand_outs(&delivery, handed_out);
        }
        let decided = match self.unfit(&delivery, if storable { handed_out } else { 1 }) {
            Some(reason) => Some(Disposition::DeadLetter(reason)),
            None => match self.shape(&mut delivery, receipt).await {
                ControlFlow::Break(decided) => decided,
                ControlFlow::Continue(content) => {
                    self.attempts(&mut delivery, content.as_deref(), receipt, &span, queue).await
                }
            },
        };
        // Core NATS takes nothing back.
        let decided =
            decided.or((!receipt.takes_back()).then_some(Disposition::DeadLetter(Reason::ShutDown)));
        span.decided(decided);
        match decided {
            Some(disposition) => self.settle(delivery, disposition, receipt, queue).await,
            None => {
                receipt.hand_back(Duration::ZERO).await;
                Settled::HandedBack
            }
        }
    }

    /// Whether a delivery that waited is too old for another attempt. The first attempt is always made, and so is one
    /// that only a pause has put off.
    #[must_use]
    pub fn is_too_old(&self, delivery: &Delivery, due: SystemTime) -> bool {
        let may_expire = delivery.failed.is_some() && !self.lane.pause_kept_waiting(due);
        may_expire && expired(SystemTime::now(), delivery.aged_since(), &self.target.retry)
    }

    /// Gives the delivery up without an attempt, for `reason`.
    pub async fn give_up(&self, mut delivery: Delivery, reason: Reason, receipt: &Receipt) -> Settled {
        let disposition = Disposition::DeadLetter(reason);
        self.tracer.delivery(&mut delivery).decided(Some(disposition));
        self.settle(delivery, disposition, receipt, &self.retry_queue).await
    }

    /// Puts a delivery whose turn has not come into `queue`, without an attempt.
    pub async fn park(&self, delivery: Delivery, receipt: &Receipt, queue: &RetryQueue) -> Settled {
        let waits = Disposition::Retry { at: SystemTime::now() };
        Box::pin(self.settle_elsewhere(&delivery, waits, receipt, queue)).await
    }

    /// What is sent of the delivery if it is not the message as it came, or what is done about it when nothing is sent;
    /// that is `None` when natshook ends before it can be told. The message itself stays as it is for later attempts.
    async fn shape(
        &self,
        delivery: &mut Delivery,
        receipt: &Receipt,
    ) -> ControlFlow<Option<Disposition>, Option<Box<Content>>> {
        let Some(shaper) = &self.shaper else { return ControlFlow::Continue(None) };
        // Boxed, so that targets without a shape do not carry this one's size around.
        let shaping = Box::pin(self.verdict(shaper, &delivery.message));
        let verdict = tokio::select! {
            biased;
            verdict = shaping => verdict,
            () = self.stop(receipt).cancelled() => return ControlFlow::Break(None),
        };
        match verdict {
            Verdict::AsItIs => ControlFlow::Continue(None),
            Verdict::Content(content) => ControlFlow::Continue(Some(content)),
            Verdict::Skipped(skip) => {
                self.metrics.skipped(skip);
                ControlFlow::Break(Some(Disposition::Skip))
            }
            Verdict::Refused(Refusal { reason, error, .. }) => {
                delivery.refused = Some(error);
                ControlFlow::Break(Some(Disposition::DeadLetter(reason)))
            }
        }
    }

    /// What the shape makes of `message`. That no worker can be had is not the message's fault, so it waits for one.
    async fn verdict(&self, shaper: &Shaper, message: &Message) -> Verdict {
        loop {
            match shaper.shape(message).await {
                Ok(verdict) => return verdict,
                Err(error) => {
                    self.journal.not_shaped(message, &error, SHAPE_WAIT);
                    sleep(SHAPE_WAIT).await;
                }
            }
        }
    }

    /// When work on what `receipt` is for stops: what cannot be given back is worked on to the end of the grace period.
    fn stop(&self, receipt: &Receipt) -> &CancellationToken {
        if receipt.takes_back() { &self.ending.drain } else { &self.ending.abandon }
    }

    /// Makes attempts until something follows that does not happen here; `None` when natshook ends before that.
    async fn attempts(
        &self,
        delivery: &mut Delivery,
        content: Option<&Content>,
        receipt: &Receipt,
        span: &DeliverySpan,
        queue: &RetryQueue,
    ) -> Option<Disposition> {
        loop {
            let disposition = self.attempt(delivery, content, receipt, span).await?;
            // What is kept in order must not come back from its stream behind others.
            let in_memory = match queue {
                RetryQueue::Memory => true,
                RetryQueue::Stream(_) => false,
                RetryQueue::Parked { .. } => !queue.can_hold(delivery),
            };
            match disposition {
                Disposition::Retry { at } if in_memory => {
                    self.journal.failed(delivery, disposition);
                    if !self.wait_until(at).await {
                        return None;
                    }
                }
                _ => return Some(disposition),
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
    async fn attempt(
        &self,
        delivery: &mut Delivery,
        content: Option<&Content>,
        receipt: &Receipt,
        span: &DeliverySpan,
    ) -> Option<Disposition> {
        let Tried { end, outcome, error, started } = match &self.batcher {
            None => self.alone(delivery, content, receipt, span).await?,
            Some(batcher) => match Entry::new(batcher.format(), delivery, content) {
                // Boxed, so that targets without batches do not carry this one's size around.
                Ok(entry) => Box::pin(self.in_batch(batcher, entry, delivery, span)).await?,
                Err(not_json) => {
                    delivery.refused = Some(not_json.to_string().into());
                    return Some(Disposition::DeadLetter(Reason::NotJson));
                }
            },
        };
        if outcome == Outcome::Delivered {
            self.metrics.delivered(delivery.message.published, SystemTime::now());
            self.note_answer(delivery, end, Disposition::Ack);
            return Some(Disposition::Ack);
        }
        let failed = note_failure(delivery, &end, error, started);
        self.status.failed(Failure::of(delivery, &failed));
        let (since, policy) = (delivery.aged_since(), &self.target.retry);
        let disposition = decide(outcome, &end, &failed, since, policy, SystemTime::now(), fastrand::f64());
        delivery.failed = Some(failed);
        self.note_answer(delivery, end, disposition);
        Some(disposition)
    }

    /// An attempt that is a request of its own.
    async fn alone(
        &self,
        delivery: &Delivery,
        content: Option<&Content>,
        receipt: &Receipt,
        span: &DeliverySpan,
    ) -> Option<Tried> {
        let stop = self.stop(receipt);
        let pass = tokio::select! {
            biased;
            pass = self.lane.enter() => pass,
            () = stop.cancelled() => return None,
        };
        let started = SystemTime::now();
        let span = span.attempt(delivery);
        let request = || span.carried_by(self.template.request(delivery, content, started));
        let end = tokio::select! {
            biased;
            end = self.sender.attempt(request) => end,
            () = stop.cancelled(), if !receipt.takes_back() => return None,
        };
        Failpoint::Answered.pass();
        let outcome = classify(&end, &self.target.outcomes);
        let took = self.requested(pass, &end, outcome);
        self.status.attempted(outcome == Outcome::Delivered, took, Instant::now());
        span.ended(&end, outcome);
        Some(Tried { end, outcome, error: None, started })
    }

    /// An attempt that goes with others in one request. Its span begins when it joins them.
    async fn in_batch(
        &self,
        batcher: &Batcher,
        entry: Entry,
        delivery: &Delivery,
        span: &DeliverySpan,
    ) -> Option<Tried> {
        let span = span.attempt(delivery);
        let MemberEnd { judgement, started, took } = batcher.join(entry).await?;
        let Judgement { end, outcome, error } = judgement;
        self.status.attempted(outcome == Outcome::Delivered, took, Instant::now());
        span.ended(&end, outcome);
        Some(Tried { end, outcome, error, started })
    }

    /// Counts a request that ended so, and tells the lane of it. Returns how long it took.
    pub fn requested(&self, pass: Pass<'_>, end: &End, outcome: Outcome) -> Duration {
        let now = Instant::now();
        let took = now.saturating_duration_since(pass.began());
        self.metrics.attempted(end, outcome, took);
        let opened = pass.report(end, outcome, now);
        if let Some(wait) = opened {
            tracing::warn!(
                target = %self.target.name, end = end.word(), cause = end.describe(),
                wait = %humantime::format_duration(wait), "breaker opened: the target gets nothing until then"
            );
        }
        took
    }

    /// Keeps the answer that settles `delivery` where somebody is told of it.
    fn note_answer(&self, delivery: &mut Delivery, end: End, disposition: Disposition) {
        if let (Some(reply), End::Answered(answer)) = (&self.target.reply, end)
            && reply.wants(disposition)
        {
            delivery.answer = Some(Box::new(answer));
        }
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

/// How an attempt ended.
struct Tried {
    end: End,
    outcome: Outcome,
    /// What went wrong, where the end does not say it.
    error: Option<String>,
    started: SystemTime,
}

fn note_failure(delivery: &Delivery, end: &End, error: Option<String>, started: SystemTime) -> Failed {
    let response = match end {
        End::Answered(answer) => answer.excerpt.clone(),
        End::Broken(_) => Bytes::new(),
    };
    Failed {
        attempts: NonZeroU32::MIN.saturating_add(delivery.attempts()),
        first_attempt: delivery.failed.as_ref().map_or(started, |failed| failed.first_attempt),
        last_attempt: started,
        last_status: end.status(),
        last_error: error.unwrap_or_else(|| end.describe()),
        response,
    }
}
