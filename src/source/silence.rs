//! How long a server may be of no use before another is looked for. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// After so long without an answer from JetStream, while the connection stands, another server is looked for: this one
/// may be cut off from the others of its cluster. Longer than an election takes; doubled each time it did not help.
const PATIENCE_MIN: Duration = Duration::from_secs(15);
const PATIENCE_MAX: Duration = Duration::from_secs(240);

/// From when to when questions were not answered, one after the other.
#[derive(Debug)]
pub(super) struct Silence {
    span: Option<(Instant, Instant)>,
    patience: Duration,
}

impl Silence {
    pub(super) const NONE: Self = Self { span: None, patience: PATIENCE_MIN };

    /// One more question was not answered at `now`; whether it is time for another server.
    pub(super) fn goes_on(&mut self, now: Instant) -> bool {
        // Two silences that have nothing to do with each other are not one.
        let span = self.span.filter(|(_, last)| now.saturating_duration_since(*last) < PATIENCE_MAX);
        let since = span.map_or(now, |(since, _)| since);
        self.span = Some((since, now));
        if now.saturating_duration_since(since) < self.patience {
            return false;
        }
        *self = Self { span: None, patience: (self.patience * 2).min(PATIENCE_MAX) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_server_is_looked_for_after_a_silence_that_goes_on_and_less_often_if_it_does_not_help() {
        let start = Instant::now();
        let mut silence = Silence::NONE;
        let times: Vec<u64> =
            (0..600).filter(|second| silence.goes_on(start + Duration::from_secs(*second))).collect();
        // 15 s, then 30, 60, 120, 240 after the one before; each silence begins with the next question.
        assert_eq!(times, [15, 46, 107, 228, 469]);
    }

    #[test]
    fn silences_far_from_each_other_are_not_one() {
        let start = Instant::now();
        let mut silence = Silence::NONE;
        for hour in 0..24 {
            assert!(!silence.goes_on(start + Duration::from_secs(3_600 * hour)));
        }
    }
}
