//! How replicas and their targets are shown on a terminal. Pure: what is known goes in, text comes out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets::NOTHING};

use crate::{
    breaker::BreakerState,
    cli::paint::harmless,
    connector::TestReport,
    status::{OrderState, Snapshot, TargetSnapshot},
};

/// The most characters of an error in a table; JSON has all of it.
const ERROR_CHARS_MAX: usize = 60;

/// All that `replicas`, of which there is at least one, say.
pub(super) fn text(replicas: &[Snapshot]) -> String {
    let mut text = String::new();
    for replica in replicas {
        let Snapshot { replica, version, config, missing, .. } = replica;
        let ready = if missing.is_empty() {
            "ready".to_owned()
        } else {
            format!("not ready: {}", missing.join(", "))
        };
        let _ = writeln!(text, "{replica}  natshook {version}  config {}  {ready}", config.hash);
        if let Some(refused) = &config.refused {
            let at = humantime::format_rfc3339_seconds(refused.at);
            let _ = writeln!(text, "  a changed config was refused at {at}: {}", refused.errors.join("; "));
        }
    }
    let hashes: BTreeSet<&str> = replicas.iter().map(|replica| replica.config.hash.as_str()).collect();
    if hashes.len() > 1 {
        text.push_str("the replicas have different configs\n");
    }
    let _ = writeln!(text, "\n{}", table(replicas).trim_fmt());
    text
}

fn table(replicas: &[Snapshot]) -> Table {
    let mut targets: BTreeMap<&str, Vec<&TargetSnapshot>> = BTreeMap::new();
    for target in replicas.iter().flat_map(|replica| &replica.targets) {
        targets.entry(&target.name).or_default().push(target);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "TARGET",
        "STATE",
        "BREAKER",
        "IN FLIGHT",
        "PENDING",
        "OLDEST",
        "RETRIES",
        "DEAD",
        "RATE",
        "SUCCESS",
        "LAST ERROR",
    ]);
    for (name, shares) in targets {
        table.add_row(row(name, &shares));
    }
    if let Some(column) = table.column_mut(0) {
        column.set_padding((0, 1));
    }
    table
}

/// A target over all replicas that have it: each has its own lane, what waits is the same for all.
fn row(name: &str, shares: &[&TargetSnapshot]) -> [String; 11] {
    let sum = |of: fn(&TargetSnapshot) -> u64| shares.iter().map(|share| of(share)).sum::<u64>();
    let most = |of: fn(&TargetSnapshot) -> Option<u64>| shares.iter().filter_map(|share| of(share)).max();
    let count = |value: Option<u64>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
    let (delivered, failed) = (sum(|share| share.delivered), sum(|share| share.failed));
    let rate: f64 = shares.iter().map(|share| share.rate_per_second).sum();
    let last_error = shares.iter().filter_map(|share| share.last_error.as_ref()).max_by_key(|error| error.at);
    [
        name.to_owned(),
        state(shares),
        breaker(shares),
        format!("{}/{}", sum(|share| share.in_flight), sum(|share| share.limit)),
        count(most(|share| share.pending)),
        most(|share| share.oldest_age_seconds).map_or_else(|| "-".to_owned(), span),
        count(most(|share| share.retry_waiting)),
        count(most(|share| share.dead_letters)),
        format!("{rate:.1}/s"),
        match delivered + failed {
            0 => "-".to_owned(),
            attempts => format!("{:.1} %", 100.0 * delivered as f64 / attempts as f64),
        },
        last_error.map_or_else(|| "-".to_owned(), |error| shortened(&harmless(&error.error))),
    ]
}

fn state(shares: &[&TargetSnapshot]) -> String {
    match shares.iter().filter(|share| share.paused).count() {
        0 if shares.iter().all(|share| share.order == Some(OrderState::Standby)) => "standby".to_owned(),
        0 => "running".to_owned(),
        paused if paused == shares.len() => "paused".to_owned(),
        paused => format!("paused on {paused} of {}", shares.len()),
    }
}

fn breaker(shares: &[&TargetSnapshot]) -> String {
    let open: Vec<&&TargetSnapshot> =
        shares.iter().filter(|share| share.breaker == BreakerState::Open).collect();
    let wait = open.iter().filter_map(|share| share.closed_for_seconds).max();
    let held = shares.iter().filter_map(|share| share.closed_for_seconds).max();
    match (open.len(), wait) {
        (0, _) if shares.iter().any(|share| share.breaker == BreakerState::Probing) => "probing".to_owned(),
        // Closed, and the receiver asked for a pause by Retry-After.
        (0, _) => held.map_or_else(|| "closed".to_owned(), |held| format!("held {}", span(held))),
        (1, wait) if shares.len() == 1 => format!("open {}", span(wait.unwrap_or_default())),
        (open, _) => format!("open on {open} of {}", shares.len()),
    }
}

fn span(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(ERROR_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// What came of a test request.
pub(super) fn report(target: &str, report: &TestReport) -> String {
    let took = Duration::from_millis(report.took_millis);
    let mut text = format!("{target}: {} after {}\n", report.end, humantime::format_duration(took));
    for line in report.excerpt.lines() {
        let _ = writeln!(text, "  {}", harmless(line));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(paused: bool, breaker: BreakerState, closed_for_seconds: Option<u64>) -> TargetSnapshot {
        TargetSnapshot {
            name: "policy".into(),
            subjects: vec![],
            url: String::new(),
            paused,
            order: None,
            breaker,
            closed_for_seconds,
            in_flight: 3,
            limit: 64,
            pending: Some(7),
            oldest_age_seconds: Some(90),
            source_max_age_seconds: None,
            retry_waiting: None,
            dead_letters: Some(1),
            rate_per_second: 1.25,
            delivered: 3,
            failed: 1,
            last_error: None,
        }
    }

    #[test]
    fn lanes_are_summed_and_what_waits_is_not() {
        let (one, other) =
            (share(true, BreakerState::Closed, None), share(false, BreakerState::Closed, None));
        let row = row("policy", &[&one, &other]);
        let expected = [
            "policy",
            "paused on 1 of 2",
            "closed",
            "6/128",
            "7",
            "1m 30s",
            "?",
            "1",
            "2.5/s",
            "75.0 %",
            "-",
        ];
        assert_eq!(row, expected);
    }

    #[test]
    fn an_ordered_target_stands_by_where_nobody_leads_it() {
        let share = |order| TargetSnapshot { order, ..share(false, BreakerState::Closed, None) };
        let (leads, stands_by) =
            (share(Some(OrderState::Leading { parked: 0 })), share(Some(OrderState::Standby)));
        assert_eq!(state(&[&leads, &stands_by]), "running");
        assert_eq!(state(&[&stands_by]), "standby");
    }

    #[test]
    fn a_breaker_says_for_how_long() {
        let open = share(false, BreakerState::Open, Some(20));
        assert_eq!(breaker(&[&open]), "open 20s");
        assert_eq!(breaker(&[&open, &share(false, BreakerState::Closed, None)]), "open on 1 of 2");
        assert_eq!(breaker(&[&share(false, BreakerState::Closed, Some(5))]), "held 5s");
        assert_eq!(breaker(&[&share(false, BreakerState::Probing, None)]), "probing");
    }
}
