//! From an event to what is sent of it, in either mode of the HTTP protocol binding.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::RawValue;

use super::{CloudEvent, Data, Mode, SPEC_VERSION, STRUCTURED_TYPE, Value, header_text, media};

impl CloudEvent {
    /// Headers and body of a request that carries the event.
    #[must_use]
    pub fn write(&self, mode: Mode) -> (HeaderMap, Bytes) {
        match mode {
            Mode::Binary => (self.headers(), self.body()),
            Mode::Structured => {
                let kind = HeaderValue::from_static(STRUCTURED_TYPE);
                (HeaderMap::from_iter([(CONTENT_TYPE, kind)]), self.json())
            }
        }
    }

    /// The event as a JSON object, in UTF-8: the one that it came as, else one made of its parts. Also what a batch holds.
    #[must_use]
    pub fn json(&self) -> Bytes {
        match &self.text {
            Some(text) => text.clone(),
            // Texts and numbers under texts: nothing in it can fail to be written.
            None => serde_json::to_vec(self).unwrap_or_default().into(),
        }
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(self.attributes.len() + 2);
        headers.insert("ce-specversion", HeaderValue::from_static(SPEC_VERSION));
        for (name, value) in &self.attributes {
            if name == "datacontenttype" {
                continue;
            }
            let (name, value) =
                (HeaderName::try_from(format!("ce-{name}")), HeaderValue::try_from(value.header()));
            if let (Ok(name), Ok(value)) = (name, value) {
                headers.insert(name, value);
            }
        }
        if let Some(kind) = self.data_type() {
            headers.insert(CONTENT_TYPE, kind);
        }
        headers
    }

    /// What the body is said to be, if a header can say it. JSON of which nothing was said is called so (JSON event format,
    /// 3.1.2).
    fn data_type(&self) -> Option<HeaderValue> {
        let kind = self.text_attribute("datacontenttype").filter(|kind| kind.is_ascii());
        let kind = match &self.data {
            Data::None => kind?.into(),
            Data::Json(_) => media::type_of(kind, b"{}"),
            Data::Text(text) => media::type_of(kind, text.as_bytes()),
            Data::Bytes(bytes) => media::type_of(kind, bytes),
        };
        HeaderValue::from_str(&kind).ok()
    }

    fn body(&self) -> Bytes {
        match &self.data {
            Data::None => Bytes::new(),
            Data::Json(value) => Bytes::copy_from_slice(value.get().as_bytes()),
            Data::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Data::Bytes(bytes) => bytes.clone(),
        }
    }
}

impl Value {
    /// As a header carries it.
    fn header(&self) -> String {
        match self {
            Self::Text(text) => header_text::encode(text),
            Self::Integer(number) => number.to_string(),
            Self::Boolean(value) => value.to_string(),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Boolean(value) => serializer.serialize_bool(*value),
        }
    }
}

impl Serialize for CloudEvent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("specversion", SPEC_VERSION)?;
        for (name, value) in &self.attributes {
            map.serialize_entry(name, value)?;
        }
        match &self.data {
            Data::None => {}
            Data::Json(value) => map.serialize_entry("data", value)?,
            Data::Text(text) => map.serialize_entry("data", text)?,
            Data::Bytes(bytes) => match held(self.text_attribute("datacontenttype"), bytes) {
                Held::Json(value) => map.serialize_entry("data", value)?,
                Held::Text(text) => map.serialize_entry("data", text)?,
                Held::Neither => map.serialize_entry("data_base64", &STANDARD.encode(bytes))?,
            },
        }
        map.end()
    }
}

/// How a JSON event holds bytes (JSON event format, 3.1.1).
enum Held<'a> {
    Json(&'a RawValue),
    Text(&'a str),
    Neither,
}

/// JSON that is none, and a text that is not UTF-8, are bytes whatever is said of them.
fn held<'a>(kind: Option<&str>, bytes: &'a [u8]) -> Held<'a> {
    let held = if kind.is_none_or(media::is_json) {
        serde_json::from_slice(bytes).ok().map(Held::Json)
    } else if kind.is_some_and(media::is_text) {
        std::str::from_utf8(bytes).ok().map(Held::Text)
    } else {
        None
    };
    held.unwrap_or(Held::Neither)
}
