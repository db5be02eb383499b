//! What is counted is shown, under the right labels, and only that.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    disposition::Disposition,
    outcome::{End, Fault, Outcome, Strike},
};
use bytes::Bytes;

const GAUGES: TargetGauges = TargetGauges {
    lane_limit: 64,
    breaker: BreakerState::Open,
    paused: true,
    order: Some(OrderState::Leading { parked: 4 }),
    pending: Some(7),
    oldest_undelivered_age: Some(Duration::from_millis(1_500)),
    source_max_age: None,
    retry_waiting: Some(3),
    dead_letters_stored: None,
};

fn name(text: &str) -> TargetName {
    TargetName::new(text).unwrap()
}

fn lines(metrics: &Metrics) -> Vec<String> {
    metrics.encode(Format::Prometheus).unwrap().lines().map(str::to_owned).collect()
}

fn assert_has(metrics: &Metrics, line: &str) {
    assert!(lines(metrics).iter().any(|l| l == line), "{line} in {:#?}", lines(metrics));
}

#[test]
fn both_formats_tell_the_same_rows() {
    let metrics = Metrics::default();
    let target = metrics.target(&name("policy"));
    let end = End::Answered(crate::outcome::Answer {
        status: 204,
        retry_after: None,
        excerpt: Bytes::new(),
        kept: None,
    });
    target.attempted(&end, Outcome::Delivered, Duration::from_millis(3));
    target.delivered(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + Duration::from_secs(3));
    metrics.show(&name("policy"), &GAUGES);
    // CPU time may move between the two.
    let rows = |format| -> Vec<String> {
        let text = metrics.encode(format).unwrap();
        let stays = |line: &&str| !line.starts_with('#') && !line.starts_with("process_");
        text.lines().filter(stays).map(str::to_owned).collect()
    };
    assert_eq!(rows(Format::Prometheus), rows(Format::OpenMetrics));
    assert!(rows(Format::Prometheus).len() > 60);
    let open = metrics.encode(Format::OpenMetrics).unwrap();
    assert!(open.contains("\n# TYPE natshook_attempts counter\n") && open.ends_with("\n# EOF\n"), "{open}");
    assert_has(&metrics, "# TYPE natshook_attempts_total counter");
    assert!(!lines(&metrics).iter().any(|line| line.starts_with("# EOF")));
}

#[test]
fn an_attempt_is_counted_under_its_outcome_and_its_end_and_in_the_bucket_of_its_duration() {
    let metrics = Metrics::default();
    let target = metrics.target(&name("policy"));
    let refused = End::Broken(Fault::ConnectionRefused(String::new()));
    target.attempted(&refused, Outcome::Transient(Strike::Failure), Duration::from_millis(3));
    let tls = End::Broken(Fault::Tls(String::new()));
    target.attempted(&tls, Outcome::Transient(Strike::TargetFault), Duration::from_secs(600));

    let rows = |outcome, end, n| {
        format!("natshook_attempts_total{{target=\"policy\",outcome=\"{outcome}\",end=\"{end}\"}} {n}")
    };
    assert_has(&metrics, &rows("transient", "connection_refused", 1));
    assert_has(&metrics, &rows("target_fault", "tls", 1));
    assert_has(&metrics, &rows("delivered", "2xx", 0));
    for (le, n) in [("0.001953125", 0), ("0.00390625", 1), ("512.0", 1), ("+Inf", 2)] {
        let bucket = format!("natshook_attempt_duration_seconds_bucket{{le=\"{le}\",target=\"policy\"}} {n}");
        assert_has(&metrics, &bucket);
    }
}

#[test]
fn the_latency_of_a_message_from_the_future_is_zero() {
    let metrics = Metrics::default();
    let now = SystemTime::UNIX_EPOCH;
    metrics.target(&name("policy")).delivered(now + Duration::from_secs(5), now);
    assert_has(&metrics, "natshook_end_to_end_latency_seconds_sum{target=\"policy\"} 0.0");
}

#[test]
fn what_is_not_known_is_left_out() {
    let metrics = Metrics::default();
    let _ = metrics.target(&name("policy"));
    assert!(!lines(&metrics).iter().any(|line| line.starts_with("natshook_pending_messages{")));

    metrics.show(&name("policy"), &GAUGES);

    for row in [
        "natshook_lane_limit{target=\"policy\"} 64",
        "natshook_breaker_state{target=\"policy\",state=\"closed\"} 0",
        "natshook_breaker_state{target=\"policy\",state=\"open\"} 1",
        "natshook_breaker_state{target=\"policy\",state=\"probing\"} 0",
        "natshook_target_paused{target=\"policy\"} 1",
        "natshook_pending_messages{target=\"policy\"} 7",
        "natshook_oldest_undelivered_age_seconds{target=\"policy\"} 1.5",
        "natshook_retry_queue_messages{target=\"policy\"} 3",
    ] {
        assert_has(&metrics, row);
    }
    for family in ["natshook_source_max_age_seconds{", "natshook_dead_letter_messages{"] {
        assert!(!lines(&metrics).iter().any(|line| line.starts_with(family)), "{family}");
    }
}

