//! What filters want, what they cannot judge, and what is told of bad ones.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::message::{Headers, Origin};
use crate::shape::PROGRAM_BYTES_MAX;
use bytes::Bytes;
use proptest::prelude::*;
use std::time::SystemTime;

fn message(payload: &str) -> Message {
    let headers = [("X-Tenant", "acme"), ("x-tenant", "other"), ("Nats-Msg-Id", "7")];
    Message {
        subject: "orders.eu.created".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers: Headers(headers.map(|(name, value)| (name.into(), value.into())).into()),
        origin: Origin::Passing { id: "1".into(), reply: None },
        published: SystemTime::UNIX_EPOCH,
    }
}

const ORDER: &str = r#"{"id": 7, "total": 12.5, "big": 18446744073709551615, "customer": {"tier": "gold", "name": null},
    "items": [{"sku": "a", "tags": ["x"]}, {"sku": "b", "tags": ["y", "z"]}]}"#;

fn wants(filter: &str, payload: &str) -> Result<bool, String> {
    Filter::new(filter).unwrap().wants(&message(payload))
}

#[test]
fn payload_headers_and_subject_decide() {
    for (filter, wanted) in [
        ("payload.id == 7", true),
        ("payload.total > 10", true),
        ("payload.total + 1.0 > 13.5", false),
        ("payload.big > 1.0e18", true),
        ("payload.customer.tier in ['gold', 'silver']", true),
        ("payload.customer.name == null", true),
        ("has(payload.customer.phone)", false),
        ("payload.?customer.?phone.orValue('none') == 'none'", true),
        ("payload.items[1].sku == 'b'", true),
        ("size(payload.items) == 2 && payload.items.size() == 2", true),
        ("payload.items.exists(i, i.tags.exists(t, t == 'z'))", true),
        ("payload.items.all(i, i.sku.matches('^[a-b]$'))", true),
        ("payload.items.map(i, i.sku) == ['a', 'b']", true),
        ("payload.items.filter(i, i.sku == 'a').size() == 1", true),
        ("headers['x-tenant'] == 'acme'", true),
        ("'x-none' in headers", false),
        ("subject.startsWith('orders.') && !subject.endsWith('.deleted')", true),
        ("tokens[1] == 'eu' && size(tokens) == 3", true),
        ("type(payload.id) == int && type(payload.total) == double", true),
        ("string(payload.id) + '!' == '7!' && int('7') == payload.id", true),
        ("true ? subject.contains('eu') : false", true),
    ] {
        assert_eq!(wants(filter, ORDER), Ok(wanted), "{filter}");
    }
}

#[test]
fn what_does_not_read_the_payload_takes_any() {
    assert_eq!(wants("tokens[1] == 'eu'", "\u{0}not json"), Ok(true));
    let error = wants("payload.id == 7", "not json").unwrap_err();
    assert_eq!(error, "the payload is not JSON: expected ident at line 1 column 2");
}

#[test]
fn what_cannot_be_judged_is_told_without_the_message() {
    for (filter, error) in [
        ("payload.missing == 1", "there is no field \"missing\""),
        ("payload.id", "the value is of type int, and not true or false"),
        ("payload.customer > 1", "found no matching overload for '_>_' applied to '(map, int)'"),
        ("payload.items[9].sku == 'a'", "an index beyond the end of a list"),
        ("payload.id / 0 == 1", "a division by zero"),
        ("int(payload.customer.tier) == 1", "int cannot take this value"),
        ("payload.id.contains('a')", "found no matching overload for 'contains' applied to 'int.(string)'"),
    ] {
        assert_eq!(wants(filter, ORDER), Err(error.to_owned()), "{filter}");
    }
}

#[test]
fn a_bad_filter_is_told_at_the_place() {
    for (filter, at, problem) in [
        ("paylod.id == 7", (1, 1), "unknown variable \"paylod\"; did you mean \"payload\"?"),
        (
            "payload.id == 7 &&\n  region == 'eu'",
            (2, 3),
            "unknown variable \"region\"; known are payload, headers, subject, tokens",
        ),
        (
            "payload.name.startswith('a')",
            (1, 24),
            "unknown function \"startswith\"; did you mean \"startsWith\"?",
        ),
        (
            "payload.items.exists(i, j == 1)",
            (1, 25),
            "unknown variable \"j\"; known are payload, headers, subject, tokens",
        ),
        ("subject.matches('(')", (1, 16), "this pattern is no regular expression"),
        ("subject.matches(payload.pattern)", (1, 16), "matches needs its pattern as a literal text"),
        ("subject.matches('(\\\\w{100}){100}')", (1, 16), "this pattern is too large"),
    ] {
        let misread = Filter::new(filter).unwrap_err();
        assert_eq!(((misread.line, misread.column), misread.problem.as_str()), (at, problem), "{filter}");
    }
    for filter in ["payload.id ==", "", "payload..id", "a b", "'open"] {
        let misread = Filter::new(filter).unwrap_err();
        assert!(misread.line == 1 && !misread.problem.is_empty(), "{filter}: {misread}");
    }
}

#[test]
fn every_function_that_is_named_exists() {
    for call in [
        "bool('true')",
        "bytes('a') == b'a'",
        "'a'.contains('a')",
        "double(1) == 1.0",
        "dyn(1) == 1",
        "'a'.endsWith('a')",
        "payload.?id.hasValue()",
        "int(1.0) == 1",
        "'a'.matches('a')",
        "payload.?x.or(payload.?id).value() == 7",
        "payload.?x.orValue(true)",
        "size('a') == 1",
        "'a'.startsWith('a')",
        "string(1) == '1'",
        "type(1) == int",
        "uint(1) == 1u",
    ] {
        assert_eq!(wants(call, ORDER), Ok(true), "{call}");
    }
}

#[test]
fn what_is_nested_deep_is_refused_or_evaluated_and_does_no_harm() {
    for (open, end, close) in [
        ("(", "true", ")"),
        ("!", "true", ""),
        ("[", "1", "]"),
        ("true && ", "true", ""),
        ("1 + ", "1", ""),
        ("", "1", " + 1"),
        ("", "payload", ".a"),
        ("", "payload", "[0]"),
        ("true ? true : ", "true", ""),
        ("{'a': ", "1", "}"),
        ("-", "1", ""),
    ] {
        let n = (PROGRAM_BYTES_MAX - end.len()) / (open.len() + close.len());
        let filter = format!("{}{end}{}", open.repeat(n), close.repeat(n));
        if let Ok(filter) = Filter::new(&filter) {
            let _ = filter.wants(&message(ORDER));
        }
    }
    assert_eq!(Filter::new(&" ".repeat(9_000)).unwrap_err().problem, "is longer than 4096 bytes");
}

#[test]
fn only_loops_need_a_worker() {
    assert!(!Filter::new("payload.a == 1 && has(payload.b) && subject.matches('^a')").unwrap().loops());
    assert!(Filter::new("payload.a.exists(x, x == 1)").unwrap().loops());
    assert!(Filter::new("payload.a == 1 || payload.b.map(x, x).size() > 1").unwrap().loops());
}

proptest! {
    #[test]
    fn whatever_is_written_or_sent_it_does_no_harm(filter in "[a-z().'\\[\\]0-9 =&|!?:,{}]{0,40}", payload in ".{0,60}") {
        if let Ok(filter) = Filter::new(&filter) {
            let _ = filter.wants(&message(&payload));
        }
    }
}
