//! What is counted. Every metric is registered here and nowhere else; labels come from enums and from the
//! config's target names, so that their number is bounded.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    disposition::Reason,
    outcome::{End, Outcome, Strike},
    target::TargetName,
};

/// Upper bounds of the attempt duration's buckets, in seconds: from a local receiver to the longest timeout.
const DURATION_BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 300.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AttemptLabels {
    target: String,
    outcome: &'static str,
    /// How it ended: the status class, or why no answer came.
    end: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    target: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    target: String,
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    attempts: Family<AttemptLabels, Counter>,
    dead_letters: Family<ReasonLabels, Counter>,
    store_failures: Family<TargetLabels, Counter>,
    in_flight: Family<TargetLabels, Gauge>,
    lane_limits: Family<TargetLabels, Gauge>,
    source_dropped: Family<TargetLabels, Counter>,
    durations: Family<TargetLabels, Histogram>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("natshook");
        let attempts = Family::default();
        let dead_letters = Family::default();
        let store_failures = Family::default();
        let in_flight = Family::default();
        let lane_limits = Family::default();
        let source_dropped = Family::default();
        let durations =
            Family::new_with_constructor((|| Histogram::new(DURATION_BUCKETS)) as fn() -> Histogram);
        registry.register("attempts", "HTTP attempts by outcome and by how they ended", attempts.clone());
        registry.register("dead_letters", "Dead letters stored, by reason", dead_letters.clone());
        registry.register(
            "store_failures",
            "Publishes to the retry queue or the dead-letter stream that were refused",
            store_failures.clone(),
        );
        registry.register("deliveries_in_flight", "Deliveries being worked on", in_flight.clone());
        registry.register(
            "lane_limit",
            "Requests that may be in flight; moves where concurrency is adaptive",
            lane_limits.clone(),
        );
        registry.register(
            "source_messages_lost",
            "Messages that the source stream dropped before they could be delivered, at most",
            source_dropped.clone(),
        );
        registry.register("attempt_duration_seconds", "Duration of HTTP attempts", durations.clone());
        Self {
            registry,
            attempts,
            dead_letters,
            store_failures,
            in_flight,
            lane_limits,
            source_dropped,
            durations,
        }
    }
}

impl Metrics {
    /// The metrics of one target, looked up once.
    #[must_use]
    pub fn target(&self, name: &TargetName) -> TargetMetrics {
        let target = name.to_string();
        let labels = TargetLabels { target: target.clone() };
        TargetMetrics {
            name: name.clone(),
            attempts: self.attempts.clone(),
            delivered: self.attempts.get_or_create_owned(&attempt_labels(
                name,
                Outcome::Delivered,
                DELIVERED,
            )),
            dead_letters: Reason::ALL.map(|reason| {
                let labels = ReasonLabels { target: target.clone(), reason: reason.as_str() };
                (reason, self.dead_letters.get_or_create_owned(&labels))
            }),
            store_failures: self.store_failures.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            source_dropped: self.source_dropped.get_or_create_owned(&labels),
            lane_limit: self.lane_limits.get_or_create_owned(&labels),
            duration: self.durations.get_or_create_owned(&labels),
        }
    }

    /// All metrics as OpenMetrics text.
    ///
    /// # Errors
    /// The text cannot be written.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// The metrics of one target.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    name: TargetName,
    attempts: Family<AttemptLabels, Counter>,
    /// Looked up once: most attempts end so.
    delivered: Counter,
    dead_letters: [(Reason, Counter); Reason::ALL.len()],
    /// Publishes to natshook's own streams that were refused.
    pub store_failures: Counter,
    /// Deliveries being worked on.
    pub in_flight: Gauge,
    /// Messages that the source stream dropped before they could be delivered.
    pub source_dropped: Counter,
    lane_limit: Gauge,
    duration: Histogram,
}

impl TargetMetrics {
    /// Shows how many requests may be in flight.
    pub fn lane_limit(&self, limit: usize) {
        self.lane_limit.set(i64::try_from(limit).unwrap_or(i64::MAX));
    }

    /// Counts an attempt.
    pub fn attempted(&self, end: &End, outcome: Outcome, took: Duration) {
        match outcome {
            Outcome::Delivered => self.delivered.inc(),
            Outcome::Transient(_) | Outcome::Permanent => {
                let labels = attempt_labels(&self.name, outcome, end.word());
                self.attempts.get_or_create(&labels).inc()
            }
        };
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a dead letter that is stored.
    pub fn dead_lettered(&self, reason: Reason) {
        for (_, counter) in self.dead_letters.iter().filter(|(r, _)| *r == reason) {
            counter.inc();
        }
    }
}

/// How every delivered attempt ended.
const DELIVERED: &str = "2xx";

fn attempt_labels(target: &TargetName, outcome: Outcome, end: &'static str) -> AttemptLabels {
    let outcome = match outcome {
        Outcome::Delivered => "delivered",
        Outcome::Transient(Strike::Failure) => "transient",
        Outcome::Transient(Strike::TargetFault | Strike::Gone) => "target_fault",
        Outcome::Permanent => "permanent",
    };
    AttemptLabels { target: target.to_string(), outcome, end }
}
