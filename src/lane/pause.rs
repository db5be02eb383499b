//! An operator's word about a lane: whether it is paused, since when, and when it was last resumed. The word itself is
//! kept by `connector::pauses`; here it stops what would begin.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use crate::status::Pause;

/// For how long a retry of a paused target goes back into its queue: as long as the pause has lasted, within these. A
/// long pause then costs the broker little, and after a short one retries are back soon.
const BACK_MIN: Duration = Duration::from_secs(5);
const BACK_MAX: Duration = Duration::from_secs(300);

/// Whether a lane is paused.
#[derive(Debug, Default)]
pub(super) struct PauseGate {
    /// What `word` says, for those who ask once for each attempt.
    paused: AtomicBool,
    word: Mutex<Option<Pause>>,
}

impl PauseGate {
    /// Takes an operator's word. True when it changes whether the lane is paused.
    pub(super) fn set(&self, pause: Pause) -> bool {
        let paused = pause.is_paused();
        *self.word() = Some(pause);
        self.paused.swap(paused, Ordering::Relaxed) != paused
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// For how long a retry goes back, if the lane is paused at `now`.
    pub(super) fn back_for(&self, now: SystemTime) -> Option<Duration> {
        match *self.word() {
            Some(Pause::Paused { since }) => {
                Some(now.duration_since(since).unwrap_or_default().clamp(BACK_MIN, BACK_MAX))
            }
            Some(Pause::Lifted { .. }) | None => None,
        }
    }

    /// Whether a pause was lifted after `due`: it kept what was due then waiting.
    pub(super) fn kept_waiting(&self, due: SystemTime) -> bool {
        matches!(*self.word(), Some(Pause::Lifted { at }) if at > due)
    }

    fn word(&self) -> MutexGuard<'_, Option<Pause>> {
        self.word.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_goes_back_for_as_long_as_the_pause_has_lasted_within_bounds() {
        let since = SystemTime::UNIX_EPOCH;
        let gate = PauseGate::default();
        assert_eq!(gate.back_for(since), None);
        assert!(gate.set(Pause::Paused { since }));
        assert!(!gate.set(Pause::Paused { since }));
        for (seconds, back) in [(0, BACK_MIN), (60, Duration::from_secs(60)), (86_400, BACK_MAX)] {
            assert_eq!(gate.back_for(since + Duration::from_secs(seconds)), Some(back));
        }
        assert!(gate.set(Pause::Lifted { at: since + BACK_MAX }));
        assert_eq!(gate.back_for(since + BACK_MAX), None);
        assert!(gate.kept_waiting(since) && !gate.kept_waiting(since + BACK_MAX));
    }
}
