//! The breaker of a target: closed, open, probing. Pure: the time is an argument, and waiting is for `lane`.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

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

/// What a breaker does with attempts, in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BreakerState {
    /// Attempts begin as they come.
    Closed,
    /// None begins.
    Open,
    /// One is under way, or may begin, that decides.
    Probing,
}

impl BreakerState {
    /// Every state, for metrics and docs.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::Probing];

    /// The word for it in metrics and tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
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

    /// What it does with attempts at `now`. An open one whose wait is over is probing: the next attempt decides.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if until > now => BreakerState::Open,
            State::Open { .. } | State::Probing => BreakerState::Probing,
        }
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

    /// What may happen to a breaker.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Passes(Duration),
        Asks,
        Succeeds,
        Fails(Strike),
        Abandons,
        Holds(Duration),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let strike = prop_oneof![
            4 => Just(Strike::Failure),
            4 => Just(Strike::TargetFault),
            1 => Just(Strike::Gone),
        ];
        let seconds = |most| (0..most).prop_map(Duration::from_secs);
        let event = prop_oneof![
            3 => seconds(1_000_u64).prop_map(Event::Passes),
            6 => Just(Event::Asks),
            1 => Just(Event::Succeeds),
            8 => strike.prop_map(Event::Fails),
            1 => Just(Event::Abandons),
            1 => seconds(60).prop_map(Event::Holds),
        ];
        prop::collection::vec(event, 1..300)
    }

    proptest! {
        /// The breaker as a user would tell it, held against the breaker over everything that may happen to it.
        #[test]
        fn it_opens_waits_and_probes_as_designed(events in events()) {
            let mut now = Instant::now();
            let mut breaker = Breaker::default();
            let (mut failures, mut faults, mut openings) = (0, 0, 0_u32);
            let mut open_until: Option<Instant> = None;
            let mut held_until = now;
            let mut probing = false;
            for event in events {
                match event {
                    Event::Passes(time) => now += time,
                    Event::Holds(time) => {
                        breaker.hold(now + time);
                        held_until = held_until.max(now + time);
                    }
                    Event::Abandons => {
                        breaker.abandon_probe(now);
                        if probing {
                            (probing, open_until) = (false, Some(now));
                        }
                    }
                    Event::Succeeds => {
                        breaker.success();
                        (failures, faults, openings, open_until, probing) = (0, 0, 0, None, false);
                    }
                    Event::Fails(strike) => {
                        failures += 1;
                        faults = if strike == Strike::Failure { 0 } else { faults + 1 };
                        let enough = failures >= 10 || faults >= 3 || strike == Strike::Gone;
                        let opens = probing || (open_until.is_none() && enough);
                        let doubled = Duration::from_secs(10 << openings.min(7)).min(WAIT_MAX);
                        let wait = if strike == Strike::Gone { WAIT_MAX } else { doubled };
                        prop_assert_eq!(breaker.failure(strike, now), opens.then_some(wait));
                        if opens {
                            (openings, probing, open_until) = (openings + 1, false, Some(now + wait));
                        }
                    }
                    Event::Asks => {
                        let expected = match open_until {
                            _ if held_until > now => Admission::Wait(held_until),
                            _ if probing => Admission::ProbeUnderWay,
                            Some(until) if until > now => Admission::Wait(until),
                            Some(_) => Admission::Probe,
                            None => Admission::Go,
                        };
                        prop_assert_eq!(breaker.admit(now), expected);
                        probing |= expected == Admission::Probe;
                    }
                }
                prop_assert_eq!(breaker.is_closed(), open_until.is_none());
            }
        }
    }
}
