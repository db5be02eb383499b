//! What is counted of one target. Counting takes an atomic addition, or a short lock for a histogram; names and labels
//! are written only when somebody asks.

use std::{
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use prometheus_client::metrics::histogram::Histogram;

use super::{TargetGauges, exposition::Rows, lock};
use crate::{
    breaker::BreakerState,
    disposition::{Disposition, Reason},
    outcome::{End, EndKind, Outcome, Strike},
    shape::Skip,
    status::OrderState,
    target::TargetName,
};

/// Upper bounds of the attempt duration's buckets, in seconds: every power of two from 1 ms to 512 s, which is longer
/// than an attempt should ever take. Powers of two are bounds of native histograms too, at every resolution.
const DURATION_BUCKETS: [f64; 20] =
    powers_of_two([-10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);

/// The same for the end-to-end latency, from 2 ms to a day and a half: in steps of two for what a first attempt
/// delivers, in steps of four for what waited for retries.
const LATENCY_BUCKETS: [f64; 20] =
    powers_of_two([-9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 4, 6, 8, 10, 12, 14, 16, 17]);

/// The same for the messages in a request, up to more than a batch may have.
const BATCH_BUCKETS: [f64; 11] = powers_of_two([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);

const fn powers_of_two<const N: usize>(exponents: [i32; N]) -> [f64; N] {
    let mut powers = [1.0; N];
    let mut i = 0;
    while i < N {
        let mut steps = exponents[i].unsigned_abs();
        while steps > 0 {
            powers[i] *= if exponents[i] < 0 { 0.5 } else { 2.0 };
            steps -= 1;
        }
        i += 1;
    }
    powers
}

/// The metrics of one target.
#[derive(Clone, Debug)]
pub struct TargetMetrics(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    target: TargetName,
    attempts: [[AtomicU64; EndKind::ALL.len()]; Judged::ALL.len()],
    dead_letters: [AtomicU64; Reason::ALL.len()],
    retry_queue_failures: AtomicU64,
    dead_letter_failures: AtomicU64,
    reply_failures: AtomicU64,
    lost: AtomicU64,
    skipped: [AtomicU64; Skip::ALL.len()],
    in_flight: AtomicU64,
    /// Histograms are made with the first value: a target that is idle costs neither memory nor lines.
    duration: OnceLock<Histogram>,
    latency: OnceLock<Histogram>,
    batches: OnceLock<Histogram>,
    shown: Mutex<Option<TargetGauges>>,
}

/// An outcome as metrics tell it.
#[derive(Clone, Copy, Debug)]
enum Judged {
    Delivered,
    Transient,
    TargetFault,
    Permanent,
}

impl Judged {
    /// In the order of the enum.
    const ALL: [Self; 4] = [Self::Delivered, Self::Transient, Self::TargetFault, Self::Permanent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Transient => "transient",
            Self::TargetFault => "target_fault",
            Self::Permanent => "permanent",
        }
    }
}

impl From<Outcome> for Judged {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Delivered => Self::Delivered,
            Outcome::Transient(Strike::Failure) => Self::Transient,
            Outcome::Transient(Strike::TargetFault | Strike::Gone) => Self::TargetFault,
            Outcome::Permanent => Self::Permanent,
        }
    }
}

impl TargetMetrics {
    pub(super) fn new(target: &TargetName) -> Self {
        Self(Arc::new(Counts {
            target: target.clone(),
            attempts: Default::default(),
            dead_letters: Default::default(),
            retry_queue_failures: AtomicU64::default(),
            dead_letter_failures: AtomicU64::default(),
            reply_failures: AtomicU64::default(),
            lost: AtomicU64::default(),
            skipped: Default::default(),
            in_flight: AtomicU64::default(),
            duration: OnceLock::new(),
            latency: OnceLock::new(),
            batches: OnceLock::new(),
            shown: Mutex::default(),
        }))
    }

