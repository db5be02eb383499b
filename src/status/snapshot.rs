//! What is shown of a replica and its targets at a moment: the status page and `natshook targets` speak of these
//! values, and replicas send them to each other's askers as JSON. Plain data.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::{Failure, Slot};
use crate::breaker::BreakerState;

/// A replica at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The instance's `name`.
    pub instance: String,
    /// Which replica: host and process.
    pub replica: String,
    /// natshook's version.
    pub version: String,
    /// When the process started.
    pub started: SystemTime,
    /// Whether the connection to the broker stands.
    pub broker_connected: bool,
    /// The broker's version; empty before the first connection.
    pub broker_version: String,
    /// What is missing for the replica to be ready.
    pub missing: Vec<String>,
    /// The config in use.
    pub config: ConfigState,
    /// Deliveries in the retry queue, of all targets; `None` when not known.
    pub retry_waiting: Option<u64>,
    /// Dead letters of all targets; `None` when not known.
    pub dead_letters: Option<u64>,
    /// The targets, in the order of their names.
    pub targets: Vec<TargetSnapshot>,
}

/// The config in use, and whether a newer one was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfigState {
    /// Its hash, without its secrets.
    pub hash: String,
    /// Since when it is in use.
    pub loaded: SystemTime,
    /// The newest refusal since then.
    pub refused: Option<Refusal>,
}

/// A changed config that was refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    pub at: SystemTime,
    /// Every error, with its key.
    pub errors: Vec<String>,
}

/// A target at a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TargetSnapshot {
    /// Its name.
    pub name: String,
    /// What it receives.
    pub subjects: Vec<String>,
    /// Its method, and its URL without query.
    pub url: String,
    /// Whether an operator paused it.
    pub paused: bool,
    /// What the replica does for an ordered target; `None` for one that is not ordered.
    #[serde(default)]
    pub order: Option<OrderState>,
    /// What its breaker does.
    pub breaker: BreakerState,
    /// How long nothing is sent yet, in seconds, because of the breaker or of the receiver's `Retry-After`.
    pub closed_for_seconds: Option<u64>,
    /// Deliveries being worked on.
    pub in_flight: u64,
    /// How many requests may be in flight.
    pub limit: u64,
    /// Messages that wait in its streams or are not acked; `None` when not known.
    pub pending: Option<u64>,
    /// The age of the oldest of them, in seconds; `None` when none waits, or when it is not known.
    pub oldest_age_seconds: Option<u64>,
    /// The shortest `max_age` of its streams, in seconds; `None` when they keep messages for ever, or when not known.
    pub source_max_age_seconds: Option<u64>,
    /// Deliveries in the retry queue; `None` when not known.
    pub retry_waiting: Option<u64>,
    /// Its dead letters; `None` when not known.
    pub dead_letters: Option<u64>,
    /// Deliveries per second over the last minute.
    pub rate_per_second: f64,
    /// Attempts of the last five minutes that ended in a 2xx.
    pub delivered: u64,
    /// Attempts of the last five minutes that did not.
    pub failed: u64,
    /// How the latest failed attempt ended.
    pub last_error: Option<LastError>,
}

/// What a replica does for an ordered target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OrderState {
    /// Another replica leads it.
    Standby,
    /// This replica leads it.
    Leading {
        /// Deliveries that wait in the retry queue for their turn.
        parked: u64,
    },
}

impl TargetSnapshot {
    /// The share of the last five minutes' attempts that ended in a 2xx, 0 to 1; `None` without attempts.
    #[must_use]
    pub fn success_ratio(&self) -> Option<f64> {
        let attempts = self.delivered + self.failed;
        (attempts > 0).then(|| self.delivered as f64 / attempts as f64)
    }
}

/// How the latest failed attempt ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LastError {
    /// When the attempt began.
    pub at: SystemTime,
    /// In words.
    pub error: String,
}

/// All that is known of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetDetail {
    /// How it stands.
    pub snapshot: TargetSnapshot,
    /// The last five minutes, the oldest slot first.
    pub history: Vec<Slot>,
    /// The latest failures, the newest first.
    pub failures: Vec<Failure>,
}
