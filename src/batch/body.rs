//! The body of a batch: each member's part of it, how parts are put together, and by what name the whole goes. Parts
//! are never written anew, so that numbers stay as exact and keys in the order as the publisher wrote them. Pure.

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderValue, header::CONTENT_TYPE};
use ring::digest::{Context, SHA256};
use serde::de::IgnoredAny;

use crate::{
    cloud_event::{CloudEvent, Making, default_source},
    message::Message,
    request::Content,
};

/// The most bytes of members' ids that go along in a header: receivers commonly take 8 KiB for all headers.
const IDS_BYTES_MAX: usize = 4 * 1024;
/// How many bytes of the digest name a batch.
const DIGEST_BYTES: usize = 16;

/// What a batch's body looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON array with the payloads as its elements.
    JsonArray,
    /// A payload a line.
    Ndjson,
    /// One JSON array of events in structured mode (CloudEvents, JSON batch format).
    CloudEvents,
}

/// A payload that cannot be a member.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the payload is not JSON, which a batch needs: {0}")]
pub struct NotJson(String);

impl Format {
    /// The media type of the body (RFC 8259 for JSON; none is registered for NDJSON, this one is in common use).
    #[must_use]
    pub fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::JsonArray => "application/json",
            Self::Ndjson => "application/x-ndjson",
            Self::CloudEvents => "application/cloudevents-batch+json",
        })
    }

    /// What goes into the body of `message`, or of `content` in its place.
    ///
    /// # Errors
    /// It is not JSON, and the body is made of that.
    pub fn part(self, message: &Message, content: Option<&Content>) -> Result<Bytes, NotJson> {
        let body = content.map_or(&message.payload, |content| &content.body);
        match self {
            Self::JsonArray => json(body),
            Self::Ndjson => json(body).map(|json| one_line(&json)),
            Self::CloudEvents => Ok(event(message, content, body).json()),
        }
    }

    /// How many bytes a part of so many takes in the body, with what stands after it.
    #[must_use]
    pub fn framed(self, bytes: usize) -> usize {
        match self {
            Self::JsonArray | Self::Ndjson | Self::CloudEvents => bytes.saturating_add(1),
        }
    }

    /// How many bytes stand around all parts.
    #[must_use]
    pub fn frame(self) -> usize {
        match self {
            Self::JsonArray | Self::CloudEvents => 1,
            Self::Ndjson => 0,
        }
    }

    /// All parts together.
    #[must_use]
    pub fn body(self, parts: &[impl AsRef<[u8]>]) -> Bytes {
        let bytes: usize = parts.iter().map(|part| self.framed(part.as_ref().len())).sum();
        let mut body = BytesMut::with_capacity(self.frame() + bytes);
        match self {
            Self::JsonArray | Self::CloudEvents => {
                for (index, part) in parts.iter().enumerate() {
                    body.put_u8(if index == 0 { b'[' } else { b',' });
                    body.put_slice(part.as_ref());
                }
                body.put_u8(b']');
            }
            Self::Ndjson => {
                for part in parts {
                    body.put_slice(part.as_ref());
                    body.put_u8(b'\n');
                }
            }
        }
        body.freeze()
    }
}

