//! What is shown of a target at a moment, and of a test of it.

use std::time::{Duration, Instant, SystemTime};

use super::control::TestReport;
use crate::{
    delivery::Courier,
    metrics::TargetGauges,
    outcome::{End, Outcome, classify},
    status::{LastError, SLOTS_MAX, TargetSnapshot},
};

pub(super) fn report(courier: &Courier, end: &End, began: Instant) -> TestReport {
    let excerpt = match end {
        End::Answered(answer) => String::from_utf8_lossy(&answer.excerpt).into_owned(),
        End::Broken(_) => String::new(),
    };
    TestReport {
        delivered: classify(end, &courier.target.outcomes) == Outcome::Delivered,
        status: end.status(),
        end: end.describe(),
        excerpt,
        took_millis: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    }
}

pub(super) fn target_snapshot(courier: &Courier) -> TargetSnapshot {
    let (target, lane, backlog) = (&courier.target, &courier.lane, courier.status.backlog());
    let now = Instant::now();
    let (rate_per_second, (delivered, failed)) = {
        let mut stats = courier.status.stats();
        (stats.rate(now), stats.totals(SLOTS_MAX, now))
    };
    let age = |time: SystemTime| SystemTime::now().duration_since(time).unwrap_or_default().as_secs();
    TargetSnapshot {
        name: target.name.to_string(),
        subjects: target.subjects.iter().map(ToString::to_string).collect(),
        url: format!("{} {}", target.method, target.url),
        paused: lane.is_paused(),
        order: courier.status.order(),
        breaker: lane.breaker_state(),
        closed_for_seconds: lane.closed_for().map(|wait| wait.as_secs()),
        in_flight: courier.metrics.in_flight(),
        limit: u64::try_from(lane.limit()).unwrap_or(u64::MAX),
        pending: backlog.pending,
        oldest_age_seconds: backlog.oldest.flatten().map(age),
        source_max_age_seconds: backlog.source_max_age.flatten().map(|age| age.as_secs()),
        retry_waiting: backlog.retry_waiting,
        dead_letters: backlog.dead_letters,
        rate_per_second,
        delivered,
        failed,
        last_error: courier
            .status
            .failures()
            .into_iter()
            .next()
            .map(|failure| LastError { at: failure.at, error: failure.error }),
    }
}

pub(super) fn gauges(courier: &Courier) -> TargetGauges {
    let (lane, backlog) = (&courier.lane, courier.status.backlog());
    let age = |oldest: Option<SystemTime>| match oldest {
        Some(published) => SystemTime::now().duration_since(published).unwrap_or_default(),
        None => Duration::ZERO,
    };
    TargetGauges {
        lane_limit: lane.limit(),
        breaker: lane.breaker_state(),
        paused: lane.is_paused(),
        order: courier.status.order(),
        pending: backlog.pending,
        oldest_undelivered_age: backlog.oldest.map(age),
        source_max_age: backlog.source_max_age.flatten(),
        retry_waiting: backlog.retry_waiting,
        dead_letters_stored: backlog.dead_letters,
    }
}
