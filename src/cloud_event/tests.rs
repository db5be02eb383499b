//! Events as they come, and as they are sent.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::message::Headers;

fn headers(pairs: &[(&str, &str)]) -> Headers {
    Headers(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn read(pairs: &[(&str, &str)], body: &'static str) -> Option<CloudEvent> {
    CloudEvent::read(&headers(pairs), None, &Bytes::from_static(body.as_bytes()))
}

const BINARY: [(&str, &str); 5] = [
    ("ce-specversion", "1.0"),
    ("Ce-Id", "a%20b"),
    ("ce-source", "/shop"),
    ("ce-type", "order.created"),
    ("ce-datacontenttype", "application/json"),
];

const WHOLE: &str = r#"{"specversion":"1.0","id":"7","source":"/shop","type":"order.created","n":5,"ok":true,
    "unset":null,"datacontenttype":"text/xml","data":"<a/>"}"#;

fn as_json(event: &CloudEvent) -> serde_json::Value {
    serde_json::from_slice(&event.json()).unwrap()
}

#[test]
fn a_message_in_binary_mode_keeps_its_attributes_and_the_content_type_is_the_data_s() {
    let more =
        [BINARY.as_slice(), &[("ce-tenant", "\"Euro €\""), ("ce-not-one", "x"), ("Content-Type", "a/b")]];
    let event = read(&more.concat(), "{\"a\": 1.10}").unwrap();
    let (headers, body) = event.write(Mode::Binary);
    let mut seen: Vec<_> =
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            "ce-id: a%20b",
            "ce-source: /shop",
            "ce-specversion: 1.0",
            "ce-tenant: Euro%20%E2%82%AC",
            "ce-type: order.created",
            "content-type: application/json",
        ]
    );
    assert_eq!(body, "{\"a\": 1.10}");
    assert_eq!(
        std::str::from_utf8(&event.json()).unwrap(),
        r#"{"specversion":"1.0","id":"a b","source":"/shop","type":"order.created","tenant":"Euro €","datacontenttype":"application/json","data":{"a": 1.10}}"#
    );
}

#[test]
fn a_message_in_structured_mode_passes_byte_for_byte_and_in_binary_mode_with_every_attribute() {
    for pairs in [&[("Content-Type", "application/cloudevents+json; charset=utf-8")], [].as_slice()] {
        let event = read(pairs, WHOLE).unwrap();
        assert_eq!(event.write(Mode::Structured).1, WHOLE);
        let (headers, body) = event.write(Mode::Binary);
        for (name, value) in [("ce-id", "7"), ("ce-n", "5"), ("ce-ok", "true"), ("content-type", "text/xml")]
        {
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(value), "{name}");
        }
        assert!(!headers.contains_key("ce-unset") && !headers.contains_key("ce-datacontenttype"));
        assert_eq!(body, "<a/>");
    }
}

