//! What a target makes of a message before anything is sent: nothing, what is sent in its place, or a reason to give it
//! up. Pure: programs that could take long are run by `shaper`, never here.

mod filter;
mod filter_check;
mod format;
mod misread;
mod path;
mod template;
mod template_read;
mod transform;

pub use filter::Filter;
pub use format::Format;
pub use misread::Misread;
pub use path::{BadAddress, PathTemplate};
pub use template::{Parts, Template};
pub use transform::{Failed, Program, Transform};

use std::thread;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};

use crate::{
    disposition::Reason,
    message::Message,
    request::{Content, ascii_value},
};

/// The stack on which programs are compiled, and transforms run, in bytes: parsers recurse as deep as a program is nested,
/// and know no bound. What is not used of it costs nothing.
pub const STACK_BYTES: usize = 128 << 20;
/// The longest filter or transform, in bytes, so that none is nested deeper than the stack allows.
pub const PROGRAM_BYTES_MAX: usize = 4 * 1024;
/// The longest value of a header that is made of a template, in bytes: receivers commonly refuse more than 8 KiB of
/// headers altogether.
const HEADER_BYTES_MAX: usize = 8 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// What a target makes of messages. Two are equal when the same was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Shape {
    /// Which messages it wants; without one all.
    pub filter: Option<Filter>,
    /// What is done with a message that the filter cannot judge.
    pub on_filter_error: OnFilterError,
    /// What makes the body, if it is not the payload.
    pub transform: Option<Transform>,
    /// The longest body that the transform may make, in bytes.
    pub max_payload_bytes: usize,
    /// Headers whose values are made for each message.
    pub headers: Vec<(HeaderName, Template)>,
    /// Path and query, if they are made for each message.
    pub path: Option<PathTemplate>,
    /// As what kind of event all that is sent, if as one.
    pub format: Option<Format>,
}

/// What is done with a message that a filter cannot judge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFilterError {
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
    /// It is delivered as if it were wanted.
    Deliver,
    /// It is left out as if it were not.
    Skip,
}

/// What a target makes of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent as it came.
    AsItIs,
    /// This is sent in its place, on every attempt.
    Content(Box<Content>),
    /// It is not sent, and no dead letter either.
    Skipped(Skip),
    /// It is a dead letter.
    Refused(Refusal),
}

/// Why a message is not sent although nothing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skip {
    /// The filter is false for it.
    Filter,
    /// The filter cannot be evaluated for it, and the target leaves such messages out.
    FilterError,
}

impl Skip {
    /// In the order of the enum.
    pub const ALL: [Self; 2] = [Self::Filter, Self::FilterError];

    /// The word for it in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::FilterError => "filter_error",
        }
    }
}

/// Why a message cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The dead letter's reason.
    pub reason: Reason,
    /// What is wrong, in one line without anything from the message.
    pub error: Box<str>,
    /// The same with values of the message; not for logs.
    pub detail: Option<Box<str>>,
}

impl Shape {
    /// Whether there is anything in it. A target whose shape does nothing needs none.
    #[must_use]
    pub fn is_something(&self) -> bool {
        self.filter.is_some()
            || self.transform.is_some()
            || !self.headers.is_empty()
            || self.path.is_some()
            || self.format.is_some()
    }

    /// What follows from what the filter says of a message; `None` when it is wanted.
    #[must_use]
    pub fn judged(&self, wanted: Result<bool, String>) -> Option<Verdict> {
        match (wanted, self.on_filter_error) {
            (Ok(true), _) | (Err(_), OnFilterError::Deliver) => None,
            (Ok(false), _) => Some(Verdict::Skipped(Skip::Filter)),
            (Err(_), OnFilterError::Skip) => Some(Verdict::Skipped(Skip::FilterError)),
            (Err(error), OnFilterError::DeadLetter) => Some(Verdict::Refused(Refusal {
                reason: Reason::FilterError,
                error: format!("filter: {error}").into(),
                detail: None,
            })),
        }
    }

    /// What is sent of `message`, if `body` is what the transform made of it, where there is a transform.
    #[must_use]
    pub fn sent(&self, message: &Message, body: Option<Result<Bytes, Failed>>) -> Verdict {
        let verdict = self.made(message, body);
        match (&self.format, verdict) {
            (Some(format), Verdict::AsItIs) => formatted(format.content(message, None)),
            (Some(format), Verdict::Content(content)) => formatted(format.content(message, Some(*content))),
            (Some(_) | None, verdict) => verdict,
        }
    }

    fn made(&self, message: &Message, body: Option<Result<Bytes, Failed>>) -> Verdict {
        match body.transpose() {
            Err(Failed { error, detail }) => Verdict::Refused(Refusal {
                reason: Reason::TransformError,
                error: format!("transform: {error}").into(),
                detail: detail.map(Into::into),
            }),
            Ok(None) if self.headers.is_empty() && self.path.is_none() => Verdict::AsItIs,
            Ok(body) => match self.content(message, body) {
                Ok(content) => Verdict::Content(Box::new(content)),
                Err(error) => Verdict::Refused(Refusal {
                    reason: Reason::TransformError,
                    error: error.into(),
                    detail: None,
                }),
            },
        }
    }

