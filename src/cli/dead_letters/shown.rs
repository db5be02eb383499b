//! How a dead letter looks: a line, a page, a JSON object. Strangers may have written any of it, so nothing of it
//! reaches the terminal that could steer it.

use std::{fmt::Write, time::SystemTime};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Map, Value, json};

use crate::{
    cli::paint::{body, harmless, steers},
    envelope::DeadLetter,
};

/// The most characters of a text in a line.
const CELL_CHARS_MAX: usize = 60;

/// The names of what stands in a line.
pub(super) fn heading() -> String {
    columns(["ID", "STORED", "TARGET", "REASON", "ATTEMPTS", "STATUS", "SUBJECT", "ERROR"].map(str::to_owned))
}

/// A letter in one line.
pub(super) fn line(letter: &DeadLetter) -> String {
    let status = letter.last_status.map_or("-".to_owned(), |status| status.to_string());
    columns([
        if letter.id == 0 { "-".to_owned() } else { letter.id.to_string() },
        humantime::format_rfc3339_seconds(letter.stored).to_string(),
        cell(&letter.target),
        cell(&letter.reason),
        letter.attempts.to_string(),
        status,
        cell(&letter.subject),
        cell(&letter.last_error),
    ])
}

fn columns(cells: [String; 8]) -> String {
    let [id, stored, target, reason, attempts, status, subject, error] = cells;
    let line = format!(
        "{id:<8} {stored:<20} {target:<16} {reason:<18} {attempts:>8} {status:>6} {subject:<24} {error}"
    );
    format!("{}\n", line.trim_end())
}

fn cell(text: &str) -> String {
    let mut cell: String = harmless(text).chars().take(CELL_CHARS_MAX).collect();
    if text.chars().nth(CELL_CHARS_MAX).is_some() {
        cell.push('…');
    }
    if cell.is_empty() { "-".to_owned() } else { cell }
}

/// Everything that is known of a letter, for people.
pub(super) fn page(letter: &DeadLetter) -> String {
    let place = match (&letter.stream, letter.sequence) {
        (Some(stream), Some(sequence)) => Some(format!("stream {stream}, sequence {sequence}")),
        _ => None,
    };
    let rows = [
        ("id", Some(letter.id.to_string())),
        ("stored", Some(time(letter.stored))),
        ("target", Some(letter.target.clone())),
        ("reason", Some(letter.reason.clone())),
        ("attempts", Some(letter.attempts.to_string())),
        ("first attempt", letter.first_attempt.map(time)),
        ("last attempt", letter.last_attempt.map(time)),
        ("last status", letter.last_status.map(|status| status.to_string())),
        ("last error", Some(letter.last_error.clone())),
        ("response", Some(letter.response.clone())),
        ("subject", Some(letter.subject.clone())),
        ("place", place),
        ("published", letter.published.map(time)),
        ("replayed", letter.replayed.map(time)),
        ("webhook-id", letter.webhook_id()),
        ("body", letter.omitted_body.clone()),
        ("headers", letter.omitted_headers.clone()),
    ];
    let mut text = String::new();
    for (name, value) in rows {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "{name:<14} {}", harmless(&value));
        }
    }
    let _ = writeln!(text, "\nheaders of the message");
    for (name, value) in letter.headers.iter() {
        let _ = writeln!(text, "    {}", harmless(&format!("{name}: {value}")));
    }
    let _ = write!(text, "\nbody, {} bytes\n{}", letter.payload.len(), body(&letter.payload));
    text
}

/// A letter as one line of JSON. The body is text where it is UTF-8, else base64.
pub(super) fn json(letter: &DeadLetter) -> String {
    let mut headers = Map::new();
    for (name, value) in letter.headers.iter() {
        if let Value::Array(values) = headers.entry(name).or_insert_with(|| json!([])) {
            values.push(value.into());
        }
    }
    let mut object = json!({
        "id": letter.id,
        "stored": time(letter.stored),
        "target": letter.target,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "first_attempt": letter.first_attempt.map(time),
        "last_attempt": letter.last_attempt.map(time),
        "last_status": letter.last_status,
        "last_error": letter.last_error,
        "response": letter.response,
        "subject": letter.subject,
        "stream": letter.stream,
        "sequence": letter.sequence,
        "published": letter.published.map(time),
        "replayed": letter.replayed.map(time),
        "webhook_id": letter.webhook_id(),
        "omitted_body": letter.omitted_body,
        "omitted_headers": letter.omitted_headers,
        "headers": headers,
    });
    match std::str::from_utf8(&letter.payload) {
        Ok(text) => object["body"] = text.into(),
        Err(_) => object["body_base64"] = STANDARD.encode(&letter.payload).into(),
    }
    format!("{}\n", without_controls(&object.to_string()))
}

/// JSON may hold the control characters from U+007F to U+009F as they are, and terminals obey some of them. All that
/// steers is inside of strings and has at most 16 bits, so its escape means the same.
fn without_controls(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if steers(c) {
            let _ = write!(text, "\\u{:04x}", u32::from(c));
        } else {
            text.push(c);
        }
    }
    text
}

fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time.max(SystemTime::UNIX_EPOCH)).to_string()
}
