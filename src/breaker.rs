//! The breaker of a target: closed, open, probing. Pure: the time is an argument, and waiting is for `lane`.

use std::time::{Duration, Instant};

use crate::outcome::Strike;

/// So many failures in a row open the breaker.
pub const FAILURES_TO_OPEN: u32 = 10;
/// So many failures in a row that look like the target's own fault do.
pub const FAULTS_TO_OPEN: u32 = 3;
/// The first wait of an open breaker; it doubles each time the probe fails.
pub const WAIT_MIN: Duration = Duration::from_secs(10);
/// The longest wait of an open breaker.
pub const WAIT_MAX: Duration = Duration::from_secs(900);

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes.
    Go,
    /// Yes, and its outcome decides whether others may.
    Probe,
    /// Not before then.
    Wait(Instant),
    /// Not before the outcome of the probe under way.
    ProbeUnderWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    Probing,
}

/// What the attempts so far say about a target.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    failures: u32,
    faults: u32,
    /// How long the breaker opens next time.
    wait: Duration,
    /// The receiver asked for no requests before then.
    held_until: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, faults: 0, wait: WAIT_MIN, held_until: None }
    }
}

impl Breaker {
    /// Whether an attempt may begin at `now`. A [`Admission::Probe`] must be followed by a report on it.
    pub fn admit(&mut self, now: Instant) -> Admission {
        self.held_until = self.held_until.filter(|until| *until > now);
        if let Some(until) = self.held_until {
            return Admission::Wait(until);
        }
        match self.state {
            State::Closed => Admission::Go,
            State::Open { until } if until > now => Admission::Wait(until),
            State::Open { .. } => {
                self.state = State::Probing;
                Admission::Probe
            }
            State::Probing => Admission::ProbeUnderWay,
        }
    }

    /// Until when nothing may begin as far as is known at `now`; `None` when something may.
    #[must_use]
    pub fn closed_until(&self, now: Instant) -> Option<Instant> {
        let open = match self.state {
            State::Closed => None,
            State::Open { until } => Some(until),
            State::Probing => Some(now + Duration::from_secs(1)),
        };
        open.max(self.held_until).filter(|until| *until > now)
    }

    /// Whether attempts begin as they come and no receiver has lately asked for a pause: the common case, which
    /// needs no clock.
    #[must_use]
    pub fn is_unhindered(&self) -> bool {
        self.state == State::Closed && self.held_until.is_none()
    }

    /// Whether attempts begin as they come.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// The target answered as a working target does.
    pub fn success(&mut self) {
        *self = Self { held_until: self.held_until, ..Self::default() };
    }

    /// An attempt that began while the breaker was closed, or the probe, failed at `now`. Returns how long the
    /// breaker opens if this opens it. What began before it opened changes nothing any more.
    pub fn failure(&mut self, strike: Strike, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        self.faults = if strike == Strike::Failure { 0 } else { self.faults.saturating_add(1) };
        let opens = match (self.state, strike) {
            (State::Open { .. }, _) => false,
            (State::Probing, _) | (State::Closed, Strike::Gone) => true,
            (State::Closed, _) => self.failures >= FAILURES_TO_OPEN || self.faults >= FAULTS_TO_OPEN,
        };
        if !opens {
            return None;
        }
        let wait = if strike == Strike::Gone { WAIT_MAX } else { self.wait };
        self.state = State::Open { until: now + wait };
        self.wait = (self.wait * 2).min(WAIT_MAX);
        Some(wait)
    }

    /// The probe ended without an outcome: somebody else may probe.
    pub fn abandon_probe(&mut self, now: Instant) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// The receiver asked for no requests before `until`.
    pub fn hold(&mut self, until: Instant) {
        self.held_until = self.held_until.max(Some(until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ten_failures_or_three_faults_in_a_row_open_it() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        for _ in 1..FAILURES_TO_OPEN {
            assert_eq!(breaker.failure(Strike::Failure, now), None);
        }
        assert_eq!(breaker.failure(Strike::Failure, now), Some(WAIT_MIN));

        let mut breaker = Breaker::default();
        assert_eq!(breaker.failure(Strike::TargetFault, now), None);
        assert_eq!(breaker.failure(Strike::Failure, now), None);
        assert_eq!(breaker.failure(Strike::TargetFault, now), None);
        assert_eq!(breaker.failure(Strike::TargetFault, now), None);
        assert_eq!(breaker.failure(Strike::TargetFault, now), Some(WAIT_MIN));
    }

    #[test]
    fn a_410_opens_it_at_once_for_longest() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        assert_eq!(breaker.failure(Strike::Gone, now), Some(WAIT_MAX));
        assert_eq!(breaker.admit(now), Admission::Wait(now + WAIT_MAX));
    }

    #[test]
    fn one_probe_is_let_through_and_decides() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        (0..FAULTS_TO_OPEN).for_each(|_| {
            let _ = breaker.failure(Strike::TargetFault, now);
        });
        let later = now + WAIT_MIN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        assert_eq!(breaker.admit(later), Admission::ProbeUnderWay);
        assert_eq!(breaker.failure(Strike::TargetFault, later), Some(2 * WAIT_MIN));
        let later = later + 2 * WAIT_MIN;
        assert_eq!(breaker.admit(later), Admission::Probe);
        breaker.success();
        assert_eq!(breaker.admit(later), Admission::Go);
    }

    #[test]
    fn a_hold_stops_everything_until_it_ends() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.hold(now + Duration::from_secs(5));
        breaker.success();
        assert_eq!(breaker.admit(now), Admission::Wait(now + Duration::from_secs(5)));
        assert!(!breaker.is_unhindered());
        assert_eq!(breaker.admit(now + Duration::from_secs(5)), Admission::Go);
        assert!(breaker.is_unhindered());
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_at_most_one_probe_is_under_way(events in prop::collection::vec(0_u8..5, 1..200)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let mut probes = 0;
            for event in events {
                match event {
                    0 => {
                        let opened = breaker.failure(Strike::Failure, now);
                        prop_assert!(opened.is_none_or(|wait| wait <= WAIT_MAX));
                        probes = if opened.is_some() { 0 } else { probes };
                    }
                    1 => {
                        let opened = breaker.failure(Strike::TargetFault, now);
                        prop_assert!(opened.is_none_or(|wait| wait <= WAIT_MAX));
                        probes = if opened.is_some() { 0 } else { probes };
                    }
                    2 => { breaker.success(); probes = 0; }
                    3 => now += Duration::from_secs(7),
                    _ => match breaker.admit(now) {
                        Admission::Probe => { probes += 1; prop_assert_eq!(probes, 1); }
                        Admission::Wait(until) => prop_assert!(until > now && until <= now + WAIT_MAX),
                        Admission::Go | Admission::ProbeUnderWay => {}
                    },
                }
            }
        }
    }
}
