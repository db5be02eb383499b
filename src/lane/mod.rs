//! A target's own lane: its permits, its rate, its breaker, an operator's pause and the receiver's consent, so that a sick target costs a healthy one
//! nothing. Attempts wait here; what is attempted, and what its outcome means, is decided elsewhere.

mod consent;
mod limit;
mod pause;
mod permits;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::{InMemoryState, NotKeyed},
};
use tokio::{
    sync::Notify,
    time::{sleep, sleep_until},
};

pub use permits::RetryPlace;

use crate::{
    breaker::{Admission, Breaker, BreakerState},
    outcome::{End, Outcome, Strike},
    status::Pause,
    target::{Concurrency, Rate, Target},
};
use consent::Consent;
use limit::AdaptiveLimit;
use pause::PauseGate;
use permits::{Permit, Permits};

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
    permits: Permits,
    /// `None` where the config fixes the limit.
    adaptive: Option<Mutex<AdaptiveLimit>>,
    /// The moving average of attempts' durations, in nanoseconds; 0 before the first.
    average_nanos: AtomicU64,
    rate: Option<Limiter>,
    breaker: Mutex<Breaker>,
    pause: PauseGate,
    /// `None` where the receiver is not asked.
    consent: Option<Consent>,
    /// The breaker moved, an operator paused or resumed the lane, or the receiver said another word.
    moved: Notify,
}

/// The right to make one attempt. Its outcome must be reported; dropped without, it counts as not made.
#[derive(Debug)]
pub struct Pass<'a> {
    lane: &'a Lane,
    began: Instant,
    probe: bool,
    _permit: Permit<'a>,
}

impl Lane {
    /// The lane of `target`.
    #[must_use]
    pub fn new(target: &Target) -> Self {
        let (limit, adaptive) = match target.concurrency {
            Concurrency::Fixed(limit) => (limit.get(), None),
            Concurrency::Adaptive { max } => {
                let adaptive = AdaptiveLimit::new(max.get());
                (adaptive.current(), Some(Mutex::new(adaptive)))
            }
        };
        Self {
            permits: Permits::new(limit, target.per_request().get()),
            adaptive,
            average_nanos: AtomicU64::new(0),
            rate: target.rate.map(limiter),
            breaker: Mutex::default(),
            pause: PauseGate::default(),
            consent: target.handshake.is_some().then(Consent::default),
            moved: Notify::new(),
        }
    }

