//! What is done about an outcome: ack, another attempt, or the dead-letter stream; or a skip, where nothing was sent. Pure: the time and the
//! jitter are arguments, and nothing is done here.

use std::time::{Duration, SystemTime};

use crate::{
    backoff::RetryPolicy,
    message::Failed,
    outcome::{End, Outcome},
};

/// What is done about a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// It is delivered: the source may forget it.
    Ack,
    /// It waits in the retry queue until then.
    Retry {
        /// When the next attempt is due.
        at: SystemTime,
    },
    /// It is stored as a dead letter.
    DeadLetter(Reason),
    /// The target does not want it: the source may forget it.
    Skip,
}

/// Why natshook gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The retry policy's attempts are used up.
    AttemptsExhausted,
    /// The next attempt would be later than the policy's `max_age` allows.
    TooOld,
    /// The receiver answered with a status that no further attempt can change.
    PermanentStatus,
    /// The payload is larger than the target's `max_payload_bytes`.
    MessageTooLarge,
    /// natshook ended again and again while it had this message.
    CrashLoop,
    /// It was found in the retry queue and natshook did not write it.
    Unreadable,
    /// It waits for a target that the config does not have any more.
    UnknownTarget,
    /// natshook ended while the message waited in its memory; core NATS takes nothing back.
    ShutDown,
    /// The target's filter cannot be evaluated for it.
    FilterError,
    /// What the target would send of it cannot be made.
    TransformError,
    /// What would be sent of it is not JSON, and the target takes batches of JSON.
    NotJson,
}

impl Reason {
    /// Every reason, for metrics and docs.
    pub const ALL: [Self; 11] = [
        Self::AttemptsExhausted,
        Self::TooOld,
        Self::PermanentStatus,
        Self::MessageTooLarge,
        Self::CrashLoop,
        Self::Unreadable,
        Self::UnknownTarget,
        Self::ShutDown,
        Self::FilterError,
        Self::TransformError,
        Self::NotJson,
    ];

    /// The word for it in headers, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AttemptsExhausted => "attempts_exhausted",
            Self::TooOld => "too_old",
            Self::PermanentStatus => "permanent_status",
            Self::MessageTooLarge => "message_too_large",
            Self::CrashLoop => "crash_loop",
            Self::Unreadable => "unreadable",
            Self::UnknownTarget => "unknown_target",
            Self::ShutDown => "shut_down",
            Self::FilterError => "filter_error",
            Self::TransformError => "transform_error",
            Self::NotJson => "not_json",
        }
    }
}

/// Decides what follows the attempt that ended so. `failed` counts that attempt already; the delivery's age counts from
/// `since`; `random` (0 to 1) spreads the wait.
#[must_use]
pub fn decide(
    outcome: Outcome,
    end: &End,
    failed: &Failed,
    since: SystemTime,
    policy: &RetryPolicy,
    now: SystemTime,
    random: f64,
) -> Disposition {
    match outcome {
        Outcome::Delivered => Disposition::Ack,
        Outcome::Permanent => Disposition::DeadLetter(Reason::PermanentStatus),
        Outcome::Transient(_) => match policy.wait(failed.attempts, random) {
            None => Disposition::DeadLetter(Reason::AttemptsExhausted),
            Some(wait) => {
                let overload = if end.overloaded() { policy.overload_wait } else { Duration::ZERO };
                let wait = wait.max(overload).max(end.retry_after().unwrap_or_default());
                let at = now + wait;
                if expired(at, since, policy) {
                    Disposition::DeadLetter(Reason::TooOld)
                } else {
                    Disposition::Retry { at }
                }
            }
        },
    }
}

/// Whether a retry at `at` would be later than the policy's `max_age`, counted from `since`, allows. A clock that
/// stepped back makes nothing old.
#[must_use]
pub fn expired(at: SystemTime, since: SystemTime, policy: &RetryPolicy) -> bool {
    at.duration_since(since).is_ok_and(|age| age > policy.max_age)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{
        backoff::{Jitter, Schedule},
        outcome::{Answer, Fault, Strike},
    };
    use bytes::Bytes;
    use std::num::NonZeroU32;

    const TRANSIENT: Outcome = Outcome::Transient(Strike::Failure);

    fn policy() -> RetryPolicy {
        RetryPolicy {
            schedule: Schedule::Delays(vec![Duration::from_secs(5), Duration::from_secs(30)]),
            jitter: Jitter::new(0.0).unwrap(),
            max_age: Duration::from_secs(100),
            overload_wait: Duration::from_secs(60),
        }
    }

    fn failed(attempts: u32) -> Failed {
        Failed {
            attempts: NonZeroU32::new(attempts).unwrap(),
            first_attempt: SystemTime::UNIX_EPOCH,
            last_attempt: SystemTime::UNIX_EPOCH,
            last_status: None,
            last_error: String::new(),
            response: Bytes::new(),
        }
    }

    fn answered(status: u16, retry_after: Option<u64>) -> End {
        End::Answered(Answer {
            status,
            retry_after: retry_after.map(Duration::from_secs),
            excerpt: Bytes::new(),
            kept: None,
        })
    }

    fn after(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn decided(end: &End, attempts: u32, now: u64) -> Disposition {
        decide(TRANSIENT, end, &failed(attempts), SystemTime::UNIX_EPOCH, &policy(), after(now), 0.5)
    }

    #[test]
    fn a_failure_waits_as_the_policy_says_until_its_attempts_end() {
        assert_eq!(decided(&answered(500, None), 1, 0), Disposition::Retry { at: after(5) });
        assert_eq!(decided(&answered(500, None), 2, 5), Disposition::Retry { at: after(35) });
        assert_eq!(decided(&answered(500, None), 3, 35), Disposition::DeadLetter(Reason::AttemptsExhausted));
    }

    #[test]
    fn an_overloaded_receiver_is_given_a_minute() {
        assert_eq!(decided(&answered(429, None), 1, 0), Disposition::Retry { at: after(60) });
        let timeout = End::Broken(Fault::Timeout(Duration::from_secs(30)));
        assert_eq!(decided(&timeout, 1, 0), Disposition::Retry { at: after(60) });
    }

    #[test]
    fn retry_after_only_ever_lengthens_the_wait() {
        assert_eq!(decided(&answered(503, Some(20)), 1, 0), Disposition::Retry { at: after(20) });
        assert_eq!(decided(&answered(503, Some(2)), 1, 0), Disposition::Retry { at: after(5) });
    }

    #[test]
    fn a_retry_that_would_come_too_late_is_not_waited_for() {
        assert_eq!(decided(&answered(503, None), 1, 96), Disposition::DeadLetter(Reason::TooOld));
        assert_eq!(decided(&answered(503, Some(101)), 1, 0), Disposition::DeadLetter(Reason::TooOld));
    }
}
