//! What templates make of messages, and what is told of bad ones.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::message::{Headers, Origin};
use bytes::Bytes;
use proptest::prelude::*;
use std::time::SystemTime;

fn message(payload: &str) -> Message {
    Message {
        subject: "orders.eu.created".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers(vec![("X-Tenant".into(), "acme".into()), ("x-tenant".into(), "other".into())]),
        origin: Origin::Passing { id: "1".into(), reply: None },
        published: SystemTime::UNIX_EPOCH,
    }
}

fn rendered(template: &str, payload: &str) -> Result<String, String> {
    Template::new(template).unwrap().render(&Parts::new(&message(payload)))
}

#[test]
fn places_are_filled_with_parts_of_the_message() {
    let payload = r#"{"a": {"b": ["x", 7, 1.5, true]}, "odd name": "o", "none": null}"#;
    for (template, text) in [
        ("plain } text", "plain } text"),
        ("{{ subject }}", "orders.eu.created"),
        ("{{subject[1]}}-{{ subject[0] }}!", "eu-orders!"),
        ("{{ headers[\"x-TENANT\"] }}", "acme"),
        (
            "{{ payload.a.b[0] }}/{{ payload.a.b[1] }}/{{ payload.a.b[2] }}/{{ payload.a.b[3] }}",
            "x/7/1.5/true",
        ),
        ("{{ payload[\"odd name\"] }}", "o"),
        ("{{ payload.none | default(\"-\") }}{{ payload.x.y | default(\"a \\\"b\\\"\") }}", "-a \"b\""),
        ("{{ subject[9] | default(\"\") }}", ""),
        ("{{ \"{{ no place }}\" }}", "{{ no place }}"),
    ] {
        assert_eq!(rendered(template, payload), Ok(text.to_owned()), "{template}");
    }
}

#[test]
fn what_is_missing_is_an_error_that_says_nothing_of_the_message() {
    for (template, payload, error) in [
        ("{{ payload.x }}", "{}", "payload.x is missing; to do without it write payload.x | default(\"…\")"),
        ("{{ subject[3] }}", "", "subject[3] is missing; to do without it write subject[3] | default(\"…\")"),
        (
            "{{ payload.a }}",
            r#"{"a": ["secret"]}"#,
            "payload.a: is a list, and not a text, a number, true or false",
        ),
        (
            "{{ payload.a | default(\"x\") }}",
            "secret",
            "payload.a: the payload is not JSON: expected value at line 1 column 1",
        ),
    ] {
        assert_eq!(rendered(template, payload), Err(error.to_owned()), "{template}");
    }
    assert_eq!(rendered("{{ subject[1] }}", "not json"), Ok("eu".to_owned()), "it does not read the payload");
}

#[test]
fn a_bad_template_is_told_at_the_place() {
    for (template, column, problem) in [
        ("a {{ subject", 13, "expected }} here"),
        (
            "{{ tenant }}",
            4,
            "unknown name \"tenant\"; known are subject, subject[1], headers[\"X-Name\"] and payload.field",
        ),
        ("{{ tokens[1] }}", 4, "unknown name \"tokens\"; write subject[1] for the second token"),
        ("{{ }}", 4, "expected a name; known are subject, subject[1], headers[\"X-Name\"] and payload.field"),
        ("{{ payload }}", 4, "expected a field of the payload: payload.field"),
        ("{{ headers.a.b }}", 4, "expected the name of one header: headers[\"X-Name\"]"),
        ("{{ payload.a[-1] }}", 14, "expected a number from 0, or a name in quotes"),
        ("{{ payload. }}", 12, "expected a field's name; one with other characters is written [\"…\"]"),
        ("{{ payload.a | upper }}", 16, "expected default(\"…\")"),
        ("{{ payload.a | default(\"x) }}", 25, "a text in quotes does not end"),
        ("{{ payload.a + 1 }}", 14, "expected }} here"),
    ] {
        let misread = Template::new(template).unwrap_err();
        assert_eq!((misread.column, misread.problem.as_str()), (column, problem), "{template}");
    }
}

#[test]
fn a_printed_template_shows_no_text_around_its_places() {
    let shown = format!("{:?}", Template::new("hunter2 {{ subject[1] | default(\"hunter2\") }}").unwrap());
    assert_eq!(shown, "Template[\"subject[1]\"]");
}

proptest! {
    #[test]
    fn whatever_is_written_or_sent_it_does_no_harm(template in "[{} a-z.\\[\\]0-9\"|()é]{0,40}", payload in ".{0,40}") {
        if let Ok(template) = Template::new(&template) {
            let _ = template.render(&Parts::new(&message(&payload)));
        }
    }
}