    /// How many requests may be in flight now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.permits.limit()
    }

    /// How many messages can be taken now: as many as attempts could begin, and a few more where attempts are
    /// short. None while the breaker, a pause or missing consent keeps them waiting, one where the breaker would let a probe through.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.pause.is_paused() || self.lacks_consent() {
            return 0;
        }
        let breaker = self.breaker();
        if breaker.is_unhindered() {
            return (self.permits.free() + self.ahead()).saturating_sub(self.permits.waiting());
        }
        match breaker.closed_until(Instant::now()) {
            Some(_) => 0,
            None if breaker.is_closed() => self.permits.free(),
            None => self.permits.free().min(1),
        }
    }

    /// How many attempts end within [`AHEAD`]; at most as many again as run at a time.
    fn ahead(&self) -> usize {
        let average = Duration::from_nanos(self.average_nanos.load(Ordering::Relaxed));
        if average.is_zero() {
            return 0;
        }
        let limit = self.permits.limit();
        let ended = AHEAD.as_nanos() * limit as u128 / average.as_nanos();
        usize::try_from(ended).unwrap_or(usize::MAX).min(limit)
    }

    fn note_duration(&self, took: Duration) {
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let average = self.average_nanos.load(Ordering::Relaxed);
        let next =
            if average == 0 { took } else { average - (average >> AVERAGE_SHIFT) + (took >> AVERAGE_SHIFT) };
        self.average_nanos.store(next.max(1), Ordering::Relaxed);
    }

    /// How long the breaker, or the receiver's missing consent, keeps everything waiting, if it does.
    #[must_use]
    pub fn closed_for(&self) -> Option<Duration> {
        let now = Instant::now();
        let open = self.breaker().closed_until(now).map(|until| until.saturating_duration_since(now));
        open.max(self.consent.as_ref().and_then(|consent| consent.missing_for(now)))
    }

    /// Takes the receiver's word to the handshake: deliveries may begin, at `rate` at most if it names one.
    pub fn consented(&self, rate: Option<Rate>) {
        if let Some(consent) = &self.consent {
            consent.give(rate);
            self.moved.notify_waiters();
        }
    }

    /// Takes the receiver's word to the handshake: nothing begins, and it is asked again at `next`.
    pub fn refused(&self, next: Instant) {
        if let Some(consent) = &self.consent {
            consent.withhold(next);
            self.moved.notify_waiters();
        }
    }

    /// Whether the receiver has to consent and has not.
    #[must_use]
    pub fn lacks_consent(&self) -> bool {
        self.consent.as_ref().is_some_and(|consent| !consent.is_given())
    }

    /// For how long a retry goes back into its queue because an operator paused the lane, if so.
    #[must_use]
    pub fn paused_for(&self) -> Option<Duration> {
        self.pause.back_for(SystemTime::now())
    }

    /// Whether an operator's pause kept waiting what was due at `due`.
    #[must_use]
    pub fn pause_kept_waiting(&self, due: SystemTime) -> bool {
        self.pause.kept_waiting(due)
    }

    /// Whether an operator paused the lane.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.pause.is_paused()
    }

    /// Takes an operator's word: nothing begins while the lane is paused. Attempts under way end. True when this
    /// changes anything.
    pub fn set_pause(&self, pause: Pause) -> bool {
        let changed = self.pause.set(pause);
        if changed {
            self.moved.notify_waiters();
        }
        changed
    }

    /// What the breaker does at this moment.
    #[must_use]
    pub fn breaker_state(&self) -> BreakerState {
        self.breaker().state(Instant::now())
    }

    /// Resolves when the breaker has moved since, the lane was paused or resumed, or the receiver said another word.
    pub async fn moved(&self) {
        self.moved.notified().await;
    }

    /// A place for a retry, or `None` when as many retries wait as may.
    #[must_use]
    pub fn retry_place(&self) -> Option<RetryPlace<'_>> {
        self.permits.retry_place()
    }

    /// Waits for a permit, for the end of a pause and for consent, for the breaker and for the rate, in that order.
    pub async fn enter(&self) -> Pass<'_> {
        let permit = self.permits.take().await;
        if self.pause.is_paused() || self.lacks_consent() {
            Box::pin(self.opened()).await;
        }
        let mut pass = Pass { lane: self, began: Instant::now(), probe: false, _permit: permit };
        let admission = self.breaker().admit(pass.began);
        match admission {
            Admission::Go if self.rate.is_none() && self.consent.is_none() => return pass,
            Admission::Go => {}
            Admission::Probe => pass.probe = true,
            // Boxed, so that the common case does not carry the waits' size around.
            Admission::ProbeUnderWay | Admission::Wait(_) => pass.probe = Box::pin(self.admitted()).await,
        }
        Box::pin(self.wait_for_rate()).await;
        pass.began = Instant::now();
        pass
    }

    async fn opened(&self) {
        loop {
            let moved = self.moved.notified();
            if !self.pause.is_paused() && !self.lacks_consent() {
                return;
            }
            moved.await;
        }
    }

    /// Waits until the breaker lets an attempt through; true for the probe.
    async fn admitted(&self) -> bool {
        loop {
            let moved = self.moved.notified();
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
        if let Some(rate) = &self.rate {
            turn(rate).await;
        }
        if let Some(granted) = self.consent.as_ref().and_then(Consent::limiter) {
            turn(&granted).await;
        }
    }

    /// Lets an adaptive limit learn from an attempt.
    fn adapt(&self, began: Instant, end: &End, outcome: Outcome, now: Instant) {
        let Some(adaptive) = &self.adaptive else { return };
        let mut adaptive = adaptive.lock().unwrap_or_else(PoisonError::into_inner);
        if end.overloaded() {
            adaptive.overloaded(began, now);
        } else if outcome == Outcome::Delivered {
            adaptive.answered(began, now, self.permits.free() == 0);
        }
        if adaptive.current() != self.permits.limit() {
            self.permits.resize(adaptive.current());
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass<'_> {
    /// When the attempt began.
    #[must_use]
    pub fn began(&self) -> Instant {
        self.began
    }

    /// Reports how the attempt ended and what that means, at `now`. Returns how long the breaker opens if this
    /// opens it.
    pub fn report(mut self, end: &End, outcome: Outcome, now: Instant) -> Option<Duration> {
        let took = now.saturating_duration_since(self.began);
        self.lane.note_duration(took);
        self.lane.adapt(self.began, end, outcome, now);
        let hold = end.retry_after();
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
            self.lane.moved.notify_waiters();
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
            self.lane.moved.notify_waiters();
        }
    }
}

async fn turn(limiter: &Limiter) {
    while let Err(not_yet) = limiter.check() {
        sleep(not_yet.wait_time_from(DefaultClock::default().now())).await;
    }
}

fn limiter(rate: Rate) -> Limiter {
    RateLimiter::direct(quota(rate))
}

fn quota(rate: Rate) -> Quota {
    let spacing = (rate.per / rate.requests.get()).max(Duration::from_nanos(1));
    let burst = RATE_BURST.as_nanos() / spacing.as_nanos();
    let burst =
        u32::try_from(burst).ok().and_then(std::num::NonZeroU32::new).unwrap_or(std::num::NonZeroU32::MIN);
    Quota::with_period(spacing).unwrap_or(Quota::per_second(rate.requests)).allow_burst(burst)
}
