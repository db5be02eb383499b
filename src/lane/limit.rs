//! How many requests may be in flight to a receiver whose capacity nobody has told us: additive increase,
//! multiplicative decrease, as TCP does it (RFC 5681). Pure: times are arguments, and permits are for `permits`.

use std::time::{Duration, Instant};

/// Where an adaptive limit starts: as many connections as a browser or a careful client opens at once.
const LIMIT_START: usize = 4;

/// Latency "holds" while its average is below this multiple of what is usual. Twice the usual means that a
/// request waits as long as it is worked on: the receiver's capacity is used, and more would only queue there.
const TOLERANCE: u32 = 2;

/// Differences below this are noise of the network and of schedulers, whatever the multiple.
const NOISE: Duration = Duration::from_millis(5);

/// So many answers make an average: fast and slow ones mix, and a change shows after a few rounds.
const AVERAGED: u32 = 32;

/// After so many answers their average counts as usual. The first ones also had to make their connections.
const LEARNED: u32 = 16;

/// A receiver that has been slower than usual for so long is slower for good, or was faster only for a while:
/// what is usual is learned anew, with half as many requests, so that it is not our own load that is learned.
const LEARN_AGAIN: Duration = Duration::from_secs(600);

/// A limit that follows what the receiver can take.
#[derive(Clone, Debug)]
pub(super) struct AdaptiveLimit {
    max: usize,
    current: usize,
    /// Answers that count, since the limit was last halved; no more than [`AVERAGED`].
    seen: u32,
    /// Their average latency of late.
    latest: Duration,
    /// The least that this average has been; `None` while it is learned.
    usual: Option<Duration>,
    /// Answers at the full limit whose latency held, since the limit last changed.
    good: usize,
    /// Since when latency does not hold.
    slow_since: Option<Instant>,
    /// Attempts that began before then were too many, and say nothing about the limit now.
    halved_at: Option<Instant>,
}

impl AdaptiveLimit {
    /// Starts low; never above `max`, which is at least 1.
    pub(super) fn new(max: usize) -> Self {
        let max = max.max(1);
        Self {
            max,
            current: LIMIT_START.min(max),
            seen: 0,
            latest: Duration::ZERO,
            usual: None,
            good: 0,
            slow_since: None,
            halved_at: None,
        }
    }

    /// The limit now, from 1 to its maximum.
    pub(super) fn current(&self) -> usize {
        self.current
    }

    /// The receiver answered at `now`. One more may be in flight after a whole round of answers whose latency held.
    /// `full`: whether as many were in flight as may be; only then more would have made a difference.
    pub(super) fn answered(&mut self, began: Instant, now: Instant, full: bool) {
        if self.is_old(began) {
            return;
        }
        let usual = self.note(now.saturating_duration_since(began));
        let Some(usual) = usual.filter(|_| full) else { return };
        if self.latest > (usual * TOLERANCE).max(usual + NOISE) {
            let since = *self.slow_since.get_or_insert(now);
            if now.saturating_duration_since(since) >= LEARN_AGAIN {
                self.halve(now);
            }
            return;
        }
        self.slow_since = None;
        self.good += 1;
        if self.good >= self.current {
            self.current = (self.current + 1).min(self.max);
            self.good = 0;
        }
    }

    /// An attempt that `began` then was too much for the receiver: half as many, once for all attempts that were
    /// in flight together.
    pub(super) fn overloaded(&mut self, began: Instant, now: Instant) {
        if !self.is_old(began) {
            self.halve(now);
        }
    }

    fn is_old(&self, began: Instant) -> bool {
        self.halved_at.is_some_and(|halved| began < halved)
    }

    fn halve(&mut self, now: Instant) {
        let current = (self.current / 2).max(1);
        *self = Self { current, halved_at: Some(now), ..Self::new(self.max) };
    }

    /// Takes `took` into the average; what is usual, if that is known.
    fn note(&mut self, took: Duration) -> Option<Duration> {
        self.seen = (self.seen + 1).min(AVERAGED);
        self.latest = approach(self.latest, took, self.seen);
        if self.seen >= LEARNED {
            self.usual = Some(self.usual.map_or(self.latest, |usual| usual.min(self.latest)));
        }
        self.usual
    }
}

