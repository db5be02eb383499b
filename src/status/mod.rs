//! What is known of a target at this moment, for the people who look: how its attempts ended lately, its latest
//! failures, what waits for it. `stats` counts, `snapshot` is what is shown. Nothing here decides about a delivery, and
//! nothing here is counted for ever: that is `metrics`.

mod pause;
mod snapshot;
mod stats;

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

pub use pause::Pause;
pub use snapshot::{ConfigState, LastError, OrderState, Refusal, Snapshot, TargetDetail, TargetSnapshot};
pub use stats::{SLOT, SLOTS_MAX, Slot, Stats};

use crate::message::{Delivery, Failed, Origin};

/// How many of a target's latest failures are kept.
pub const FAILURES_MAX: usize = 10;
/// The most bytes of an answer that a kept failure holds.
pub const EXCERPT_BYTES_MAX: usize = 512;

/// A failed attempt, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// When the attempt began.
    pub at: SystemTime,
    /// The message's subject.
    pub subject: String,
    /// The delivery's `webhook-id`.
    pub id: String,
    /// The stream that holds the message, and its sequence there; none with core NATS.
    pub place: Option<(String, u64)>,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, in words.
    pub error: String,
    /// The beginning of the answer's body, as text; a stranger wrote it.
    pub excerpt: String,
}

impl Failure {
    /// How the latest attempt of `delivery` failed.
    #[must_use]
    pub fn of(delivery: &Delivery, failed: &Failed) -> Self {
        let message = &delivery.message;
        let place = match &message.origin {
            Origin::Stored { stream, sequence } => Some((stream.to_string(), *sequence)),
            Origin::Passing { .. } => None,
        };
        let excerpt = &failed.response[..failed.response.len().min(EXCERPT_BYTES_MAX)];
        Self {
            at: failed.last_attempt,
            subject: message.subject.clone(),
            id: message.webhook_id(),
            place,
            attempt: failed.attempts.get(),
            status: failed.last_status,
            error: failed.last_error.clone(),
            excerpt: String::from_utf8_lossy(excerpt).into_owned(),
        }
    }
}

/// What waits for a target, as the broker said last. `None` where it has not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that its consumers have not handed out yet, or that are not acked.
    pub pending: Option<u64>,
    /// When the oldest of them was published; `Some(None)` when nothing waits.
    pub oldest: Option<Option<SystemTime>>,
    /// The shortest `max_age` of its streams; `Some(None)` when they keep messages for ever.
    pub source_max_age: Option<Option<Duration>>,
    /// Deliveries to it in the retry queue.
    pub retry_waiting: Option<u64>,
    /// Its dead letters.
    pub dead_letters: Option<u64>,
}

/// What is known of one target.
#[derive(Debug)]
pub struct TargetStatus {
    order: Mutex<Option<OrderState>>,
    stats: Mutex<Stats>,
    failures: Mutex<VecDeque<Failure>>,
    backlog: Mutex<Backlog>,
}

impl Default for TargetStatus {
    fn default() -> Self {
        Self {
            order: Mutex::default(),
            stats: Mutex::new(Stats::new(Instant::now())),
            failures: Mutex::default(),
            backlog: Mutex::default(),
        }
    }
}

impl TargetStatus {
    /// Counts an attempt that ended at `now`.
    pub fn attempted(&self, delivered: bool, took: Duration, now: Instant) {
        locked(&self.stats).attempted(delivered, took, now);
    }

    /// Keeps a failure among the latest.
    pub fn failed(&self, failure: Failure) {
        let mut failures = locked(&self.failures);
        if failures.len() == FAILURES_MAX {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    /// The latest failures, the newest first.
    #[must_use]
    pub fn failures(&self) -> Vec<Failure> {
        locked(&self.failures).iter().rev().cloned().collect()
    }

    /// What this replica does for the target; `None` for one that is not ordered.
    #[must_use]
    pub fn order(&self) -> Option<OrderState> {
        *locked(&self.order)
    }

    /// Notes what this replica does for an ordered target, or that the target is not ordered.
    pub fn note_order(&self, order: impl Into<Option<OrderState>>) {
        *locked(&self.order) = order.into();
    }

    /// What the broker said of the backlog.
    pub fn backlog(&self) -> Backlog {
        locked(&self.backlog).clone()
    }

    /// Notes what the broker says of the backlog.
    pub fn note_backlog(&self, note: impl FnOnce(&mut Backlog)) {
        let mut backlog = locked(&self.backlog);
        note(&mut backlog);
        if let Some(pending) = backlog.pending {
            locked(&self.stats).pending(pending, Instant::now());
        }
    }

    /// What became of the attempts lately.
    pub fn stats(&self) -> MutexGuard<'_, Stats> {
        locked(&self.stats)
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
