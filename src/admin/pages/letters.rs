//! The list of dead letters.

use maud::{Markup, html};

use super::{
    Filter,
    frame::{Place, page, path_token},
    replay::replay_state,
    text, words,
};
use crate::{
    admin::{access::Asker, replays::Run},
    dead_letter::Page,
    disposition::Reason,
    envelope::DeadLetter,
};

/// The spans that the form offers.
const SPANS: [(&str, &str); 5] = [
    ("", "any time"),
    ("1h", "the last hour"),
    ("6h", "the last 6 hours"),
    ("1d", "the last day"),
    ("7d", "the last 7 days"),
];

const COLUMNS: [&str; 9] =
    ["Id", "Stored", "Target", "Reason", "Attempts", "Last error", "Subject", "Body", "Replay"];

/// What the list shows.
#[derive(Debug)]
pub(in crate::admin) struct Listing {
    /// Which letters were asked for.
    pub(in crate::admin) filter: Filter,
    /// The connections that can be asked for; none where there is only one.
    pub(in crate::admin) connections: Vec<String>,
    /// The targets that can be asked for.
    pub(in crate::admin) targets: Vec<String>,
    /// The letters, or why there are none.
    pub(in crate::admin) page: Result<Page, String>,
}

/// The list.
pub(in crate::admin) fn letters(asker: Asker, listing: &Listing, run: &Run) -> Markup {
    let content = html! {
        div.title { h1 { "Dead letters" } p.sub { "Messages that natshook gave up on, the oldest first." } }
        (replay_state(run))
        (filter_form(listing))
        @match &listing.page {
            Err(sentence) => { p.notice { (text::line(sentence, 500)) } }
            Ok(page) if page.letters.is_empty() => { p.empty { "There are none" (listing.filter.words()) "." } }
            Ok(page) => { (list(page, &listing.filter)) }
        }
    };
    page(asker, "Dead letters", Place::DeadLetters, Some("view=dead-letters"), content)
}

fn filter_form(listing: &Listing) -> Markup {
    let Filter { connection, target, reason, since } = &listing.filter;
    let option = |value: &str, words: &str, chosen: &str| {
        html! { option value=(value) selected[value == chosen] { (text::line(words, 64)) } }
    };
    html! {
        form.filter method="get" action="/dead-letters" {
            @if !listing.connections.is_empty() {
                div {
                    label for="connection" { "Connection" }
                    select #connection name="connection" {
                        @for name in &listing.connections { (option(name, name, connection)) }
                    }
                }
            }
            div {
                label for="target" { "Target" }
                select #target name="target" {
                    (option("", "all", target))
                    @for name in &listing.targets { (option(name, name, target)) }
                }
            }
            div {
                label for="reason" { "Reason" }
                select #reason name="reason" {
                    (option("", "any", reason))
                    @for known in Reason::ALL { (option(known.as_str(), known.as_str(), reason)) }
                }
            }
            div {
                label for="since" { "Stored since" }
                select #since name="since" {
                    @for (value, words) in SPANS { (option(value, words, since)) }
                    @if SPANS.iter().all(|(value, _)| value != since) { (option(since, since, since)) }
                }
            }
            button type="submit" { "Show" }
        }
    }
}

fn list(page: &Page, filter: &Filter) -> Markup {
    let query = filter.query();
    html! {
        form method="get" action="/dead-letters/replay" {
            (filter.hidden_fields())
            button type="submit" { "Replay all of these…" }
        }
        table.letters role="table" {
            thead role="rowgroup" {
                tr role="row" {
                    @for name in COLUMNS { th role="columnheader" scope="col" { (name) } }
                }
            }
            tbody role="rowgroup" { @for letter in &page.letters { (row(letter, &filter.connection)) } }
        }
        @if let Some(next) = page.next {
            p.pages { a.button href=(format!("/dead-letters?{query}&after={next}")) rel="next" { "Next page" } }
        }
    }
}

fn row(letter: &DeadLetter, connection: &str) -> Markup {
    let cell = |name: &str, content: Markup| html! { td role="cell" data-label=(name) { (content) } };
    html! {
        tr role="row" {
            th role="rowheader" scope="row" data-label="Id" {
                a href=(place(letter, "", connection)) { (letter.id) }
            }
            (cell("Stored", words::moment(letter.stored)))
            (cell("Target", text::line(&letter.target, 64)))
            (cell("Reason", reason(letter)))
            (cell("Attempts", html! { (letter.attempts) }))
            (cell("Last error", text::line(&letter.last_error, 100)))
            (cell("Subject", html! { code { (text::line(&letter.subject, 80)) } }))
            (cell("Body", html! { (words::bytes(letter.payload.len())) }))
            (cell("Replay", html! {
                form method="post" action=(place(letter, "/replay", connection)) {
                    button type="submit" aria-label=(format!("Replay dead letter {}", letter.id)) { "Replay" }
                }
            }))
        }
    }
}

/// The path of a letter, or of `what` about it.
pub(super) fn place(letter: &DeadLetter, what: &str, connection: &str) -> String {
    let query =
        if connection.is_empty() { String::new() } else { format!("?connection={}", path_token(connection)) };
    format!("/dead-letters/{}{what}{query}", letter.id)
}

pub(super) fn reason(letter: &DeadLetter) -> Markup {
    let word = if letter.reason.is_empty() { words::UNKNOWN } else { &letter.reason };
    html! { span.badge.wait { (text::line(word, 40)) } }
}
