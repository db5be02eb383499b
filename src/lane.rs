//! A target's own lane: its permits, its rate and its breaker, so that a sick target costs a healthy one
//! nothing. Attempts wait here; what is attempted, and what its outcome means, is decided elsewhere.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::{Notify, Semaphore, SemaphorePermit},
    time::{sleep, sleep_until},
};

use crate::{
    breaker::{Admission, Breaker},
    outcome::{Outcome, Strike},
    target::{Rate, Target},
};

/// The share of a lane's permits that retries may wait for or hold: a burst of them leaves the rest to fresh
/// messages.
const RETRY_SHARE: f64 = 0.2;

/// The longest stretch of a rate that may be used at once; beyond it requests are spread evenly.
const RATE_BURST: Duration = Duration::from_millis(20);

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock>;

/// For how long ahead messages are asked for, so that the next ones are there when an attempt ends: some round
/// trips to the broker. A lane whose attempts take longer asks for none ahead, and no message ages in it.
const AHEAD: Duration = Duration::from_millis(20);

/// Of how much weight the latest attempt's duration is in the average: a sixteenth.
const AVERAGE_SHIFT: u32 = 4;

/// What all deliveries to one target pass through.
#[derive(Debug)]
pub struct Lane {
    concurrency: usize,
    permits: Semaphore,
    /// How many wait for a permit.
    waiting: AtomicUsize,
    /// The moving average of attempts' durations, in nanoseconds; 0 before the first.
    average_nanos: AtomicU64,
    retries: Semaphore,
    rate: Option<Limiter>,
    breaker: Mutex<Breaker>,
    breaker_moved: Notify,
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The right to make one attempt. Its outcome must be reported; dropped without, it counts as not made.
#[derive(Debug)]
pub struct Pass<'a> {
    lane: &'a Lane,
    probe: bool,
    _permit: SemaphorePermit<'a>,
}

/// The right of a retry to wait for a pass.
#[derive(Debug)]
pub struct RetryPlace<'a>(#[expect(dead_code, reason = "held, never read")] SemaphorePermit<'a>);