#[test]
fn nothing_is_left_of_a_target_that_left() {
    let metrics = Metrics::default();
    let target = metrics.target(&name("policy"));
    target.began();
    target.delivered(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH);
    metrics.show(&name("policy"), &GAUGES);
    assert!(lines(&metrics).iter().any(|line| line.contains("policy")));

    metrics.forget(&name("policy"));
    // Its last deliveries may still end, and somebody may still show it.
    target.ended();
    metrics.show(&name("policy"), &GAUGES);

    assert!(!lines(&metrics).iter().any(|line| line.contains("policy")));
}

#[test]
fn failures_to_store_tell_where() {
    let metrics = Metrics::default();
    let target = metrics.target(&name("policy"));
    target.store_failed(Disposition::Retry { at: SystemTime::UNIX_EPOCH });
    target.store_failed(Disposition::DeadLetter(Reason::TooOld));
    target.store_failed(Disposition::DeadLetter(Reason::TooOld));
    metrics.stray_store_failed();
    for (target, to, n) in
        [("policy", "retry_queue", 1), ("policy", "dead_letter", 2), ("", "dead_letter", 1)]
    {
        let row = format!("natshook_store_failures_total{{target=\"{target}\",to=\"{to}\"}} {n}");
        assert_has(&metrics, &row);
    }
}

#[test]
fn a_strangers_dead_letter_is_counted_without_a_target() {
    let metrics = Metrics::default();
    metrics.stray_dead_lettered(Reason::Unreadable);
    assert_has(&metrics, "natshook_dead_letters_total{target=\"\",reason=\"unreadable\"} 1");
    assert_has(&metrics, "natshook_dead_letters_total{target=\"\",reason=\"unknown_target\"} 0");
}

#[test]
fn the_config_in_use_is_told_and_reloads_are_counted_from_the_second_on() {
    let metrics = Metrics::default();
    metrics.config_loaded("aa", SystemTime::UNIX_EPOCH);
    assert_has(&metrics, "natshook_config_reloads_total{result=\"applied\"} 0");
    metrics.config_refused();
    assert_has(&metrics, "natshook_config_last_reload_successful 0");
    assert_has(&metrics, "natshook_config_info{hash=\"aa\"} 1");
    assert_has(&metrics, "natshook_config_reloads_total{result=\"refused\"} 1");

    metrics.config_loaded("bb", SystemTime::UNIX_EPOCH + Duration::from_secs(9));

    assert_has(&metrics, "natshook_config_last_reload_successful 1");
    assert_has(&metrics, "natshook_config_info{hash=\"bb\"} 1");
    assert_has(&metrics, "natshook_config_last_reload_timestamp_seconds 9.0");
    assert_has(&metrics, "natshook_config_reloads_total{result=\"applied\"} 1");
    assert!(!lines(&metrics).iter().any(|line| line.contains("aa\"")));
}

#[test]
fn the_connection_to_the_broker_is_told() {
    let metrics = Metrics::default();
    metrics.broker("eu", false, 0);
    assert_has(&metrics, "natshook_broker_connected{connection=\"eu\"} 0");
    metrics.broker("eu", true, 2);
    assert_has(&metrics, "natshook_broker_connected{connection=\"eu\"} 1");
    assert_has(&metrics, "natshook_broker_reconnects_total{connection=\"eu\"} 2");
    metrics.forget_broker("eu");
    assert!(!lines(&metrics).iter().any(|line| line.contains("connection=\"eu\"")));
}

/// Labels are indices into arrays here, so each word must stand at the place of its value.
#[test]
fn every_reason_has_a_place_of_its_own() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, place);
    }
    for (place, kind) in crate::outcome::EndKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, place);
    }
}

#[test]
fn a_thousand_idle_targets_take_two_dozen_lines_each() {
    let metrics = Metrics::default();
    for i in 0..1_000 {
        let target = name(&format!("target-{i}"));
        let _ = metrics.target(&target);
        metrics.show(&target, &GAUGES);
    }
    let lines = lines(&metrics).len();
    assert!((15_000..26_500).contains(&lines), "{lines}");
}
