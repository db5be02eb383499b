//! The first page: how the replica stands, and a line for each target.

use maud::{Markup, html};

use super::{
    Fragment,
    frame::{Place, page},
    sparkline::{Measure, sparkline},
    text, words,
};
use crate::{
    admin::access::Asker,
    breaker::BreakerState,
    status::{ConfigState, OrderState, Snapshot, TargetDetail, TargetSnapshot},
};

/// The most characters of an error in the table.
const ERROR_CHARS_MAX: usize = 120;
const SUBJECTS_SHOWN_MAX: usize = 3;

/// The whole page.
pub(in crate::admin) fn overview(asker: Asker, snapshot: &Snapshot, targets: &[TargetDetail]) -> Markup {
    let content = html! {
        div.title {
            h1 { (snapshot.instance) }
            p.sub {
                "replica " (text::line(&snapshot.replica, 100)) ", running since " (words::moment(snapshot.started))
            }
        }
        (notices(snapshot))
        (facts(snapshot))
        h2 #targets-title { "Targets" }
        (table(targets))
    };
    page(asker, &snapshot.instance, Place::Targets, Some("view=overview"), content)
}

/// The parts that change. The table as a whole comes first, with names only: it is written anew when those change.
pub(in crate::admin) fn fragments(snapshot: &Snapshot, targets: &[TargetDetail]) -> Vec<Fragment> {
    let parts = [Fragment::new("notices", notices(snapshot)), Fragment::new("facts", facts(snapshot))];
    let names: Vec<&str> = targets.iter().map(|target| target.snapshot.name.as_str()).collect();
    let rows = targets.iter().map(|target| Fragment::new(row_id(&target.snapshot.name), row(target)));
    parts.into_iter().chain([Fragment::new("targets", skeleton(&names))]).chain(rows).collect()
}

fn notices(snapshot: &Snapshot) -> Markup {
    html! {
        div #notices role="status" {
            @if !snapshot.missing.is_empty() {
                div.notice.bad {
                    p { strong { "Not ready." } " What is missing:" }
                    ul { @for missing in &snapshot.missing { li { (text::line(missing, 300)) } } }
                }
            }
            @if let Some(refusal) = &snapshot.config.refused {
                div.notice.bad {
                    p {
                        strong { "A changed config was refused" } " on " (words::moment(refusal.at))
                        "; the one before is in use."
                    }
                    ul { @for error in &refusal.errors { li { (text::line(error, 500)) } } }
                }
            }
        }
    }
}

fn facts(snapshot: &Snapshot) -> Markup {
    let ready = if snapshot.missing.is_empty() { ("good", "Ready") } else { ("bad", "Not ready") };
    let broker = if snapshot.broker_connected { ("good", "Connected") } else { ("bad", "Not connected") };
    html! {
        dl.facts #facts {
            (fact("Replica", badge(ready.0, ready.1), html! { "version " (snapshot.version) }))
            (fact("Broker", badge(broker.0, broker.1), html! {
                @if !snapshot.broker_version.is_empty() { "nats-server " (text::line(&snapshot.broker_version, 40)) }
            }))
            (fact("Config", config_badge(&snapshot.config), html! {
                code { (snapshot.config.hash) } br; "since " (words::moment(snapshot.config.loaded))
            }))
            (fact("Retry queue", html! { span.number { (words::known(snapshot.retry_waiting)) } }, html! {
                "deliveries wait for their next attempt"
            }))
            (fact("Dead letters", html! {
                a.number href="/dead-letters" { (words::known(snapshot.dead_letters)) }
            }, html! { "messages that were given up" }))
        }
    }
}

fn fact(name: &str, value: Markup, more: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } dd.more { (more) } } }
}

fn config_badge(config: &ConfigState) -> Markup {
    if config.refused.is_some() { badge("bad", "Change refused") } else { badge("good", "In use") }
}

pub(super) fn badge(class: &str, word: &str) -> Markup {
    html! { span.badge.(class) { (word) } }
}

