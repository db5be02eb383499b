//! A lane's permits: one for each request in flight, in the order in which they are asked for, and as many as the
//! limit says at the moment. Retries have a share of their own. Knows nothing of why the limit moves.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Semaphore;

/// The share of a lane's permits that is kept for retries against fresh messages, and for fresh messages against
/// retries.
const RETRY_SHARE: f64 = 0.2;
/// The most retries of one target that wait for a batch or go in one: all targets' retries share a room of 1,024.
const BATCHED_RETRIES_MAX: usize = 256;

/// The permits of a lane.
#[derive(Debug)]
pub(super) struct Permits {
    free: Semaphore,
    limit: AtomicUsize,
    /// How many deliveries a request may carry.
    per_request: usize,
    /// Permits that are out and are not to come back: the limit was lowered while they were in use.
    surplus: AtomicUsize,
    /// How many wait for a permit.
    waiting: AtomicUsize,
    /// Retries that wait for a permit or hold one.
    retries: AtomicUsize,
}

/// One request may be in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit<'a>(&'a Permits);

/// The right of a retry to wait for a permit and to hold it, until it is dropped.
#[derive(Debug)]
pub struct RetryPlace<'a>(&'a AtomicUsize);

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Permits {
    pub(super) fn new(limit: usize, per_request: usize) -> Self {
        Self {
            free: Semaphore::new(limit),
            limit: AtomicUsize::new(limit),
            per_request,
            surplus: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            retries: AtomicUsize::new(0),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    pub(super) fn free(&self) -> usize {
        self.free.available_permits()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The next permit, first come first served: neither retries nor fresh messages overtake the other.
    pub(super) async fn take(&self) -> Permit<'_> {
        let permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait().await,
        };
        // Given back by hand: some may not come back.
        permit.forget();
        Permit(self)
    }

    async fn wait(&self) -> tokio::sync::SemaphorePermit<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = self.free.acquire().await {
                return permit;
            }
        }
    }

    /// Moves the limit. Permits above a lower limit are taken away as they come back. To be called by one at a
    /// time.
    pub(super) fn resize(&self, limit: usize) {
        let was = self.limit.swap(limit, Ordering::Relaxed);
        for _ in was..limit {
            self.give_back();
        }
        let mut too_many = was.saturating_sub(limit);
        too_many -= self.free.forget_permits(too_many);
        self.surplus.fetch_add(too_many, Ordering::Relaxed);
    }

    /// A place for a retry. A burst of retries leaves the rest to fresh messages while those use it, and never
    /// takes the last permits, so that a fresh message need not wait for one to end. In batches both go together.
    pub(super) fn retry_place(&self) -> Option<RetryPlace<'_>> {
        let share = share(self.limit());
        let held = self.retries.load(Ordering::Relaxed);
        let has_place = match self.per_request {
            1 => held < share || self.free() > share,
            per_request => held < (share * per_request).min(BATCHED_RETRIES_MAX),
        };
        has_place.then(|| {
            self.retries.fetch_add(1, Ordering::Relaxed);
            RetryPlace(&self.retries)
        })
    }

    fn give_back(&self) {
        let one_less = |surplus: usize| surplus.checked_sub(1);
        if self.surplus.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            self.free.add_permits(1);
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
fn share(limit: usize) -> usize {
    ((limit as f64 * RETRY_SHARE) as usize).max(1)
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.give_back();
    }
}

impl Drop for RetryPlace<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt;
    use proptest::prelude::*;

    fn take(permits: &Permits) -> Option<Permit<'_>> {
        permits.take().now_or_never()
    }

    #[test]
    fn retries_leave_four_fifths_to_fresh_messages_that_wait() {
        let permits = Permits::new(10, 1);
        let fresh: Vec<_> = (0..10).map(|_| take(&permits).unwrap()).collect();
        let places: Vec<_> = (0..10).filter_map(|_| permits.retry_place()).collect();
        assert_eq!(places.len(), 2, "the lane is full: only the retries' share");
        drop((fresh, places));
        assert_eq!(permits.free(), 10);
    }

    #[test]
    fn retries_use_what_is_free_but_not_the_last_fifth() {
        let permits = Permits::new(10, 1);
        let mut held = Vec::new();
        while let Some(place) = permits.retry_place() {
            held.push((place, take(&permits).unwrap()));
        }
        assert_eq!((held.len(), permits.free()), (8, 2));
    }

    #[test]
    fn the_smallest_lane_has_room_for_a_retry() {
        let permits = Permits::new(1, 1);
        let _fresh = take(&permits).unwrap();
        assert!(permits.retry_place().is_some());
    }

    #[test]
    fn retries_of_a_batching_target_have_room_for_a_batch_and_leave_other_targets_theirs() {
        let places = |limit, per_request| {
            let permits = Permits::new(limit, per_request);
            let places: Vec<_> = (0..2_000).map_while(|_| permits.retry_place()).collect();
            places.len()
        };
        assert_eq!((places(1, 100), places(10, 100), places(64, 1_000)), (100, 200, BATCHED_RETRIES_MAX));
    }

    proptest! {
        /// `Some(limit)` resizes, `None` takes a permit or gives one back.
        #[test]
        fn no_more_are_out_than_the_limit_allowed_when_they_were_taken(
            events in prop::collection::vec((prop::option::of(1_usize..20), any::<bool>()), 1..200),
        ) {
            let permits = Permits::new(4, 1);
            let mut out = Vec::new();
            for (resize, taking) in events {
                match resize {
                    Some(limit) => permits.resize(limit),
                    None if taking => {
                        let limit = permits.limit();
                        let taken = take(&permits);
                        prop_assert_eq!(taken.is_some(), out.len() < limit);
                        out.extend(taken);
                    }
                    None => drop(out.pop()),
                }
            }
            out.clear();
            prop_assert_eq!(permits.free(), permits.limit());
        }
    }
}