    fn content(&self, message: &Message, body: Option<Bytes>) -> Result<Content, String> {
        let parts = Parts::new(message);
        let mut headers = HeaderMap::new();
        if body.is_some() {
            headers.insert(CONTENT_TYPE, JSON);
        }
        for (name, template) in &self.headers {
            let value = template.render(&parts).map_err(|error| format!("headers.{name}: {error}"))?;
            headers.insert(name, header_value(name, &value)?);
        }
        let path = self.path.as_ref().map(|path| path.render(&parts)).transpose()?;
        Ok(Content { headers, body: body.unwrap_or_else(|| message.payload.clone()), path })
    }
}

fn formatted(content: Result<Content, String>) -> Verdict {
    match content {
        Ok(content) => Verdict::Content(Box::new(content)),
        Err(error) => {
            Verdict::Refused(Refusal { reason: Reason::TransformError, error: error.into(), detail: None })
        }
    }
}

/// Only what every receiver reads in the same way: visible ASCII, spaces and tabs. A line break would begin another header.
fn header_value(name: &HeaderName, value: &str) -> Result<HeaderValue, String> {
    if value.len() > HEADER_BYTES_MAX {
        return Err(format!("headers.{name}: the value is longer than {HEADER_BYTES_MAX} bytes"));
    }
    ascii_value(value)
        .ok_or_else(|| format!("headers.{name}: the value has a character that no header can carry"))
}

/// Reads a program on a stack that is large enough for any.
fn compile<T: Send>(text: &str, read: impl FnOnce() -> Result<T, Misread> + Send) -> Result<T, Misread> {
    if text.len() > PROGRAM_BYTES_MAX {
        return Err(Misread::at(text, 0, format!("is longer than {PROGRAM_BYTES_MAX} bytes")));
    }
    let read = thread::scope(|scope| {
        thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, read).ok()?.join().ok()
    });
    read.unwrap_or_else(|| Err(Misread::at(text, 0, "cannot be compiled")))
}

/// What is wrong with a text that is no JSON, and where. The library shows nothing of what it read.
fn json_error(error: &serde_json::Error) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::message::{Headers, Origin};
    use std::time::SystemTime;

    fn shape(headers: &[(&'static str, &str)]) -> Shape {
        let headers = headers
            .iter()
            .map(|(name, text)| (HeaderName::from_static(name), Template::new(text).unwrap()))
            .collect();
        Shape {
            filter: None,
            on_filter_error: OnFilterError::DeadLetter,
            transform: None,
            max_payload_bytes: 1024,
            headers,
            path: None,
            format: None,
        }
    }

    fn message(payload: &str) -> Message {
        Message {
            subject: "orders.eu".into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            headers: Headers::default(),
            origin: Origin::Passing { id: "1".into(), reply: None },
            published: SystemTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn without_body_and_templates_a_message_goes_out_as_it_came() {
        assert_eq!(shape(&[]).sent(&message("x"), None), Verdict::AsItIs);
        assert!(!shape(&[]).is_something());
    }

    #[test]
    fn a_value_that_would_begin_another_header_is_refused() {
        let shape = shape(&[("x-id", "id-{{ payload.id }}")]);
        let Verdict::Content(content) = shape.sent(&message(r#"{"id": "a b"}"#), None) else { panic!() };
        assert_eq!(
            (content.headers["x-id"].to_str().unwrap(), &content.body[..]),
            ("id-a b", &br#"{"id": "a b"}"#[..])
        );
        for id in ["a\\r\\nX-Evil: 1", "a\\n", "é", "\\u0000"] {
            let Verdict::Refused(refusal) = shape.sent(&message(&format!("{{\"id\": \"{id}\"}}")), None)
            else {
                panic!()
            };
            assert_eq!(refusal.reason, Reason::TransformError);
            assert_eq!(&*refusal.error, "headers.x-id: the value has a character that no header can carry");
        }
        let long = format!("{{\"id\": \"{}\"}}", "x".repeat(HEADER_BYTES_MAX));
        assert!(matches!(shape.sent(&message(&long), None), Verdict::Refused(_)));
    }

    #[test]
    fn what_the_policy_says_follows_from_an_error_of_the_filter() {
        let judged = |on_filter_error, wanted| Shape { on_filter_error, ..shape(&[]) }.judged(wanted);
        for policy in [OnFilterError::DeadLetter, OnFilterError::Deliver, OnFilterError::Skip] {
            assert_eq!(judged(policy, Ok(true)), None);
            assert_eq!(judged(policy, Ok(false)), Some(Verdict::Skipped(Skip::Filter)));
        }
        let error = || Err("no".to_owned());
        assert_eq!(judged(OnFilterError::Deliver, error()), None);
        assert_eq!(judged(OnFilterError::Skip, error()), Some(Verdict::Skipped(Skip::FilterError)));
        let refusal = Refusal { reason: Reason::FilterError, error: "filter: no".into(), detail: None };
        assert_eq!(judged(OnFilterError::DeadLetter, error()), Some(Verdict::Refused(refusal)));
    }
}
