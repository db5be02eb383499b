//! The page of one target: how it stands, what failed lately, and what can be done.

use maud::{Markup, html};

use super::{
    Fragment,
    frame::{Place, page},
    overview::state,
    sparkline::{Measure, sparkline},
    text, words,
};
use crate::{
    admin::access::Asker,
    connector::TestReport,
    status::{Failure, TargetDetail, TargetSnapshot},
};

/// The whole page, with what came of a test if one was just made.
pub(in crate::admin) fn target(asker: Asker, target: &TargetDetail, report: Option<&TestReport>) -> Markup {
    let now = &target.snapshot;
    let content = html! {
        p.crumb { a href="/" { "Targets" } }
        div.title {
            h1 { (now.name) }
            p.sub { (text::line(&now.url, 300)) }
            p.sub {
                "receives "
                @for (at, subject) in now.subjects.iter().enumerate() {
                    @if at > 0 { ", " } code { (text::line(subject, 200)) }
                }
            }
        }
        @if let Some(report) = report { (test_report(report)) }
        (steering(now))
        (facts(now))
        (charts(target))
        h2 { "Recent failures" }
        (failures(&target.failures))
    };
    let live = format!("view=target&name={}", now.name);
    page(asker, &now.name, Place::Targets, Some(&live), content)
}

/// The parts that change.
pub(in crate::admin) fn fragments(target: &TargetDetail) -> Vec<Fragment> {
    vec![
        Fragment::new("steering", steering(&target.snapshot)),
        Fragment::new("facts", facts(&target.snapshot)),
        Fragment::new("charts", charts(target)),
        Fragment::new("failures", failures(&target.failures)),
    ]
}

/// The state, and what can be done about it.
fn steering(now: &TargetSnapshot) -> Markup {
    let path = |action: &str| format!("/targets/{}/{action}", now.name);
    let (action, word) = if now.paused { ("resume", "Resume") } else { ("pause", "Pause") };
    html! {
        div.steering #steering {
            (state(now))
            form method="post" action=(path(action)) { button type="submit" { (word) } }
            form method="post" action=(path("test")) { button type="submit" { "Send a test request" } }
            a.button href=(format!("/dead-letters?target={}", now.name)) {
                "Dead letters (" (words::known(now.dead_letters)) ")"
            }
            @if now.paused {
                p.sub { "Paused for all replicas: its messages wait, and none is lost." }
            }
        }
    }
}

fn facts(now: &TargetSnapshot) -> Markup {
    let fact = |name: &str, value: String, more: Markup| {
        html! { div { dt { (name) } dd.number { (value) } dd.more { (more) } } }
    };
    html! {
        dl.facts #facts {
            (fact("In flight", words::count(now.in_flight), html! { "of " (words::count(now.limit)) " at most" }))
            (fact("Success", words::share(now.success_ratio()), html! {
                (words::count(now.delivered)) " delivered, " (words::count(now.failed)) " failed in five minutes"
            }))
            (fact("Pending", words::known(now.pending), html! {
                @if let Some(age) = now.oldest_age_seconds {
                    "the oldest for " (words::span(age))
                    @if let Some(most) = now.source_max_age_seconds { "; its stream keeps it for " (words::span(most)) }
                }
            }))
            (fact("Retries", words::known(now.retry_waiting), html! { "wait for their next attempt" }))
            (fact("Dead letters", words::known(now.dead_letters), html! { "were given up" }))
        }
    }
}

fn charts(target: &TargetDetail) -> Markup {
    html! {
        div.charts #charts {
            @for measure in Measure::ALL {
                @let (latest, most) = measure.latest_and_most(&target.history);
                figure {
                    figcaption {
                        (measure.name()) b { (measure.words(latest)) } span.sub { "at most " (measure.words(most)) }
                    }
                    (sparkline(measure, &target.history))
                    p.axis aria-hidden="true" { span { "5 min ago" } span { "now" } }
                }
            }
        }
    }
}

fn failures(failures: &[Failure]) -> Markup {
    html! {
        div #failures {
            @if failures.is_empty() {
                p.empty { "None since natshook started." }
            } @else {
                ol.failures { @for failure in failures { li { (self::failure(failure)) } } }
            }
        }
    }
}

fn failure(failure: &Failure) -> Markup {
    html! {
        p.what {
            @if let Some(status) = failure.status { span.badge.bad { (status) } }
            strong { (text::line(&failure.error, 300)) }
        }
        dl.inline {
            dt { "When" } dd { (words::moment(failure.at)) }
            dt { "Subject" } dd { code { (text::line(&failure.subject, 200)) } }
            dt { "Attempt" } dd { (failure.attempt) }
            dt { "Message" } dd {
                @match &failure.place {
                    Some((stream, sequence)) => { code { (text::line(stream, 100)) ":" (sequence) } }
                    None => { "of core NATS" }
                }
            }
            dt { "Id" } dd { code { (text::line(&failure.id, 200)) } }
        }
        @if !failure.excerpt.is_empty() {
            p.sub { "It answered:" }
            pre tabindex="0" { (text::block(&failure.excerpt, 512)) }
        }
    }
}

fn test_report(report: &TestReport) -> Markup {
    let (class, word) =
        if report.delivered { ("good", "The test was delivered.") } else { ("bad", "The test failed.") };
    html! {
        div.notice.(class) role="alert" #report {
            p {
                strong { (word) } " " (text::line(&report.end, 300))
                ", after " (words::count(report.took_millis)) " ms."
            }
            @if !report.excerpt.is_empty() {
                p.sub { "It answered:" }
                pre tabindex="0" { (text::block(&report.excerpt, 1_024)) }
            }
        }
    }
}
