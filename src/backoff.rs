//! When the next attempt is due: the retry policy of a target, as arithmetic. Pure: neither clock nor random
//! source lives here; the jitter is an argument.

use std::{num::NonZeroU32, time::Duration};

/// The share by which a wait may be shortened or lengthened, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// ±20 %: enough that deliveries which failed together do not come back together.
    pub const DEFAULT: Self = Self(0.2);

    /// # Errors
    /// Gives the share back when it is not within 0 to 1.
    pub fn new(share: f64) -> Result<Self, f64> {
        if (0.0..=1.0).contains(&share) { Ok(Self(share)) } else { Err(share) }
    }

    /// The share.
    #[must_use]
    pub fn share(self) -> f64 {
        self.0
    }

    /// Moves `wait` by at most the share, as `random` (0 to 1) says: 0 shortens most, 1 lengthens most.
    fn apply(self, wait: Duration, random: f64) -> Duration {
        wait.mul_f64(1.0 + self.0 * (2.0 * random.clamp(0.0, 1.0) - 1.0))
    }
}

/// How long to wait after each failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Schedule {
    /// A wait for each retry, in order.
    Delays(Vec<Duration>),
    /// Waits that grow.
    Exponential {
        /// The first wait.
        initial: Duration,
        /// What each wait is multiplied by for the next; at least 1.
        factor: f64,
        /// The longest wait.
        max: Duration,
        /// All attempts, the first one included.
        attempts: NonZeroU32,
    },
}

impl Schedule {
    /// The wait after `failed` failed attempts, or `None` when there is no further attempt.
    #[must_use]
    pub fn delay(&self, failed: NonZeroU32) -> Option<Duration> {
        match self {
            Self::Delays(delays) => delays.get(failed.get() as usize - 1).copied(),
            Self::Exponential { attempts, .. } if failed >= *attempts => None,
            Self::Exponential { initial, factor, max, .. } => {
                let wait = initial.as_secs_f64() * factor.powf(f64::from(failed.get() - 1));
                Some(Duration::try_from_secs_f64(wait).map_or(*max, |wait| wait.min(*max)))
            }
        }
    }

    /// How many attempts the schedule allows at most, the first one included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        match self {
            Self::Delays(delays) => u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1),
            Self::Exponential { attempts, .. } => attempts.get(),
        }
    }

    /// All waits together, without jitter.
    #[must_use]
    pub fn total(&self) -> Duration {
        (1..self.attempts())
            .filter_map(NonZeroU32::new)
            .map_while(|failed| self.delay(failed))
            .fold(Duration::ZERO, Duration::saturating_add)
    }
}

/// How long, how often and how far apart a target's deliveries are attempted.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The waits.
    pub schedule: Schedule,
    /// How much each wait is spread.
    pub jitter: Jitter,
    /// How long after the message was published a retry may still be made.
    pub max_age: Duration,
    /// The least wait after a 429 or a timeout: signs of a receiver that has too much to do.
    pub overload_wait: Duration,
}

impl RetryPolicy {
    /// The wait before the attempt that follows `failed` failed ones, spread by `random` (0 to 1); `None` when
    /// the schedule has ended.
    #[must_use]
    pub fn wait(&self, failed: NonZeroU32, random: f64) -> Option<Duration> {
        self.schedule.delay(failed).map(|delay| self.jitter.apply(delay, random))
    }

    /// How long the policy goes on at most: all waits, or `max_age` where that is shorter.
    #[must_use]
    pub fn horizon(&self) -> Duration {
        self.schedule.total().min(self.max_age)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn exponential(attempts: u32) -> Schedule {
        Schedule::Exponential {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(3600),
            attempts: NonZeroU32::new(attempts).unwrap(),
        }
    }

    #[test]
    fn a_list_of_delays_gives_one_attempt_more_than_it_has_delays() {
        let list = Schedule::Delays(vec![Duration::from_secs(5), Duration::from_secs(30)]);
        assert_eq!(list.attempts(), 3);
        assert_eq!(list.delay(NonZeroU32::new(2).unwrap()), Some(Duration::from_secs(30)));
        assert_eq!(list.delay(NonZeroU32::new(3).unwrap()), None);
        assert_eq!(list.total(), Duration::from_secs(35));
    }

    proptest! {
        #[test]
        fn every_wait_stays_within_its_jitter(failed in 1_u32..12, share in 0.0..=1.0_f64, random in 0.0..=1.0_f64) {
            let schedule = exponential(12);
            let failed = NonZeroU32::new(failed).unwrap();
            let delay = schedule.delay(failed);
            let policy = RetryPolicy {
                schedule,
                jitter: Jitter::new(share).unwrap(),
                max_age: Duration::from_secs(86_400),
                overload_wait: Duration::ZERO,
            };
            match (delay, policy.wait(failed, random)) {
                (Some(delay), Some(wait)) => {
                    let (delay, wait) = (delay.as_secs_f64(), wait.as_secs_f64());
                    prop_assert!(wait >= delay * (1.0 - share) - 1e-6 && wait <= delay * (1.0 + share) + 1e-6);
                }
                (None, None) => prop_assert_eq!(failed.get(), 12),
                other => prop_assert!(false, "{:?}", other),
            }
        }

        #[test]
        fn no_attempt_number_or_factor_overflows(failed in 1_u32..u32::MAX, factor in 1.0..1e9_f64) {
            let max = Duration::from_secs(7200);
            let schedule = Schedule::Exponential {
                initial: Duration::from_secs(1), factor, max, attempts: NonZeroU32::MAX,
            };
            prop_assert!(schedule.delay(NonZeroU32::new(failed).unwrap()).unwrap() <= max);
        }
    }
}
