//! What is counted, and what is shown of the moment. Every family of metrics stands in `families`; label values
//! come from enums and from the config's target names, so that their number is bounded. Nothing here asks anybody:
//! whoever knows a value brings it.

mod exposition;
mod families;
pub(crate) mod process;
mod target;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use exposition::Format;
pub use families::{FAMILIES, Family, Kind};
pub use target::TargetMetrics;

use crate::{breaker::BreakerState, disposition::Reason, registry, status::OrderState, target::TargetName};

/// How a target is at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetGauges {
    /// Requests that may be in flight.
    pub lane_limit: usize,
    /// What the breaker does with attempts.
    pub breaker: BreakerState,
    /// Whether an operator has paused it.
    pub paused: bool,
    /// What this process does for an ordered target; `None` for one that is not ordered.
    pub order: Option<OrderState>,
    /// Messages in the source streams that are not delivered yet; `None` when nobody knows.
    pub pending: Option<u64>,
    /// The age of the oldest of them, zero when there is none; `None` when nobody knows.
    pub oldest_undelivered_age: Option<Duration>,
    /// How long the source streams keep a message, the shortest of them; `None` when they keep it for ever.
    pub source_max_age: Option<Duration>,
    /// Deliveries that wait in the retry queue; `None` when nobody knows.
    pub retry_waiting: Option<u64>,
    /// Dead letters that are stored; `None` when nobody knows.
    pub dead_letters_stored: Option<u64>,
}

/// All metrics of one process. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<State>);

#[derive(Debug)]
struct State {
    started: SystemTime,
    targets: RwLock<BTreeMap<TargetName, TargetMetrics>>,
    strays: Strays,
    brokers: Mutex<BTreeMap<String, BrokerConnection>>,
    config: Mutex<ConfigHistory>,
    registry: Mutex<RegistryCounts>,
}

/// What is known of targets that register; rows only where any can.
#[derive(Clone, Debug, Default)]
struct RegistryCounts {
    /// In the order of [`registry::State::ALL`]; `None` before they are known.
    targets: Option<[u64; registry::State::ALL.len()]>,
    /// Requests by what was asked and how it ended.
    asked: BTreeMap<(&'static str, &'static str), u64>,
}

/// What was found in the retry queue and belongs to no target of the config. Target names in it are a stranger's,
/// and make no label.
#[derive(Debug, Default)]
struct Strays {
    unreadable: AtomicU64,
    unknown_target: AtomicU64,
    store_failures: AtomicU64,
}

#[derive(Clone, Copy, Debug, Default)]
struct BrokerConnection {
    connected: bool,
    reconnects: u64,
}

#[derive(Clone, Debug, Default)]
struct ConfigHistory {
    /// The hash of the config in use, and since when; `None` before the first was loaded.
    in_use: Option<(String, SystemTime)>,
    applied: u64,
    refused: u64,
    last_refused: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(State {
            started: SystemTime::now(),
            targets: RwLock::default(),
            strays: Strays::default(),
            brokers: Mutex::default(),
            config: Mutex::default(),
            registry: Mutex::default(),
        }))
    }
}

impl Metrics {
    /// The metrics of one target, looked up once. They begin at zero; a target that had some goes on with them.
    #[must_use]
    pub fn target(&self, name: &TargetName) -> TargetMetrics {
        let mut targets = self.0.targets.write().unwrap_or_else(PoisonError::into_inner);
        targets.entry(name.clone()).or_insert_with(|| TargetMetrics::new(name)).clone()
    }

    /// Shows how a target is at this moment. One that has no metrics, because it left the config, is left out.
    pub fn show(&self, target: &TargetName, gauges: &TargetGauges) {
        let targets = self.0.targets.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(target) = targets.get(target) {
            target.show(gauges);
        }
    }

    /// Removes everything that is counted and shown of a target that left the config.
    pub fn forget(&self, target: &TargetName) {
        self.0.targets.write().unwrap_or_else(PoisonError::into_inner).remove(target);
    }

    /// Counts a dead letter of the retry queue that belongs to no target of the config.
    pub fn stray_dead_lettered(&self, reason: Reason) {
        if let Some(count) = self.0.strays.of(reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counts such a dead letter that could not be stored.
    pub fn stray_store_failed(&self) {
        self.0.strays.store_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Shows whether a connection to a broker stands, and how often it was made again since the start.
    pub fn broker(&self, connection: &str, connected: bool, reconnects: u64) {
        lock(&self.0.brokers).insert(connection.to_owned(), BrokerConnection { connected, reconnects });
    }

    /// Removes what is shown of a connection that left the config.
    pub fn forget_broker(&self, connection: &str) {
        lock(&self.0.brokers).remove(connection);
    }

    /// Shows the config in use, since `at`. The first is the start's; each further one counts as a reload.
    pub fn config_loaded(&self, hash: &str, at: SystemTime) {
        let mut config = lock(&self.0.config);
        config.applied += u64::from(config.in_use.is_some());
        config.in_use = Some((hash.to_owned(), at));
        config.last_refused = false;
    }

    /// Counts a changed config that was refused; the one before it stays in use.
    pub fn config_refused(&self) {
        let mut config = lock(&self.0.config);
        config.refused += 1;
        config.last_refused = true;
    }

    /// Shows that a changed config is as the one in use again: what was refused is gone.
    pub fn config_unchanged(&self) {
        lock(&self.0.config).last_refused = false;
    }

    /// Shows how many targets have registered, in the order of [`registry::State::ALL`].
    pub fn registered(&self, targets: [u64; registry::State::ALL.len()]) {
        lock(&self.0.registry).targets = Some(targets);
    }

    /// Counts a request to the registry for `verb`, and the code with which it was refused, if it was.
    pub fn registry_asked(&self, verb: &'static str, refused: Option<u16>) {
        let result = match refused {
            None => "done",
            Some(500..) => "failed",
            Some(_) => "refused",
        };
        *lock(&self.0.registry).asked.entry((verb, result)).or_default() += 1;
    }

    /// All metrics as text.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn encode(&self, format: Format) -> Result<String, fmt::Error> {
        exposition::encode(&self.0, format)
    }
}

impl Strays {
    /// `None` for reasons that only deliveries to known targets have.
    fn of(&self, reason: Reason) -> Option<&AtomicU64> {
        match reason {
            Reason::Unreadable => Some(&self.unreadable),
            Reason::UnknownTarget => Some(&self.unknown_target),
            Reason::AttemptsExhausted
            | Reason::TooOld
            | Reason::PermanentStatus
            | Reason::MessageTooLarge
            | Reason::CrashLoop
            | Reason::ShutDown
            | Reason::FilterError
            | Reason::TransformError
            | Reason::NotJson => None,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