/// `from`, moved towards `to` by one of `parts` of the way.
fn approach(from: Duration, to: Duration, parts: u32) -> Duration {
    if to >= from { from + (to - from) / parts } else { from - (from - to) / parts }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const USUAL: Duration = Duration::from_millis(50);

    /// A receiver that works on `capacity` requests at a time and lets the others wait: what a request takes grows
    /// with how many are there.
    struct Receiver {
        now: Instant,
        capacity: usize,
        limit: AdaptiveLimit,
    }

    impl Receiver {
        fn new(capacity: usize, max: usize) -> Self {
            Self { now: Instant::now(), capacity, limit: AdaptiveLimit::new(max) }
        }

        fn rounds(&mut self, rounds: usize) -> usize {
            for _ in 0..rounds {
                let in_flight = self.limit.current();
                let took = USUAL.mul_f64((in_flight as f64 / self.capacity as f64).max(1.0));
                let began = self.now;
                self.now += took;
                (0..in_flight).for_each(|_| self.limit.answered(began, self.now, true));
            }
            self.limit.current()
        }
    }

    #[test]
    fn it_starts_low_and_reaches_its_maximum_while_latency_holds() {
        let mut receiver = Receiver::new(1_000, 64);
        assert_eq!(receiver.limit.current(), LIMIT_START);
        assert!((55..64).contains(&receiver.rounds(60)));
        assert_eq!(receiver.rounds(10), 64);
        assert_eq!(receiver.rounds(1_000), 64);
    }

    #[test]
    fn it_stops_growing_where_the_receiver_begins_to_let_requests_wait() {
        let mut receiver = Receiver::new(10, 1_000);
        let stopped = receiver.rounds(100);
        assert!((15..=25).contains(&stopped), "{stopped}");
        assert_eq!(receiver.rounds(1_000), stopped);
    }

    #[test]
    fn what_is_usual_is_learned_anew_where_it_was_exceeded_for_long() {
        let mut receiver = Receiver::new(20, 64);
        let stopped = receiver.rounds(100);
        let most = (0..20_000).map(|_| receiver.rounds(1)).max();
        assert!(most <= Some(stopped + 5), "our own load is never learned as usual: {most:?}");
        receiver.capacity = 1_000;
        assert_eq!(receiver.rounds(15_000), 64);
    }

    #[test]
    fn a_receiver_that_became_slower_for_good_is_not_held_down_for_ever() {
        let mut receiver = Receiver::new(1_000, 64);
        receiver.rounds(10);
        let slower = USUAL * 4;
        for _ in 0..20_000 {
            let began = receiver.now;
            receiver.now += slower;
            receiver.limit.answered(began, receiver.now, true);
        }
        assert_eq!(receiver.limit.current(), 64);
    }

    #[test]
    fn a_lane_that_is_not_full_does_not_grow() {
        let mut limit = AdaptiveLimit::new(64);
        let began = Instant::now();
        (0..1_000).for_each(|_| limit.answered(began, began + USUAL, false));
        assert_eq!(limit.current(), LIMIT_START);
    }

    #[test]
    fn attempts_that_were_in_flight_together_halve_it_once() {
        let mut receiver = Receiver::new(1_000, 64);
        receiver.rounds(100);
        let Receiver { now: began, mut limit, .. } = receiver;
        let now = began + USUAL;
        (0..64).for_each(|_| limit.overloaded(began, now));
        assert_eq!(limit.current(), 32);
        limit.overloaded(now, now + USUAL);
        assert_eq!(limit.current(), 16);
    }

    proptest! {
        #[test]
        fn it_stays_between_one_and_its_maximum_and_moves_as_it_says(
            max in 1_usize..200,
            events in prop::collection::vec((any::<bool>(), any::<bool>(), 0_u64..2_000, 0_u64..500), 0..500),
        ) {
            let start = Instant::now();
            let mut limit = AdaptiveLimit::new(max);
            for (overload, full, took, at) in events {
                let before = limit.current();
                let began = start + Duration::from_millis(at);
                let now = began + Duration::from_millis(took);
                if overload {
                    limit.overloaded(began, now);
                    let halved = (before / 2).max(1);
                    prop_assert!([before, halved].contains(&limit.current()));
                } else {
                    limit.answered(began, now, full);
                    prop_assert!([before, before + 1].contains(&limit.current()));
                    prop_assert!(full || limit.current() == before);
                }
                prop_assert!((1..=max).contains(&limit.current()));
            }
        }
    }
}
