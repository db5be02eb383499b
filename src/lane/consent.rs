//! What a receiver said to the handshake, as its lane minds it: nothing begins without consent, and no more than was
//! granted. Asking is for `connector::handshakes`.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{Limiter, limiter};
use crate::target::Rate;

/// For how long others wait at a time while it is not known when the receiver is asked.
const ASKING: Duration = Duration::from_secs(1);

/// Whether a receiver consents to deliveries.
#[derive(Debug, Default)]
pub(super) struct Consent {
    given: AtomicBool,
    terms: Mutex<Terms>,
}

#[derive(Debug, Default)]
struct Terms {
    /// The granted rate, and what keeps it.
    limit: Option<(Rate, Arc<Limiter>)>,
    /// When the receiver is asked again, where it did not consent.
    asked_again: Option<Instant>,
}

impl Consent {
    /// The receiver consents. A rate that it granted before goes on as it is.
    pub(super) fn give(&self, rate: Option<Rate>) {
        let mut terms = self.terms();
        let before = terms.limit.take();
        terms.limit = rate.map(|rate| match before {
            Some((same, limiter)) if same == rate => (same, limiter),
            Some(_) | None => (rate, Arc::new(limiter(rate))),
        });
        drop(terms);
        self.given.store(true, Ordering::Relaxed);
    }

    /// It does not, and is asked again at `next`.
    pub(super) fn withhold(&self, next: Instant) {
        self.terms().asked_again = Some(next);
        self.given.store(false, Ordering::Relaxed);
    }

    pub(super) fn is_given(&self) -> bool {
        self.given.load(Ordering::Relaxed)
    }

    /// How long nothing begins for want of it, as far as is known at `now`.
    pub(super) fn missing_for(&self, now: Instant) -> Option<Duration> {
        if self.is_given() {
            return None;
        }
        let known = self.terms().asked_again.map(|next| next.saturating_duration_since(now));
        Some(known.unwrap_or_default().max(ASKING))
    }

    /// What keeps the granted rate.
    pub(super) fn limiter(&self) -> Option<Arc<Limiter>> {
        self.terms().limit.as_ref().map(|(_, limiter)| Arc::clone(limiter))
    }

    fn terms(&self) -> MutexGuard<'_, Terms> {
        self.terms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::num::NonZeroU32;

    use super::*;

    #[test]
    fn nothing_begins_before_consent_and_what_waits_knows_for_how_long() {
        let (consent, now) = (Consent::default(), Instant::now());
        assert_eq!(consent.missing_for(now), Some(ASKING));
        consent.withhold(now + Duration::from_secs(20));
        assert_eq!(consent.missing_for(now), Some(Duration::from_secs(20)));
        assert_eq!(consent.missing_for(now + Duration::from_secs(60)), Some(ASKING), "asked at this moment");
        consent.give(None);
        assert_eq!(consent.missing_for(now), None);
        consent.withhold(now + Duration::from_secs(5));
        assert!(!consent.is_given());
    }

    #[test]
    fn the_same_rate_granted_again_does_not_begin_anew() {
        let rate = |requests| Some(Rate { requests: NonZeroU32::new(requests).unwrap(), per: ASKING });
        let consent = Consent::default();
        consent.give(rate(5));
        let first = consent.limiter().unwrap();
        consent.give(rate(5));
        assert!(Arc::ptr_eq(&first, &consent.limiter().unwrap()));
        consent.give(rate(6));
        assert!(!Arc::ptr_eq(&first, &consent.limiter().unwrap()));
        consent.give(None);
        assert!(consent.limiter().is_none());
    }
}