/// `body` without the white space around it, once it is known to be JSON.
fn json(body: &Bytes) -> Result<Bytes, NotJson> {
    let text = std::str::from_utf8(body).map_err(|error| NotJson(error.to_string()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| NotJson(error.to_string()))?;
    Ok(body.slice_ref(text.trim_matches([' ', '\t', '\r', '\n']).as_bytes()))
}

/// `json` without line breaks. Those that it has stand between its tokens: in texts they are escaped (RFC 8259, 7).
fn one_line(json: &Bytes) -> Bytes {
    let is_break = |byte: &u8| matches!(byte, b'\n' | b'\r');
    if json.iter().any(is_break) {
        json.iter().copied().filter(|byte| !is_break(byte)).collect()
    } else {
        json.clone()
    }
}

/// The event that the message is, or one with the body as its data, as `format` makes it where nothing else is said.
fn event(message: &Message, content: Option<&Content>, body: &Bytes) -> CloudEvent {
    let content_type = content.and_then(|content| content.headers.get(CONTENT_TYPE)?.to_str().ok());
    CloudEvent::read(&message.headers, content_type, body).unwrap_or_else(|| {
        CloudEvent::make(Making {
            id: &message.webhook_id(),
            source: &default_source(message),
            kind: &message.subject,
            subject: &message.subject,
            time: message.published,
            content_type: content_type.or_else(|| message.headers.get("Content-Type")),
            body,
        })
    })
}

/// The `webhook-id` of a batch: the same for the same members in the same order, and for no others.
#[must_use]
pub(super) fn batch_id(ids: &[&str]) -> String {
    let mut context = Context::new(&SHA256);
    for id in ids {
        context.update(id.as_bytes());
        // No id has a line break.
        context.update(b"\n");
    }
    let digest = context.finish();
    let hex = digest.as_ref().iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}"));
    hex.fold("batch-".to_owned(), |id, byte| id + &byte)
}