#[test]
fn data_of_a_json_event_is_a_value_a_text_or_bytes() {
    let event = |rest: &str| {
        let text = format!(r#"{{"specversion":"1.0","id":"1","source":"s","type":"t"{rest}}}"#);
        CloudEvent::read(&Headers::default(), None, &text.into()).unwrap().write(Mode::Binary)
    };
    for (rest, kind, body) in [
        ("", None, ""),
        (r#","data":"I'm a string""#, Some("application/json"), r#""I'm a string""#),
        (r#","data":null"#, Some("application/json"), "null"),
        (r#","data":12345678901234567890.10"#, Some("application/json"), "12345678901234567890.10"),
        (r#","datacontenttype":"text/plain","data":"a\nb""#, Some("text/plain"), "a\nb"),
        (r#","datacontenttype":"a/b","data_base64":"aGk=""#, Some("a/b"), "hi"),
        (r#","data_base64":"aGk=""#, Some("application/octet-stream"), "hi"),
    ] {
        let (headers, sent) = event(rest);
        assert_eq!(headers.get("content-type").map(|kind| kind.to_str().unwrap()), kind, "{rest}");
        assert_eq!(sent, body, "{rest}");
    }
}

#[test]
fn what_breaks_a_rule_is_no_event() {
    for (rest, why) in [
        (r#""specversion":"0.3","id":"1","source":"s","type":"t""#, "another version"),
        (r#""specversion":"1.0","source":"s","type":"t""#, "no id"),
        (r#""specversion":"1.0","id":"","source":"s","type":"t""#, "an empty id"),
        (r#""specversion":"1.0","id":1,"source":"s","type":"t""#, "an id that is no text"),
        (r#""specversion":"1.0","id":"1","source":"s","type":"t","my-ext":"1""#, "a name with a dash"),
        (r#""specversion":"1.0","id":"1","source":"s","type":"t","ext":{}"#, "an object"),
        (r#""specversion":"1.0","id":"1","source":"s","type":"t","ext":1.5"#, "a fraction"),
        (r#""specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":"aGk=""#, "two data"),
        (r#""specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"~""#, "no base64"),
    ] {
        let text = Bytes::from(format!("{{{rest}}}"));
        let claim = headers(&[("Content-Type", "application/cloudevents+json")]);
        assert!(CloudEvent::read(&claim, None, &text).is_none(), "{why}");
        assert!(CloudEvent::read(&Headers::default(), None, &text).is_none(), "{why}");
    }
    assert!(read(&BINARY[..3], "{}").is_none(), "no type");
    assert!(read(&[BINARY.as_slice(), &[("ce-x", "%C0%A0")]].concat(), "{}").is_none(), "not UTF-8");
    assert!(read(&[("Content-Type", "text/plain")], WHOLE).is_none(), "a text that looks like one");
    assert!(read(&[("Content-Type", "application/cloudevents-batch+json")], WHOLE).is_none(), "a batch");
}

#[test]
fn what_was_made_of_a_message_says_what_it_is() {
    let body = Bytes::from_static(b"<a/>");
    let event = CloudEvent::read(&headers(&BINARY), Some("text/xml"), &body).unwrap();
    assert_eq!(as_json(&event)["datacontenttype"], "text/xml");
    assert_eq!(as_json(&event)["data"], "<a/>");
}

fn making<'a>(content_type: Option<&'a str>, body: &'a Bytes) -> Making<'a> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001);
    Making { id: "E-1", source: "/natshook/E", kind: "a.b", subject: "a.b", time, content_type, body }
}

#[test]
fn a_message_that_is_none_becomes_one() {
    for (said, body, kind, data) in [
        (None, "{\"a\":1}", "application/json", Some(serde_json::json!({"a": 1}))),
        (Some("text/csv"), "a,b", "text/csv", Some(serde_json::json!("a,b"))),
        (Some("application/json"), "{", "application/json", None),
        (None, "a,b", "application/octet-stream", None),
        (Some("application/pdf"), "%PDF", "application/pdf", None),
        (Some("application/cloudevents+json"), "{}", "application/json", Some(serde_json::json!({}))),
    ] {
        let body = Bytes::from_static(body.as_bytes());
        let event = CloudEvent::make(making(said, &body));
        let json = as_json(&event);
        for (name, value) in [
            ("specversion", "1.0"),
            ("id", "E-1"),
            ("source", "/natshook/E"),
            ("type", "a.b"),
            ("subject", "a.b"),
            ("time", "2023-11-14T22:13:20.000001Z"),
            ("datacontenttype", kind),
        ] {
            assert_eq!(json[name], value, "{name} of {body:?}");
        }
        assert_eq!(json.get("data"), data.as_ref(), "{body:?}");
        assert_eq!(json.get("data_base64").is_some(), data.is_none(), "{body:?}");
        let (headers, sent) = event.write(Mode::Binary);
        assert_eq!((&headers["content-type"], &sent), (&http::HeaderValue::from_str(kind).unwrap(), &body));
    }
}

#[test]
fn an_event_without_data_has_none() {
    let event = CloudEvent::make(making(None, &Bytes::new()));
    let json = as_json(&event);
    assert!(json.get("data").is_none() && json.get("data_base64").is_none());
    assert!(json.get("datacontenttype").is_none());
}

#[test]
fn the_source_is_the_stream_whatever_its_name() {
    let mut message = Message {
        subject: "a".into(),
        payload: Bytes::new(),
        headers: Headers::default(),
        origin: Origin::Stored { stream: "événements".into(), sequence: 7 },
        published: SystemTime::UNIX_EPOCH,
    };
    assert_eq!(default_source(&message), "/natshook/%C3%A9v%C3%A9nements");
    message.origin = Origin::Passing { id: "core-1".into(), reply: None };
    assert_eq!(default_source(&message), "/natshook");
}

proptest! {
    /// Whatever is made in one mode is the same event when it is read again, and so in the other mode.
    #[test]
    fn an_event_is_the_same_after_either_mode(
        id in "\\PC{1,12}", kind in "\\PC{1,12}", body in "\\PC{0,30}", said in "(text/plain|application/json|a/b)?",
    ) {
        let body = Bytes::from(body);
        let said = Some(said.as_str()).filter(|said| !said.is_empty());
        let event = CloudEvent::make(Making { id: &id, kind: &kind, ..making(said, &body) });
        let (headers, sent) = event.write(Mode::Binary);
        let pairs = headers.iter().map(|(n, v)| (n.to_string(), v.to_str().unwrap().to_owned())).collect();
        let binary = CloudEvent::read(&Headers(pairs), None, &sent);
        let structured = CloudEvent::read(&Headers::default(), None, &event.json());
        for again in [binary, structured] {
            let again = again.unwrap();
            let (same, data) = again.write(Mode::Binary);
            prop_assert_eq!(&same, &headers);
            prop_assert_eq!(data, &sent);
        }
    }

    #[test]
    fn nothing_that_comes_is_too_strange_to_be_read(
        pairs in prop::collection::vec(("(ce-)?[a-zA-Z-]{0,6}", "\\PC{0,12}"), 0..6), body in "\\PC{0,40}",
    ) {
        let _ = CloudEvent::read(&Headers(pairs), None, &Bytes::from(body));
    }
}
