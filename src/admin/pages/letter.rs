//! One dead letter with all that is in it, and what became of a replay.

use maud::{Markup, html};

use super::{
    frame::{Place, page, path_token},
    letters::{place, reason},
    payload::Payload,
    text, words,
};
use crate::{admin::access::Asker, dead_letter::Replayed, envelope::DeadLetter};

/// The most headers that are shown.
const HEADERS_MAX: usize = 200;
/// The most characters of a header.
const HEADER_CHARS_MAX: usize = 4_000;

/// The page of a letter.
pub(in crate::admin) fn letter(asker: Asker, letter: &DeadLetter, connection: &str) -> Markup {
    let title = format!("Dead letter {}", letter.id);
    let of =
        if connection.is_empty() { String::new() } else { format!("connection={}&", path_token(connection)) };
    let others = format!("/dead-letters?{of}target={}", path_token(&letter.target));
    let content = html! {
        p.crumb { a href="/dead-letters" { "Dead letters" } }
        div.title {
            h1 { (title) }
            p.sub { (reason(letter)) " for " a href=(others) { (text::line(&letter.target, 64)) } }
        }
        div.steering {
            form method="post" action=(place(letter, "/replay", connection)) {
                button.primary type="submit" { "Replay" }
            }
            a.button href=(place(letter, "/body", connection)) download { "Download the body" }
        }
        (facts(letter))
        h2 { "Body" }
        (body(letter))
        h2 { "Headers" }
        (headers(letter))
        @if !letter.response.is_empty() {
            h2 { "What the receiver answered last" }
            pre tabindex="0" { (text::block(&letter.response, 2_000)) }
        }
    };
    page(asker, &title, Place::DeadLetters, None, content)
}

fn facts(letter: &DeadLetter) -> Markup {
    let at = match (&letter.stream, letter.sequence) {
        (Some(stream), Some(sequence)) => html! { code { (text::line(stream, 200)) ":" (sequence) } },
        _ => html! { (words::UNKNOWN) },
    };
    let rows = [
        ("Subject", html! { code { (text::line(&letter.subject, 500)) } }),
        (
            "webhook-id",
            html! { code { (text::line(&letter.webhook_id().unwrap_or_else(|| words::UNKNOWN.to_owned()), 300)) } },
        ),
        ("Message", at),
        ("Published", words::known_moment(letter.published)),
        ("First attempt", words::known_moment(letter.first_attempt)),
        ("Last attempt", words::known_moment(letter.last_attempt)),
        ("Stored", words::moment(letter.stored)),
        ("Attempts", html! { (letter.attempts) }),
        (
            "Last status",
            html! { (letter.last_status.map_or_else(|| words::UNKNOWN.to_owned(), |status| status.to_string())) },
        ),
        ("Last error", text::line(&letter.last_error, 1_000)),
    ];
    html! {
        dl.rows {
            @for (name, value) in rows { div { dt { (name) } dd { (value) } } }
            @if let Some(replayed) = letter.replayed {
                div { dt { "Replayed before" } dd { (words::moment(replayed)) } }
            }
        }
    }
}

fn body(letter: &DeadLetter) -> Markup {
    let size = words::bytes(letter.payload.len());
    let cut = |cut: bool| html! { @if cut { ", of which this is the beginning" } };
    html! {
        @if let Some(omitted) = &letter.omitted_body {
            p.notice { "The body was left out: " (text::line(omitted, 500)) }
        }
        @match Payload::of(&letter.payload) {
            Payload::Empty => { p.empty { "It is empty." } }
            Payload::Json(json) => {
                p.sub { "JSON, " (size) } pre #body tabindex="0" { (text::block(&json, usize::MAX)) }
            }
            Payload::Text { beginning, cut: is_cut } => {
                p.sub { "Text, " (size) (cut(is_cut)) }
                pre.wrap #body tabindex="0" { (text::block(&beginning, usize::MAX)) }
            }
            Payload::Hex { dump, cut: is_cut } => {
                p.sub { "Binary, " (size) (cut(is_cut)) } pre #body tabindex="0" { (dump) }
            }
        }
    }
}

fn headers(letter: &DeadLetter) -> Markup {
    let all = &letter.headers.0;
    let more = all.len().saturating_sub(HEADERS_MAX);
    html! {
        @if let Some(omitted) = &letter.omitted_headers {
            p.notice { "The message's headers were left out: " (text::line(omitted, 500)) }
        }
        @if all.is_empty() {
            p.empty { "The message has none." }
        } @else {
            dl.rows #headers {
                @for (name, value) in all.iter().take(HEADERS_MAX) {
                    div {
                        dt { code { (text::line(name, 200)) } }
                        dd { code { (text::line(value, HEADER_CHARS_MAX)) } }
                    }
                }
            }
            @if more > 0 { p.sub { "and " (words::count(more as u64)) " more headers" } }
        }
    }
}

/// What became of a replay.
pub(in crate::admin) fn replayed(asker: Asker, id: u64, replayed: &Replayed) -> Markup {
    let (class, sentence) = match replayed {
        Replayed::Stored => {
            ("good", "It is on the retry queue, due now, and no dead letter any more.".to_owned())
        }
        Replayed::AlreadyWaiting => {
            ("good", "An earlier replay had put it on the retry queue, where it waits.".to_owned())
        }
        Replayed::Missing => ("bad", "There is no such dead letter any more.".to_owned()),
        Replayed::Refused(why) => ("bad", format!("It cannot be replayed: {why}.")),
    };
    let title = format!("Replay of dead letter {id}");
    let content = html! {
        p.crumb { a href="/dead-letters" { "Dead letters" } }
        h1 { (title) }
        p.notice.(class) role="alert" { (text::line(&sentence, 1_000)) }
        p { a href="/dead-letters" { "Back to the dead letters" } }
    };
    page(asker, &title, Place::DeadLetters, None, content)
}
