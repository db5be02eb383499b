//! The list of all families of metrics: what each is called and means, and who writes its rows. docs/metrics.md tells
//! the same to people; a test holds the two together.

use std::{fmt, sync::PoisonError, sync::atomic::Ordering, time::SystemTime};

use super::{State, TargetMetrics, exposition::Rows, lock, process, target::DEAD_LETTER};
use crate::{disposition::Reason, registry};

/// How the values of a family behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// They only grow, and begin again at zero with the process.
    Counter,
    /// They go up and down.
    Gauge,
    /// Counts of observed values in buckets.
    Histogram,
}

/// A family of metrics: one name, one meaning, rows that differ in their labels.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name in queries. A histogram's has `_bucket`, `_sum` and `_count` beyond it.
    pub name: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence without a full stop.
    pub help: &'static str,
    pub(super) writer: Writer,
}

/// Who writes the rows of a family.
#[derive(Clone, Copy, Debug)]
pub(super) enum Writer {
    Target(fn(&TargetMetrics, &mut Rows<'_>) -> fmt::Result),
    Process(fn(&State, &mut Rows<'_>) -> fmt::Result),
}

const TARGET: &[&str] = &["target"];

use Kind::{Counter, Gauge, Histogram};
use Writer::{Process, Target};

const fn family(
    name: &'static str,
    kind: Kind,
    labels: &'static [&'static str],
    help: &'static str,
    writer: Writer,
) -> Family {
    Family { name, kind, labels, help, writer }
}

/// Every family, in the order in which they are shown.
#[rustfmt::skip] // A table; each row on lines of its own would be five times as long.
pub static FAMILIES: [Family; 31] = [
    family("natshook_attempts_total", Counter, &["target", "outcome", "end"],
        "HTTP attempts by outcome and by how they ended", Target(TargetMetrics::attempt_rows)),
    family("natshook_attempt_duration_seconds", Histogram, TARGET,
        "Duration of HTTP attempts", Target(TargetMetrics::duration_rows)),
    family("natshook_end_to_end_latency_seconds", Histogram, TARGET,
        "Time from when the stream stored a message to its 2xx", Target(TargetMetrics::latency_rows)),
    family("natshook_batch_messages", Histogram, TARGET,
        "Messages in each request of a target that takes batches", Target(TargetMetrics::batch_rows)),
    family("natshook_deliveries_in_flight", Gauge, TARGET,
        "Deliveries being worked on", Target(TargetMetrics::in_flight_rows)),
    family("natshook_lane_limit", Gauge, TARGET,
        "Requests that may be in flight; moves where concurrency is adaptive", Target(TargetMetrics::lane_limit_rows)),
    family("natshook_breaker_state", Gauge, &["target", "state"],
        "1 for the state that the breaker is in, 0 for the others", Target(TargetMetrics::breaker_rows)),
    family("natshook_target_paused", Gauge, TARGET,
        "1 while an operator has paused the target", Target(TargetMetrics::paused_rows)),
    family("natshook_order_leader", Gauge, TARGET,
        "1 while this process leads the ordered target, 0 while it stands by", Target(TargetMetrics::leader_rows)),
    family("natshook_parked_deliveries", Gauge, TARGET,
        "Deliveries that wait in the retry queue for their turn, as the leader knows", Target(TargetMetrics::parked_rows)),
    family("natshook_pending_messages", Gauge, TARGET,
        "Messages in the source streams that are not delivered yet", Target(TargetMetrics::pending_rows)),
    family("natshook_oldest_undelivered_age_seconds", Gauge, TARGET,
        "Age of the oldest message that is not delivered yet, 0 when there is none", Target(TargetMetrics::oldest_rows)),
    family("natshook_source_max_age_seconds", Gauge, TARGET,
        "How long the source streams keep a message, if not for ever", Target(TargetMetrics::max_age_rows)),
    family("natshook_source_messages_lost_total", Counter, TARGET,
        "Messages that the source stream dropped before they could be delivered, at most", Target(TargetMetrics::lost_rows)),
    family("natshook_skipped_messages_total", Counter, &["target", "reason"],
        "Messages that the target's filter kept from it, or that it could not judge and leaves out", Target(TargetMetrics::skipped_rows)),
    family("natshook_retry_queue_messages", Gauge, TARGET,
        "Deliveries that wait in the retry queue", Target(TargetMetrics::retry_rows)),
    family("natshook_dead_letter_messages", Gauge, TARGET,
        "Dead letters that are stored", Target(TargetMetrics::stored_rows)),
    family("natshook_dead_letters_total", Counter, &["target", "reason"],
        "Dead letters stored, by reason; without a target where the config has none for it", Process(dead_letters)),
    family("natshook_store_failures_total", Counter, &["target", "to"],
        "Publishes to the retry queue or the dead-letter stream, and of answers, that were refused", Process(store_failures)),
    family("natshook_broker_connected", Gauge, &["connection"],
        "1 while the connection to the broker stands", Process(broker_connected)),
    family("natshook_broker_reconnects_total", Counter, &["connection"],
        "How often the connection to the broker was made again", Process(broker_reconnects)),
    family("natshook_config_info", Gauge, &["hash"],
        "Always 1; the label tells the config in use", Process(config_info)),
    family("natshook_config_last_reload_timestamp_seconds", Gauge, &[],
        "Since when the config is in use, in seconds since 1970", Process(config_since)),
    family("natshook_config_last_reload_successful", Gauge, &[],
        "0 when the last changed config was refused and an older one is in use", Process(config_successful)),
    family("natshook_config_reloads_total", Counter, &["result"],
        "Changed configs, applied or refused", Process(config_reloads)),
    family("natshook_registered_targets", Gauge, &["state"],
        "Targets that have registered, by what becomes of them", Process(registered_targets)),
    family("natshook_registry_requests_total", Counter, &["request", "result"],
        "Requests to the registry by how they ended", Process(registry_requests)),
    family("natshook_build_info", Gauge, &["version", "os", "arch"],
        "Always 1; the labels tell the build", Process(build_info)),
    family("process_start_time_seconds", Gauge, &[],
        "When the process started, in seconds since 1970", Process(process_started)),
    family("process_cpu_seconds_total", Counter, &[],
        "CPU time used by the process, on Linux", Process(process_cpu)),
    family("process_resident_memory_bytes", Gauge, &[],
        "Memory of the process that is resident, on Linux", Process(process_memory)),
];

impl Family {
    pub(super) fn rows(&self, state: &State, rows: &mut Rows<'_>) -> fmt::Result {
        match self.writer {
            Target(write) => each(state, |target| write(target, rows)),
            Process(write) => write(state, rows),
        }
    }
}

fn each(state: &State, write: impl FnMut(&TargetMetrics) -> fmt::Result) -> fmt::Result {
    state.targets.read().unwrap_or_else(PoisonError::into_inner).values().try_for_each(write)
}

/// The label of what belongs to no target of the config; Prometheus takes an empty label for none.
const NO_TARGET: &str = "";

fn dead_letters(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    each(state, |target| target.dead_letter_rows(rows))?;
    for reason in Reason::ALL {
        if let Some(count) = state.strays.of(reason) {
            rows.row(&[NO_TARGET, reason.as_str()], count.load(Ordering::Relaxed))?;
        }
    }
    Ok(())
}

fn store_failures(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    each(state, |target| target.store_failure_rows(rows))?;
    rows.row(&[NO_TARGET, DEAD_LETTER], state.strays.store_failures.load(Ordering::Relaxed))
}

fn broker_connected(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    let brokers = lock(&state.brokers).clone();
    brokers.iter().try_for_each(|(name, broker)| rows.row(&[name], u64::from(broker.connected)))
}

fn broker_reconnects(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    let brokers = lock(&state.brokers).clone();
    brokers.iter().try_for_each(|(name, broker)| rows.row(&[name], broker.reconnects))
}

fn config_info(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    lock(&state.config).in_use.as_ref().map_or(Ok(()), |(hash, _)| rows.row(&[hash], 1_u64))
}

fn config_since(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    lock(&state.config).in_use.as_ref().map_or(Ok(()), |(_, since)| rows.row(&[], unix_seconds(*since)))
}

fn config_successful(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    rows.row(&[], u64::from(!lock(&state.config).last_refused))
}

fn config_reloads(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    let (applied, refused) = {
        let config = lock(&state.config);
        (config.applied, config.refused)
    };
    rows.row(&["applied"], applied)?;
    rows.row(&["refused"], refused)
}

fn registered_targets(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    let Some(targets) = lock(&state.registry).targets else { return Ok(()) };
    registry::State::ALL.iter().zip(targets).try_for_each(|(state, count)| rows.row(&[state.as_str()], count))
}

fn registry_requests(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    let registry = lock(&state.registry).clone();
    if registry.targets.is_none() {
        return Ok(());
    }
    for (request, _) in registry::VERBS {
        for result in ["done", "refused", "failed"] {
            let count = registry.asked.get(&(request, result)).copied().unwrap_or(0);
            rows.row(&[request, result], count)?;
        }
    }
    Ok(())
}

fn build_info(_: &State, rows: &mut Rows<'_>) -> fmt::Result {
    rows.row(&[env!("CARGO_PKG_VERSION"), std::env::consts::OS, std::env::consts::ARCH], 1_u64)
}

fn process_started(state: &State, rows: &mut Rows<'_>) -> fmt::Result {
    rows.row(&[], unix_seconds(state.started))
}

fn process_cpu(_: &State, rows: &mut Rows<'_>) -> fmt::Result {
    process::cpu_seconds().map_or(Ok(()), |seconds| rows.row(&[], seconds))
}

fn process_memory(_: &State, rows: &mut Rows<'_>) -> fmt::Result {
    process::resident_bytes().map_or(Ok(()), |bytes| rows.row(&[], bytes))
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let mut names: Vec<&str> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len(), "no name twice");
        for Family { name, kind, help, .. } in &FAMILIES {
            assert!(name.starts_with("natshook_") || name.starts_with("process_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Counter, "{name}");
            // What a format would have to escape.
            assert!(!help.contains(['\\', '\n', '"']) && !help.ends_with('.'), "{help}");
        }
    }
}