    /// Counts a delivery that is being worked on from now on.
    pub fn began(&self) {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// The end of a delivery that began.
    pub fn ended(&self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many deliveries are being worked on.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// Counts an attempt.
    pub fn attempted(&self, end: &End, outcome: Outcome, took: Duration) {
        let count = &self.0.attempts[Judged::from(outcome) as usize][end.kind() as usize];
        count.fetch_add(1, Ordering::Relaxed);
        let duration = self.0.duration.get_or_init(|| Histogram::new(DURATION_BUCKETS));
        duration.observe(took.as_secs_f64());
    }

    /// Notes how long it took from the stream's time of a message to its 2xx. A clock that is behind the broker's
    /// makes that zero.
    pub fn delivered(&self, published: SystemTime, now: SystemTime) {
        let latency = self.0.latency.get_or_init(|| Histogram::new(LATENCY_BUCKETS));
        latency.observe(now.duration_since(published).unwrap_or_default().as_secs_f64());
    }

    /// Counts the request of a batch with so many messages.
    pub fn batch_sent(&self, messages: usize) {
        let batches = self.0.batches.get_or_init(|| Histogram::new(BATCH_BUCKETS));
        batches.observe(messages as f64);
    }

    /// Counts a dead letter that is stored.
    pub fn dead_lettered(&self, reason: Reason) {
        self.0.dead_letters[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts an answer that could not be published.
    pub fn reply_failed(&self) {
        self.0.reply_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a publish to one of natshook's own streams that was refused.
    pub fn store_failed(&self, disposition: Disposition) {
        match disposition {
            // They store nothing.
            Disposition::Ack | Disposition::Skip => {}
            Disposition::Retry { .. } => {
                self.0.retry_queue_failures.fetch_add(1, Ordering::Relaxed);
            }
            Disposition::DeadLetter(_) => {
                self.0.dead_letter_failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Counts messages that the source stream dropped before they could be delivered.
    pub fn lost(&self, at_most: u64) {
        self.0.lost.fetch_add(at_most, Ordering::Relaxed);
    }

    /// Counts a message that the target's filter keeps from it.
    pub fn skipped(&self, skip: Skip) {
        self.0.skipped[skip as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn show(&self, gauges: &TargetGauges) {
        *lock(&self.0.shown) = Some(*gauges);
    }
}

/// One for each family, as `families` names them.
impl TargetMetrics {
    pub(super) fn attempt_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        for outcome in Judged::ALL {
            for end in EndKind::ALL {
                let count = self.0.attempts[outcome as usize][end as usize].load(Ordering::Relaxed);
                // What goes well is there from the start, so that its rate is known from the first attempt on.
                let expected = matches!((outcome, end), (Judged::Delivered, EndKind::Success));
                if expected || count > 0 {
                    rows.row(&[self.name(), outcome.as_str(), end.as_str()], count)?;
                }
            }
        }
        Ok(())
    }

    /// Every reason is there from the start: a rise from nothing can be seen only of a series that was at zero.
    pub(super) fn dead_letter_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        for reason in Reason::ALL {
            if !matches!(reason, Reason::Unreadable | Reason::UnknownTarget) {
                let count = self.0.dead_letters[reason as usize].load(Ordering::Relaxed);
                rows.row(&[self.name(), reason.as_str()], count)?;
            }
        }
        Ok(())
    }

    pub(super) fn store_failure_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        rows.row(&[self.name(), RETRY_QUEUE], self.0.retry_queue_failures.load(Ordering::Relaxed))?;
        rows.row(&[self.name(), DEAD_LETTER], self.0.dead_letter_failures.load(Ordering::Relaxed))?;
        // Most targets tell nothing of their answers.
        match self.0.reply_failures.load(Ordering::Relaxed) {
            0 => Ok(()),
            failures => rows.row(&[self.name(), REPLY], failures),
        }
    }

    pub(super) fn lost_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        rows.row(&[self.name()], self.0.lost.load(Ordering::Relaxed))
    }

    pub(super) fn skipped_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        for skip in Skip::ALL {
            rows.row(&[self.name(), skip.as_str()], self.0.skipped[skip as usize].load(Ordering::Relaxed))?;
        }
        Ok(())
    }

    pub(super) fn in_flight_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        rows.row(&[self.name()], self.in_flight())
    }

    pub(super) fn duration_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.0.duration.get().map_or(Ok(()), |duration| rows.histogram(&[self.name()], duration))
    }

    pub(super) fn latency_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.0.latency.get().map_or(Ok(()), |latency| rows.histogram(&[self.name()], latency))
    }

    pub(super) fn batch_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.0.batches.get().map_or(Ok(()), |batches| rows.histogram(&[self.name()], batches))
    }

    pub(super) fn lane_limit_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| u64::try_from(gauges.lane_limit).ok())
    }

    pub(super) fn breaker_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        let Some(gauges) = self.shown() else { return Ok(()) };
        for state in BreakerState::ALL {
            rows.row(&[self.name(), state.as_str()], u64::from(state == gauges.breaker))?;
        }
        Ok(())
    }

    pub(super) fn paused_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| Some(u64::from(gauges.paused)))
    }

    pub(super) fn leader_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| match gauges.order? {
            OrderState::Standby => Some(0),
            OrderState::Leading { .. } => Some(1),
        })
    }

    pub(super) fn parked_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| match gauges.order? {
            OrderState::Standby => None,
            OrderState::Leading { parked } => Some(parked),
        })
    }

    pub(super) fn pending_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| gauges.pending)
    }

    pub(super) fn retry_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| gauges.retry_waiting)
    }

    pub(super) fn stored_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        self.known(rows, |gauges| gauges.dead_letters_stored)
    }

    pub(super) fn oldest_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        let age = self.shown().and_then(|gauges| gauges.oldest_undelivered_age);
        age.map_or(Ok(()), |age| rows.row(&[self.name()], age.as_secs_f64()))
    }

    pub(super) fn max_age_rows(&self, rows: &mut Rows<'_>) -> fmt::Result {
        let age = self.shown().and_then(|gauges| gauges.source_max_age);
        age.map_or(Ok(()), |age| rows.row(&[self.name()], age.as_secs_f64()))
    }

    /// A row, if the value is known.
    fn known(&self, rows: &mut Rows<'_>, value: impl Fn(&TargetGauges) -> Option<u64>) -> fmt::Result {
        self.shown().and_then(|gauges| value(&gauges)).map_or(Ok(()), |value| rows.row(&[self.name()], value))
    }

    fn shown(&self) -> Option<TargetGauges> {
        *lock(&self.0.shown)
    }

    fn name(&self) -> &str {
        self.0.target.as_str()
    }
}

/// Where a store failed, as metrics tell it.
const RETRY_QUEUE: &str = "retry_queue";
const REPLY: &str = "reply";
pub(super) const DEAD_LETTER: &str = "dead_letter";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_is_idle_costs_less_than_a_kilobyte() {
        assert!(size_of::<Counts>() <= 900, "{}", size_of::<Counts>());
        assert_eq!(size_of::<OnceLock<Histogram>>(), 16, "histograms are elsewhere, once there are any");
    }

    #[test]
    fn buckets_grow_to_where_they_should() {
        assert_eq!(
            (DURATION_BUCKETS[0], DURATION_BUCKETS[10], DURATION_BUCKETS[19]),
            (1.0 / 1024.0, 1.0, 512.0)
        );
        assert_eq!((LATENCY_BUCKETS[0], LATENCY_BUCKETS[19]), (1.0 / 512.0, 131_072.0));
        for buckets in [DURATION_BUCKETS, LATENCY_BUCKETS] {
            assert!(
                buckets.is_sorted() && buckets.iter().all(|bound| bound.log2().fract() == 0.0),
                "{buckets:?}"
            );
        }
        assert!(LATENCY_BUCKETS.iter().any(|bound| (86_400.0..).contains(bound)), "a day has a bucket");
    }
}
