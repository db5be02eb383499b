//! What became of a target's attempts lately, in slots of a few seconds: for rates, success ratios and sparklines.
//! Pure: the time is an argument. What is counted for ever is the business of `metrics`.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// How long a slot is.
pub const SLOT: Duration = Duration::from_secs(5);
/// How many closed slots are kept: five minutes.
pub const SLOTS_MAX: usize = 60;

/// The longest duration that is told apart, in microseconds: the longest `timeout` that a config allows.
const DURATION_MAX_MICROS: u64 = 300_000_000;
/// Significant decimal digits of a duration: a sparkline shows no more, and the histogram takes 2 KB.
const DIGITS: u8 = 1;

/// What became of the attempts of one slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Attempts that ended in a 2xx.
    pub delivered: u32,
    /// All others.
    pub failed: u32,
    /// The duration that 99 % of the attempts did not exceed, in microseconds; 0 when there was none.
    pub p99_micros: u32,
    /// How many messages waited for the target when the slot was closed, as far as was known.
    pub pending: u32,
}

/// The slots of a target.
#[derive(Clone, Debug)]
pub struct Stats {
    closed: VecDeque<Slot>,
    open: Slot,
    began: Instant,
    /// Durations of the open slot; made with the first attempt, so that an idle target costs nothing.
    durations: Option<Histogram<u32>>,
}

impl Stats {
    /// No attempt yet, at `now`.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { closed: VecDeque::new(), open: Slot::default(), began: now, durations: None }
    }

    /// Counts an attempt that ended at `now`.
    pub fn attempted(&mut self, delivered: bool, took: Duration, now: Instant) {
        self.roll(now);
        let count = if delivered { &mut self.open.delivered } else { &mut self.open.failed };
        *count = count.saturating_add(1);
        if self.durations.is_none() {
            self.durations = Histogram::new_with_bounds(1, DURATION_MAX_MICROS, DIGITS).ok();
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(durations) = &mut self.durations {
            durations.saturating_record(micros);
        }
    }

    /// So many messages wait for the target.
    pub fn pending(&mut self, pending: u64, now: Instant) {
        self.roll(now);
        self.open.pending = u32::try_from(pending).unwrap_or(u32::MAX);
    }

    /// The closed slots, the oldest first.
    #[must_use]
    pub fn history(&mut self, now: Instant) -> Vec<Slot> {
        self.roll(now);
        self.closed.iter().copied().collect()
    }

    /// The sum over the last `slots` closed slots and the open one: delivered and failed attempts.
    #[must_use]
    pub fn totals(&mut self, slots: usize, now: Instant) -> (u64, u64) {
        self.roll(now);
        let recent = self.closed.iter().rev().take(slots).chain([&self.open]);
        recent.fold((0, 0), |(delivered, failed), slot| {
            (delivered + u64::from(slot.delivered), failed + u64::from(slot.failed))
        })
    }

    /// Attempts that ended in a 2xx, per second, over the last closed slots of a minute; over less where there are
    /// fewer, and 0 before the first.
    #[must_use]
    pub fn rate(&mut self, now: Instant) -> f64 {
        const MINUTE: usize = 12;
        self.roll(now);
        let slots = self.closed.len().min(MINUTE);
        if slots == 0 {
            return 0.0;
        }
        let delivered: u64 = self.closed.iter().rev().take(slots).map(|slot| u64::from(slot.delivered)).sum();
        delivered as f64 / (SLOT.as_secs_f64() * slots as f64)
    }

    /// Closes the slots whose time is over at `now`.
    fn roll(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.began).as_nanos() / SLOT.as_nanos();
        if passed == 0 {
            return;
        }
        if let Some(durations) = self.durations.as_mut().filter(|durations| !durations.is_empty()) {
            self.open.p99_micros = u32::try_from(durations.value_at_quantile(0.99)).unwrap_or(u32::MAX);
            durations.reset();
        }
        let quiet = Slot { pending: self.open.pending, ..Slot::default() };
        self.close(self.open);
        let more = usize::try_from(passed - 1).unwrap_or(usize::MAX).min(SLOTS_MAX);
        (0..more).for_each(|_| self.close(quiet));
        self.open = quiet;
        let passed = u32::try_from(passed).unwrap_or(u32::MAX);
        self.began = self.began.checked_add(SLOT.saturating_mul(passed)).unwrap_or(now);
    }

    fn close(&mut self, slot: Slot) {
        if self.closed.len() == SLOTS_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn attempts_are_counted_in_the_slot_in_which_they_end() {
        let start = Instant::now();
        let mut stats = Stats::new(start);
        stats.attempted(true, 7 * MILLI, start);
        stats.attempted(false, 90 * MILLI, start + SLOT - MILLI);
        stats.pending(3, start + SLOT);
        stats.attempted(true, MILLI, start + 3 * SLOT);

        let history = stats.history(start + 4 * SLOT);
        assert_eq!(history.len(), 4);
        assert_eq!((history[0].delivered, history[0].failed, history[0].pending), (1, 1, 0));
        assert!((85_000..=96_000).contains(&history[0].p99_micros), "{}", history[0].p99_micros);
        assert_eq!(history[1], Slot { pending: 3, ..Slot::default() });
        assert_eq!((history[3].delivered, history[3].pending), (1, 3));
        assert_eq!(stats.totals(SLOTS_MAX, start + 4 * SLOT), (2, 1));
        assert_eq!(stats.totals(1, start + 4 * SLOT), (1, 0));
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let start = Instant::now();
        let mut stats = Stats::new(start);
        for n in 0..100 {
            stats.attempted(true, MILLI, start + n * 100 * MILLI);
        }
        assert!((stats.rate(start + 2 * SLOT) - 10.0).abs() < 0.01);
        assert!(stats.rate(start + 40 * SLOT) < 0.01);
    }

    proptest! {
        /// Whatever the times, also ones that go back, no attempt is counted twice and nothing grows.
        #[test]
        fn nothing_is_counted_twice(steps in prop::collection::vec((0_u64..20_000, any::<bool>()), 0..200)) {
            let start = Instant::now();
            let mut stats = Stats::new(start);
            for (millis, delivered) in &steps {
                stats.attempted(*delivered, MILLI, start + Duration::from_millis(*millis));
            }
            let delivered = steps.iter().filter(|(_, delivered)| *delivered).count() as u64;
            let end = start + Duration::from_secs(25);
            prop_assert_eq!(stats.totals(SLOTS_MAX, end), (delivered, steps.len() as u64 - delivered));
            prop_assert!(stats.history(end + 1_000 * SLOT).len() <= SLOTS_MAX);
            prop_assert_eq!(stats.totals(SLOTS_MAX, end + 1_000 * SLOT), (0, 0));
        }
    }
}
