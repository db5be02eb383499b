//! From a message to the event that it is, if it is one. What breaks a rule of the specification is no event: it is sent
//! as the data of one that is, so that nothing of it is lost and no receiver gets what it cannot read.

use std::{borrow::Cow, collections::BTreeMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::value::RawValue;

use super::{CloudEvent, Data, SPEC_VERSION, Value, header_text, is_attribute_name, media};
use crate::message::Headers;

/// What every event has, beside `specversion`.
const REQUIRED: [&str; 3] = ["id", "source", "type"];

impl CloudEvent {
    /// The event that a message is, by its `headers`, what is said of its body, and `body`. `content_type` is what was
    /// made of the message, where something was; else its own headers say.
    ///
    /// A content type of events, or a JSON body that is an event, means structured mode: version 1.0.2 of the NATS binding
    /// knows no other and no header for it. Else `ce-` headers mean binary mode, as later drafts have it.
    #[must_use]
    pub fn read(headers: &Headers, content_type: Option<&str>, body: &Bytes) -> Option<Self> {
        let said = content_type.or_else(|| headers.get("Content-Type"));
        if said.is_some_and(media::claims_events) {
            return said.filter(|said| media::claims_json_event(said)).and_then(|_| structured(body));
        }
        let data_type = content_type.or_else(|| headers.get("ce-datacontenttype")).or(said);
        binary(headers, data_type, body).or_else(|| {
            let may_be = said.is_none_or(media::is_json) && mentions_version(body);
            may_be.then(|| structured(body)).flatten()
        })
    }
}

/// Spares the reading of bodies that cannot be events.
fn mentions_version(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
        && std::str::from_utf8(body).is_ok_and(|text| text.contains("\"specversion\""))
}

/// Headers that have no attribute's name are none; a value that is not UTF-8 makes it no event.
fn binary(headers: &Headers, data_type: Option<&str>, body: &Bytes) -> Option<CloudEvent> {
    headers.get("ce-specversion").filter(|version| *version == SPEC_VERSION)?;
    let mut attributes: Vec<(String, Value)> = Vec::new();
    for (name, value) in headers.iter() {
        let Some(name) = attribute_of(name) else { continue };
        let known = attributes.iter().any(|(other, _)| *other == name);
        if known || matches!(name.as_str(), "specversion" | "datacontenttype") {
            continue;
        }
        attributes.push((name, Value::Text(header_text::decode(value)?)));
    }
    attributes.extend(data_type.map(|kind| ("datacontenttype".to_owned(), Value::Text(kind.to_owned()))));
    let event = CloudEvent { attributes, data: Data::of(body.clone()), text: None };
    event.is_whole().then_some(event)
}

/// The attribute that a header is for.
fn attribute_of(header: &str) -> Option<String> {
    let (prefix, name) = header.split_at_checked(3)?;
    let name = name.to_ascii_lowercase();
    (prefix.eq_ignore_ascii_case("ce-") && is_attribute_name(&name)).then_some(name)
}

/// JSON event format, 2 and 3. A member that is no attribute's name or of no attribute's type makes it no event.
fn structured(body: &Bytes) -> Option<CloudEvent> {
    let mut members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(body).ok()?;
    let version: String = serde_json::from_str(members.remove("specversion")?.get()).ok()?;
    if version != SPEC_VERSION {
        return None;
    }
    let (data, base64) = (members.remove("data"), members.remove("data_base64"));
    let mut attributes = Vec::with_capacity(members.len());
    for (name, value) in members {
        if !is_attribute_name(&name) {
            return None;
        }
        attributes.extend(attribute(value)?.map(|value| (name.into_owned(), value)));
    }
    let mut event = CloudEvent { attributes, data: Data::None, text: Some(body.clone()) };
    event.data = match (data, base64.filter(|value| value.get() != "null")) {
        (None, None) => Data::None,
        (Some(value), None) => event.json_data(value),
        (None, Some(value)) => {
            let text: String = serde_json::from_str(value.get()).ok()?;
            Data::Bytes(STANDARD.decode(text).ok()?.into())
        }
        (Some(_), Some(_)) => return None,
    };
    event.is_whole().then_some(event)
}

/// A value as an attribute; nothing for `null`, which means that it is not set.
fn attribute(value: &RawValue) -> Option<Option<Value>> {
    match serde_json::from_str(value.get()).ok()? {
        serde_json::Value::Null => Some(None),
        serde_json::Value::Bool(value) => Some(Some(Value::Boolean(value))),
        serde_json::Value::Number(number) => number.as_i64().map(Value::Integer).map(Some),
        serde_json::Value::String(text) => Some(Some(Value::Text(text))),
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => None,
    }
}

impl CloudEvent {
    /// What `data` holds: a value where the data is JSON or nothing is said of it, else a text.
    fn json_data(&self, value: &RawValue) -> Data {
        let text = match self.text_attribute("datacontenttype") {
            Some(kind) if !media::is_json(kind) => serde_json::from_str(value.get()).ok(),
            Some(_) | None => None,
        };
        text.map_or_else(|| Data::Json(value.to_owned()), Data::Text)
    }

    /// Whether every required attribute is there, as a text with something in it.
    fn is_whole(&self) -> bool {
        REQUIRED.iter().all(|name| self.text_attribute(name).is_some_and(|text| !text.is_empty()))
    }
}
