//! What a content type says of data: whether it is an event, JSON or a text, and what to call data of which nothing is
//! said.

use std::borrow::Cow;

use serde::de::IgnoredAny;

const JSON: &str = "application/json";
/// What data is that nobody says anything about (RFC 9110, 8.3).
const UNKNOWN: &str = "application/octet-stream";

/// Type and subtype, without parameters.
fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// The subtype, in whatever case it was written.
fn subtype(content_type: &str) -> &str {
    essence(content_type).split_once('/').map_or("", |(_, subtype)| subtype)
}

fn has_suffix(text: &str, suffix: &str) -> bool {
    text.len() > suffix.len() && text[text.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

/// Whether this claims to be an event, or several, in whatever format (HTTP protocol binding, 3).
pub(super) fn claims_events(content_type: &str) -> bool {
    const PREFIX: &str = "application/cloudevents";
    essence(content_type).get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Whether this claims to be one event in JSON. The NATS binding leaves the `+json` out.
pub(super) fn claims_json_event(content_type: &str) -> bool {
    let essence = essence(content_type);
    essence.eq_ignore_ascii_case(super::STRUCTURED_TYPE)
        || essence.eq_ignore_ascii_case("application/cloudevents")
}

/// Whether this is JSON (JSON event format, 3.1.1).
pub(super) fn is_json(content_type: &str) -> bool {
    let subtype = subtype(content_type);
    subtype.eq_ignore_ascii_case("json") || has_suffix(subtype, "+json")
}

/// Whether this is a text in UTF-8, which a JSON event can hold as it is.
pub(super) fn is_text(content_type: &str) -> bool {
    let text = essence(content_type).get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"));
    let subtype = subtype(content_type);
    let xml = subtype.eq_ignore_ascii_case("xml") || has_suffix(subtype, "+xml");
    let charset = content_type
        .split(';')
        .skip(1)
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))
        .map(|(_, charset)| charset.trim().trim_matches('"'));
    let readable = charset.is_none_or(|charset| {
        charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("us-ascii")
    });
    (text || xml) && readable
}

/// What to call `body`: what is said of it, unless that is nothing, or a claim to be an event that it is not.
pub(super) fn type_of<'a>(said: Option<&'a str>, body: &[u8]) -> Cow<'a, str> {
    match said.filter(|said| !said.trim().is_empty() && !claims_events(said)) {
        Some(said) => Cow::Borrowed(said),
        None if serde_json::from_slice::<IgnoredAny>(body).is_ok() => Cow::Borrowed(JSON),
        None => Cow::Borrowed(UNKNOWN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_by_its_subtype() {
        for json in ["application/json", "text/JSON; charset=utf-8", "application/vnd.a+json;v=1"] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", "json", "application/jsonp", "application/+json", "text/plain; a=application/json"]
        {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn texts_are_those_that_json_can_hold() {
        for text in ["text/csv", "TEXT/plain; Charset=\"UTF-8\"", "application/xml", "image/svg+xml"] {
            assert!(is_text(text), "{text}");
        }
        for other in ["", "text", "application/pdf", "text/plain; charset=iso-8859-1", "application/texté"] {
            assert!(!is_text(other), "{other}");
        }
    }

    #[test]
    fn a_claim_to_be_an_event_is_told_whatever_its_format() {
        for event in ["application/cloudevents", "Application/CloudEvents+JSON; charset=UTF-8"] {
            assert!(claims_events(event) && claims_json_event(event), "{event}");
        }
        for other in ["application/cloudevents+avro", "application/cloudevents-batch+json"] {
            assert!(claims_events(other) && !claims_json_event(other), "{other}");
        }
        assert!(!claims_events("application/cloud") && !claims_events("application/cloudévents"));
    }

    #[test]
    fn data_of_which_nothing_true_is_said_is_looked_at() {
        assert_eq!(type_of(Some("text/csv"), b"1"), "text/csv");
        assert_eq!(type_of(None, b" {\"a\": 1}\n"), "application/json");
        assert_eq!(type_of(Some(""), b"a,b"), "application/octet-stream");
        assert_eq!(type_of(Some("application/cloudevents+json"), b"{}"), "application/json");
        assert_eq!(type_of(Some("application/cloudevents+avro"), b"\x01"), "application/octet-stream");
    }
}