/// The members' ids for a header, with a space between them, which no id has; `None` when they are too long for one.
#[must_use]
pub(super) fn listed_ids(ids: &[&str]) -> Option<HeaderValue> {
    let bytes: usize = ids.iter().map(|id| id.len() + 1).sum();
    if bytes > IDS_BYTES_MAX { None } else { HeaderValue::try_from(ids.join(" ")).ok() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::HeaderMap;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use std::time::SystemTime;

    use crate::message::{Headers, Origin};

    fn message(payload: Bytes, headers: &[(&str, &str)]) -> Message {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Message {
            subject: "orders.created".into(),
            payload,
            headers: Headers(headers.collect()),
            origin: Origin::Stored { stream: "EVENTS".into(), sequence: 7 },
            published: SystemTime::UNIX_EPOCH,
        }
    }

    fn part(format: Format, payload: &str) -> Option<String> {
        let message = message(Bytes::copy_from_slice(payload.as_bytes()), &[]);
        let part = format.part(&message, None).ok()?;
        Some(String::from_utf8(part.to_vec()).unwrap())
    }

    #[test]
    fn a_part_is_the_payload_as_it_was_written() {
        let exact = r#"{"b":1.10000000000000000000001,"a":18446744073709551617,"b":"é\n"}"#;
        for format in [Format::JsonArray, Format::Ndjson] {
            assert_eq!(part(format, exact).as_deref(), Some(exact));
            assert_eq!(part(format, &format!("\n \t{exact}\r\n")).as_deref(), Some(exact));
        }
    }

    #[test]
    fn a_line_has_no_line_breaks_and_says_the_same() {
        let pretty = "{\r\n  \"a\": [\n    1,\n    2\n  ]\n}";
        assert_eq!(part(Format::Ndjson, pretty).as_deref(), Some("{  \"a\": [    1,    2  ]}"));
        assert_eq!(part(Format::JsonArray, pretty).as_deref(), Some(pretty));
    }

    #[test]
    fn what_is_not_json_is_no_part() {
        for bad in
            ["", " ", "{", "{}{}", "[1],[2]", "plain", "\u{feff}{}", "{\"a\":\"\n\"}", "01", "nul", "'a'"]
        {
            for format in [Format::JsonArray, Format::Ndjson] {
                assert_eq!(part(format, bad), None, "{bad:?}");
            }
        }
        let not_utf8 = message(Bytes::from_static(b"\"\xff\""), &[]);
        let not_utf8 = Format::JsonArray.part(&not_utf8, None).unwrap_err();
        assert!(not_utf8.to_string().starts_with("the payload is not JSON"), "{not_utf8}");
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(part(Format::Ndjson, &deep).is_some(), "however deep it is");
    }

    #[test]
    fn what_is_sent_instead_of_a_message_is_its_part() {
        let message = message(Bytes::from_static(b"plain"), &[]);
        let content = Content { headers: HeaderMap::new(), body: Bytes::from_static(b"{}"), path: None };
        assert_eq!(Format::JsonArray.part(&message, Some(&content)).unwrap(), "{}");
    }

    #[test]
    fn every_message_is_an_event_or_becomes_one() {
        let event = |payload: &'static str, headers: &[(&str, &str)], content: Option<&Content>| -> Value {
            let message = message(Bytes::from_static(payload.as_bytes()), headers);
            serde_json::from_slice(&Format::CloudEvents.part(&message, content).unwrap()).unwrap()
        };
        let made = event("plain", &[("Content-Type", "text/plain")], None);
        assert_eq!(
            made,
            json!({
                "specversion": "1.0", "id": "EVENTS-7", "source": "/natshook/EVENTS", "type": "orders.created",
                "subject": "orders.created", "time": "1970-01-01T00:00:00.000000Z",
                "datacontenttype": "text/plain", "data": "plain",
            })
        );
        let whole = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}"#;
        assert_eq!(event(whole, &[], None), serde_json::from_str::<Value>(whole).unwrap());
        let binary = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/s"), ("ce-type", "t")];
        let content = Content {
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
            body: Bytes::from_static(b"2"),
            path: None,
        };
        let shaped = event("1", &binary, Some(&content));
        assert_eq!((&shaped["id"], &shaped["data"]), (&json!("1"), &json!(2)));
    }

    #[test]
    fn bodies_are_what_their_media_types_promise() {
        assert_eq!(Format::JsonArray.body(&["1", "{}"]), "[1,{}]");
        assert_eq!(Format::JsonArray.body(&["1"]), "[1]");
        assert_eq!(Format::Ndjson.body(&["1", "{}"]), "1\n{}\n");
        assert_eq!(Format::CloudEvents.body(&["{}", "{}"]), "[{},{}]");
    }

    #[test]
    fn a_batch_is_known_by_its_members_and_their_order() {
        let id = batch_id(&["EVENTS-1", "EVENTS-2"]);
        assert_eq!((id.len(), id.get(..6)), (38, Some("batch-")));
        assert_eq!(id, batch_id(&["EVENTS-1", "EVENTS-2"]));
        for other in [
            &["EVENTS-2", "EVENTS-1"][..],
            &["EVENTS-1"],
            &["EVENTS-1EVENTS-2"],
            &["EVENTS-1", "EVENTS-2", ""],
        ] {
            assert_ne!(id, batch_id(other), "{other:?}");
        }
    }

    #[test]
    fn ids_are_listed_as_long_as_a_header_takes_them() {
        assert_eq!(listed_ids(&["EVENTS-1", "a,b"]).unwrap(), "EVENTS-1 a,b");
        assert_eq!(listed_ids(&["x".repeat(IDS_BYTES_MAX).as_str()]), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}\n?".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("\\PC{0,4}\r?", inner, 0..4).prop_map(|map| json!(map)),
            ]
        })
    }

    proptest! {
        #[test]
        fn bodies_are_read_as_the_payloads_that_went_in(
            values in prop::collection::vec(json(), 1..8), pretty in any::<bool>(),
        ) {
            let write = if pretty { serde_json::to_vec_pretty } else { serde_json::to_vec };
            let payloads: Vec<Bytes> = values.iter().map(|value| write(value).unwrap().into()).collect();
            let body = |format: Format| {
                let parts: Vec<Bytes> = payloads.iter().map(|p| format.part(&message(p.clone(), &[]), None).unwrap()).collect();
                format.body(&parts)
            };
            let array: Vec<Value> = serde_json::from_slice(&body(Format::JsonArray)).unwrap();
            prop_assert_eq!(&array, &values);
            let text = body(Format::Ndjson);
            let lines: Vec<Value> = std::str::from_utf8(&text).unwrap()
                .split_terminator('\n').map(|line| serde_json::from_str(line).unwrap()).collect();
            prop_assert_eq!(&lines, &values);
        }
    }
}