/// The state of a target in one badge, and for how long.
pub(super) fn state(target: &TargetSnapshot) -> Markup {
    let (class, word) = match (target.paused, target.breaker, target.closed_for_seconds) {
        (true, ..) => ("wait", "Paused"),
        _ if target.order == Some(OrderState::Standby) => ("wait", "Standby"),
        (false, BreakerState::Open, _) => ("bad", "Breaker open"),
        (false, BreakerState::Probing, _) => ("wait", "Probing"),
        (false, BreakerState::Closed, Some(_)) => ("wait", "Held by Retry-After"),
        (false, BreakerState::Closed, None) => ("good", "Running"),
    };
    let wait = target.closed_for_seconds.filter(|_| !target.paused);
    html! {
        (badge(class, word))
        @if let Some(seconds) = wait { span.sub.wait { "for " (words::span(seconds)) } }
    }
}

const COLUMNS: [&str; 9] =
    ["Target", "State", "In flight", "Throughput", "Success", "p99", "Pending", "Retries", "Dead letters"];

fn table(targets: &[TargetDetail]) -> Markup {
    rows(html! { @for target in targets { (row(target)) } })
}

/// The table with empty rows: those that the page has already are kept, and new ones are filled at once by what follows.
fn skeleton(names: &[&str]) -> Markup {
    rows(html! { @for name in names { tr id=(row_id(name)) data-kept {} } })
}

/// With roles, since a table that a narrow screen shows as cards is none for a screen reader otherwise.
fn rows(rows: Markup) -> Markup {
    html! {
        table.targets #targets role="table" aria-labelledby="targets-title" {
            thead role="rowgroup" {
                tr role="row" { @for name in COLUMNS { th role="columnheader" scope="col" { (name) } } }
            }
            tbody role="rowgroup" { (rows) }
        }
    }
}

fn row_id(name: &str) -> String {
    format!("target-{name}")
}

fn row(target: &TargetDetail) -> Markup {
    let (now, history) = (&target.snapshot, &target.history);
    let href = format!("/targets/{}", now.name);
    let p99 = Measure::P99.latest_and_most(history).0;
    let dead_letters = words::known(now.dead_letters);
    let chart = |value: &str, measure| html! { b { (value) } (sparkline(measure, history)) };
    html! {
        tr role="row" id=(row_id(&now.name)) {
            th role="rowheader" scope="row" {
                a href=(href) { (now.name) }
                p.sub { (text::line(&now.url, 200)) }
                p.sub.subjects { (subjects(now)) }
                @if let Some(last) = &now.last_error {
                    p.error { (words::moment(last.at)) " " (text::line(&last.error, ERROR_CHARS_MAX)) }
                }
            }
            (cell("State", html! { (state(now)) }))
            (cell("In flight", html! { b { (words::count(now.in_flight)) } " / " (words::count(now.limit)) }))
            (cell("Throughput", chart(&words::rate(now.rate_per_second), Measure::Throughput)))
            (cell("Success", chart(&words::share(now.success_ratio()), Measure::Failures)))
            (cell("p99", chart(&words::micros(p99.into()), Measure::P99)))
            (cell("Pending", html! {
                (chart(&words::known(now.pending), Measure::Pending))
                @if let Some(age) = now.oldest_age_seconds { span.sub { "oldest " (words::span(age)) } }
            }))
            (cell("Retries", html! { b { (words::known(now.retry_waiting)) } }))
            (cell("Dead letters", html! {
                a href=(format!("/dead-letters?target={}", now.name))
                    aria-label=(format!("{dead_letters} dead letters of {}", now.name)) { b { (dead_letters) } }
            }))
        }
    }
}

fn cell(name: &str, content: Markup) -> Markup {
    html! { td role="cell" data-label=(name) { (content) } }
}

fn subjects(target: &TargetSnapshot) -> Markup {
    let more = target.subjects.len().saturating_sub(SUBJECTS_SHOWN_MAX);
    html! {
        @for (at, subject) in target.subjects.iter().take(SUBJECTS_SHOWN_MAX).enumerate() {
            @if at > 0 { ", " } (text::line(subject, 100))
        }
        @if more > 0 { " and " (more) " more" }
    }
}
