//! What a target asks its receiver (`handshake`) and what it tells of its answers (`reply`).

use http::{HeaderName, HeaderValue};

use super::{bounds::bytes, http::legal_header_name, target::Context, texts};
use crate::{
    config::{
        SourceKind,
        error::{Errors, KeyPath, Problem},
        field::{Field, Section},
        limits, raw,
        value::{OneOrMore, Text},
        words,
    },
    handshake::Handshake,
    reply::{Reply, ReplyOn, ReplySubject},
    subject::Pattern,
};

const SUBJECT_ALLOWED: &str = "a subject such as \"answers.{{ subject }}\"";

/// Whether a receiver is asked.
#[derive(Clone, Debug)]
pub(super) enum Asking {
    No,
    /// As the instance, or under another name.
    Yes(Option<HeaderValue>),
}

impl Asking {
    /// With the instance's name where there is no other: it is the same for all replicas, and tells nothing of the machine.
    pub(super) fn handshake(self, context: &Context<'_>) -> Option<Handshake> {
        match self {
            Self::No => None,
            Self::Yes(Some(origin)) => Some(Handshake { origin }),
            Self::Yes(None) => {
                HeaderValue::from_str(context.name.as_str()).ok().map(|origin| Handshake { origin })
            }
        }
    }
}

pub(super) fn handshake(raw: Field<words::Handshake>, path: &KeyPath, errors: &mut Errors) -> Option<Asking> {
    match raw.take(path, errors)? {
        words::Handshake::Flag(false) => Some(Asking::No),
        words::Handshake::Flag(true) => Some(Asking::Yes(None)),
        words::Handshake::Table(table) => {
            let path = path.key("origin");
            let origin = table.origin.take(&path, errors);
            Some(Asking::Yes(origin.and_then(|text| self::origin(text.0, &path, errors))))
        }
    }
}

fn origin(found: String, path: &KeyPath, errors: &mut Errors) -> Option<HeaderValue> {
    let is_label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    };
    let is_name = found.len() <= limits::ORIGIN_CHARS_MAX && found.split('.').all(is_label);
    let value = HeaderValue::from_str(&found).ok().filter(|_| is_name);
    if value.is_none() {
        errors.add(path, Problem::Origin { found });
    }
    value
}

pub(super) fn reply(
    raw: Section<raw::Reply>,
    source: SourceKind,
    path: &KeyPath,
    errors: &mut Errors,
) -> Option<Reply> {
    let raw = raw.take(path, errors)?;
    let path_of_subject = path.key("subject");
    if raw.subject.is_absent() && source == SourceKind::JetStream {
        errors.add(&path_of_subject, Problem::Missing { allowed: SUBJECT_ALLOWED });
    }
    let subject = raw.subject.take(&path_of_subject, errors);
    let subject = subject.and_then(|text| reply_subject(text.0, &path_of_subject, errors));
    let body = bytes(raw.max_body_bytes, limits::REPLY_BODY, &path.key("max_body_bytes"), errors);
    let on = raw.on.take(&path.key("on"), errors);
    Some(Reply {
        subject,
        headers: told(raw.headers, &path.key("headers"), errors),
        max_body_bytes: body.unwrap_or(limits::REPLY_BODY_DEFAULT) as usize,
        on: match on {
            None | Some(words::ReplyOn::Delivered) => ReplyOn::Delivered,
            Some(words::ReplyOn::Answered) => ReplyOn::Answered,
        },
    })
}

fn reply_subject(found: String, path: &KeyPath, errors: &mut Errors) -> Option<ReplySubject> {
    match ReplySubject::new(&found) {
        Ok(subject) => Some(subject),
        Err(cause) => {
            errors.add(path, Problem::ReplySubject { found, cause });
            None
        }
    }
}

/// Headers that are told under the names as written: those of NATS have cases.
fn told(raw: Field<OneOrMore<Text>>, path: &KeyPath, errors: &mut Errors) -> Vec<(HeaderName, String)> {
    let mut told = Vec::new();
    for (path, text) in texts(raw, path, errors) {
        let Some(name) = legal_header_name(&text, &path, errors) else { continue };
        // They steer the broker, or are natshook's own.
        if name.as_str().starts_with("nats-") || name.as_str().starts_with("natshook-") {
            errors.add(&path, Problem::ReservedHeader { found: text });
        } else {
            told.push((name, text));
        }
    }
    told
}

/// Answers that would cause the next delivery, or reach what is not for them.
pub(super) fn reply_loops(
    reply: &Reply,
    subjects: &[Pattern],
    context: &Context<'_>,
    path: &KeyPath,
    errors: &mut Errors,
) {
    let Some(subject) = &reply.subject else { return };
    let own = ["retry", "dead-letter", "control"].map(|what| format!("{}.{what}.>", context.name.as_str()));
    let forbidden = own.iter().map(|own| (own.as_str(), "it is natshook's own"));
    let forbidden = forbidden.chain([("$JS.>", "it is the server's"), ("$SYS.>", "it is the server's")]);
    let forbidden: Vec<_> = forbidden
        .filter_map(|(text, why)| Pattern::new(text).ok().map(|pattern| (pattern, why)))
        .chain(subjects.iter().map(|own| (own.clone(), "a delivery would cause the next one")))
        .collect();
    for reach in subjects.iter().filter_map(|own| subject.reach(own)) {
        if let Some((reached, why)) = forbidden.iter().find(|(forbidden, _)| forbidden.overlaps(&reach)) {
            let (found, reached) = (reach.to_string(), reached.to_string());
            errors.add(&path.key("reply").key("subject"), Problem::ReplyLoop { found, reached, why });
            return;
        }
    }
}
