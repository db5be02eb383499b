//! CloudEvents 1.0.2: an event as attributes and data, read from a message in either mode of the NATS binding (`read`) or
//! made of one that is none, and written in either mode of the HTTP binding (`write`). `header_text` is how both bindings
//! carry a text in a header, `media` what a content type says of data. Pure: no clock, no random source, and nothing here
//! decides which messages are sent.

mod header_text;
mod media;
mod read;
mod write;

#[cfg(test)]
mod tests;

use std::{borrow::Cow, time::SystemTime};

use bytes::Bytes;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::value::RawValue;

use crate::message::{Message, Origin};

/// The version of the specification: the only one that is read, and the one that is written.
pub const SPEC_VERSION: &str = "1.0";

/// What an event in structured mode is sent as, and a message is told by (JSON event format, 3).
pub const STRUCTURED_TYPE: &str = "application/cloudevents+json";

/// What no URI can hold as it is (RFC 3986, 2).
const NOT_IN_URI: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// What means something else in a segment of a URI's path (RFC 3986, 3.3).
const NOT_IN_SEGMENT: &AsciiSet = &NOT_IN_URI.add(b'#').add(b'%').add(b'/').add(b'?').add(b'[').add(b']');

/// How an event travels in a request (HTTP protocol binding, 1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, data as the body.
    Binary,
    /// Attributes and data in one JSON object.
    Structured,
}

/// The value of an attribute. Times and URIs are texts: they pass as they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

/// What an event is about.
#[derive(Clone, Debug)]
enum Data {
    None,
    /// A JSON value, character for character as it was written.
    Json(Box<RawValue>),
    /// A text in a JSON event.
    Text(String),
    Bytes(Bytes),
}

/// An event: attributes with the names of the specification, without `specversion`, and data.
#[derive(Clone, Debug)]
pub struct CloudEvent {
    attributes: Vec<(String, Value)>,
    data: Data,
    /// The JSON object that it was read from, if that is how it came.
    text: Option<Bytes>,
}

/// What an event is made of where a message is none.
#[derive(Clone, Copy, Debug)]
pub struct Making<'a> {
    /// `id`: unique together with `source`.
    pub id: &'a str,
    /// `source`: a URI reference to where it happened.
    pub source: &'a str,
    /// `type`: what happened.
    pub kind: &'a str,
    /// `subject`: what it happened to.
    pub subject: &'a str,
    /// `time`: when it happened.
    pub time: SystemTime,
    /// What the data is said to be, if anything is said.
    pub content_type: Option<&'a str>,
    /// The data.
    pub body: &'a Bytes,
}

impl CloudEvent {
    /// An event of what is none yet. A text loses the characters that no attribute may hold (CloudEvents, 3.1).
    #[must_use]
    pub fn make(making: Making<'_>) -> Self {
        // Microseconds: many receivers' languages know nothing finer.
        let time = humantime::format_rfc3339_micros(making.time).to_string();
        let mut attributes = vec![
            ("id".to_owned(), text(making.id)),
            ("source".to_owned(), text(making.source)),
            ("type".to_owned(), text(making.kind)),
            ("subject".to_owned(), text(making.subject)),
            ("time".to_owned(), Value::Text(time)),
        ];
        let data = Data::of(making.body.clone());
        let kind = match data {
            Data::None => making.content_type.map(Cow::Borrowed),
            _ => Some(media::type_of(making.content_type, making.body)),
        };
        attributes.extend(kind.map(|kind| ("datacontenttype".to_owned(), text(&kind))));
        Self { attributes, data, text: None }
    }

    /// The value of an attribute, if the event has it.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&Value> {
        self.attributes.iter().find(|(n, _)| n == name).map(|(_, value)| value)
    }

    fn text_attribute(&self, name: &str) -> Option<&str> {
        match self.attribute(name) {
            Some(Value::Text(text)) => Some(text),
            Some(Value::Integer(_) | Value::Boolean(_)) | None => None,
        }
    }
}

impl Data {
    fn of(body: Bytes) -> Self {
        if body.is_empty() { Self::None } else { Self::Bytes(body) }
    }
}

/// The `source` of events that are made of `message`, unless the config says otherwise: the stream, under a name that
/// is the same for every natshook, since the same message has the same id for each of them.
#[must_use]
pub fn default_source(message: &Message) -> String {
    match &message.origin {
        Origin::Stored { stream, .. } => {
            format!("/natshook/{}", utf8_percent_encode(stream, NOT_IN_SEGMENT))
        }
        Origin::Passing { .. } => "/natshook".to_owned(),
    }
}

/// `text` with what no URI can hold percent-encoded (RFC 3986, 2); what it has encoded already stays.
#[must_use]
pub fn uri_reference(text: &str) -> String {
    utf8_percent_encode(text, NOT_IN_URI).to_string()
}

/// Whether `name` can name an attribute: lower-case letters and digits (CloudEvents, 3.1). `data` is no attribute.
#[must_use]
pub fn is_attribute_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    !name.is_empty() && name != "data" && name.bytes().all(legal)
}

fn text(text: &str) -> Value {
    Value::Text(text.chars().filter(|c| !c.is_control()).collect())
}