impl Lane {
    /// The lane of `target`.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let permits = target.concurrency.get();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let retries = ((permits as f64 * RETRY_SHARE) as usize).max(1);
        Self {
            concurrency: permits,
            permits: Semaphore::new(permits),
            waiting: AtomicUsize::new(0),
            average_nanos: AtomicU64::new(0),
            retries: Semaphore::new(retries),
            rate: target.rate.map(|rate| RateLimiter::direct(quota(rate))),
            breaker: Mutex::default(),
            breaker_moved: Notify::new(),
        }
    }

    /// How many messages can be taken now: as many as attempts could begin, and a few more where attempts are
    /// short. None while the breaker keeps them waiting, one where it would let a probe through.
    #[must_use]
    pub fn room(&self) -> usize {
        let breaker = self.breaker();
        if breaker.is_closed() && breaker.closed_until(Instant::now()).is_none() {
            let room = self.permits.available_permits() + self.ahead();
            return room.saturating_sub(self.waiting.load(Ordering::Relaxed));
        }
        match breaker.closed_until(Instant::now()) {
            Some(_) => 0,
            None => self.permits.available_permits().min(1),
        }
    }

    /// How many attempts end within [`AHEAD`]; at most as many again as run at a time.
    fn ahead(&self) -> usize {
        let average = Duration::from_nanos(self.average_nanos.load(Ordering::Relaxed));
        if average.is_zero() {
            return 0;
        }
        let ended = AHEAD.as_nanos() * self.concurrency as u128 / average.as_nanos();
        usize::try_from(ended).unwrap_or(usize::MAX).min(self.concurrency)
    }

    fn note_duration(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let average = self.average_nanos.load(Ordering::Relaxed);
        let next =
            if average == 0 { took } else { average - (average >> AVERAGE_SHIFT) + (took >> AVERAGE_SHIFT) };
        self.average_nanos.store(next.max(1), Ordering::Relaxed);
    }

    /// How long the breaker keeps everything waiting, if it does.
    #[must_use]
    pub fn closed_for(&self) -> Option<Duration> {
        let now = Instant::now();
        self.breaker().closed_until(now).map(|until| until.saturating_duration_since(now))
    }

    /// Resolves when the breaker has moved since.
    pub async fn moved(&self) {
        self.breaker_moved.notified().await;
    }

    /// A place for a retry, or `None` when as many retries wait as may.
    #[must_use]
    pub fn retry_place(&self) -> Option<RetryPlace<'_>> {
        self.retries.try_acquire().ok().map(RetryPlace)
    }

    /// Waits for a permit, for the breaker and for the rate, in that order.
    pub async fn enter(&self) -> Pass<'_> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait_for_permit().await,
        };
        let mut pass = Pass { lane: self, probe: false, _permit: permit };
        let admission = self.breaker().admit(Instant::now());
        match admission {
            Admission::Go if self.rate.is_none() => return pass,
            Admission::Go => {}
            Admission::Probe => pass.probe = true,
            // Boxed, so that the common case does not carry the waits' size around.
            Admission::ProbeUnderWay | Admission::Wait(_) => pass.probe = Box::pin(self.admitted()).await,
        }
        Box::pin(self.wait_for_rate()).await;
        pass
    }

    async fn wait_for_permit(&self) -> SemaphorePermit<'_> {
        let _waiting = Waiting::new(&self.waiting);
        loop {
            // The semaphore is never closed.
            if let Ok(permit) = self.permits.acquire().await {
                return permit;
            }
        }
    }

    /// Waits until the breaker lets an attempt through; true for the probe.
    async fn admitted(&self) -> bool {
        loop {
            let moved = self.breaker_moved.notified();
            let admission = self.breaker().admit(Instant::now());
            match admission {
                Admission::Go => return false,
                Admission::Probe => return true,
                Admission::ProbeUnderWay => moved.await,
                Admission::Wait(until) => {
                    tokio::select! {
                        () = sleep_until(until.into()) => {}
                        () = moved => {}
                    }
                }
            }
        }
    }

    async fn wait_for_rate(&self) {
        let Some(rate) = &self.rate else { return };
        while let Err(not_yet) = rate.check() {
            sleep(not_yet.wait_time_from(DefaultClock::default().now())).await;
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// Reports what the attempt came to, and how long it took. `hold` is the wait that the receiver asked for. Returns how long the
    /// breaker opens if this opens it.
    pub fn report(mut self, outcome: Outcome, took: Duration, hold: Option<Duration>) -> Option<Duration> {
        self.lane.note_duration(took);
        let now = Instant::now();
        let mut breaker = self.lane.breaker();
        let was_closed = breaker.is_closed();
        let opened = match outcome {
            Outcome::Delivered | Outcome::Permanent => {
                if was_closed || self.probe {
                    breaker.success();
                }
                None
            }
            Outcome::Transient(strike) => self.strike(&mut breaker, strike, now),
        };
        if let (Outcome::Transient(_), Some(wait)) = (outcome, hold) {
            breaker.hold(now + wait);
        }
        let moved = was_closed != breaker.is_closed() || self.probe || hold.is_some();
        drop(breaker);
        self.probe = false;
        if moved {
            self.lane.breaker_moved.notify_waiters();
        }
        opened
    }

    /// Only the probe speaks while the breaker probes: what began before it opened is old news.
    fn strike(&self, breaker: &mut Breaker, strike: Strike, now: Instant) -> Option<Duration> {
        if self.probe || breaker.is_closed() { breaker.failure(strike, now) } else { None }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.probe {
            self.lane.breaker().abandon_probe(Instant::now());
            self.lane.breaker_moved.notify_waiters();
        }
    }
}

fn quota(rate: Rate) -> Quota {
    let spacing = (rate.per / rate.requests.get()).max(Duration::from_nanos(1));
    let burst = RATE_BURST.as_nanos() / spacing.as_nanos();
    let burst =
        u32::try_from(burst).ok().and_then(std::num::NonZeroU32::new).unwrap_or(std::num::NonZeroU32::MIN);
    Quota::with_period(spacing).unwrap_or(Quota::per_second(rate.requests)).allow_burst(burst)
}
