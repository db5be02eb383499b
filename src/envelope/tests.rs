//! What is written is read back, and what strangers write does no harm.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;

use bytes::Bytes;

use super::*;
use crate::message::Failed;
use proptest::prelude::*;

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn delivery(headers: Vec<(String, String)>, attempts: u32, seconds: u64) -> Delivery {
    let at = UNIX_EPOCH + Duration::from_secs(seconds);
    Delivery {
        message: Message {
            subject: "orders.created".into(),
            payload: Bytes::from_static(b"\x00\xff"),
            headers: Headers(headers),
            origin: Origin::Stored { stream: "EVENTS".into(), sequence: 9 },
            published: at,
        },
        failed: NonZeroU32::new(attempts).map(|attempts| Failed {
            attempts,
            first_attempt: at,
            last_attempt: at + Duration::from_nanos(5),
            last_status: Some(503),
            last_error: "answered 503".into(),
            response: Bytes::from_static(b"busy"),
        }),
        refused: None,
        answer: None,
        replayed: None,
        trace: (attempts % 2 == 1).then(|| TRACEPARENT.parse().unwrap()),
    }
}

fn stored(headers: Headers, payload: Bytes) -> Message {
    Message {
        subject: "natshook.retry.a".into(),
        payload,
        headers,
        origin: Origin::Stored { stream: "NATSHOOK_RETRY".into(), sequence: 1 },
        // Later than any time in these tests is due.
        published: UNIX_EPOCH + Duration::from_secs(5_000_000_000),
    }
}

/// Of a message at 9 of EVENTS, published 5 s after the epoch.
const DEAD_ID: &str = "EVENTS:9:5000000000:a:dead";

#[test]
fn a_refusal_is_told_although_no_attempt_was_made() {
    let refused = Delivery { refused: Some("no such key\nat all".into()), ..delivery(vec![], 0, 5) };
    let headers = dead_letter_headers(&refused, "a", Reason::FilterError);
    assert_eq!(headers.get("Natshook-Last-Error"), Some("no such key at all"), "before any attempt");
    let refused = Delivery { refused: refused.refused, ..delivery(vec![], 2, 5) };
    let headers = dead_letter_headers(&refused, "a", Reason::FilterError);
    assert_eq!(headers.get("Natshook-Last-Error"), Some("no such key at all"), "and after some");
    let letter = read_letter(stored(headers, Bytes::new()));
    assert_eq!((letter.attempts, letter.last_error.as_str()), (2, "no such key at all"));
}

#[test]
fn headers_that_would_steer_the_broker_or_us_are_kept_under_another_name() {
    let original = vec![
        ("Nats-Rollup".to_owned(), "all".to_owned()),
        ("natshook-target".to_owned(), "other".to_owned()),
        ("X-Plain".to_owned(), "1".to_owned()),
    ];
    let headers = dead_letter_headers(&delivery(original, 1, 5), "a", Reason::PermanentStatus);
    assert_eq!(headers.get("Nats-Rollup"), None);
    assert_eq!(headers.get("Natshook-Original-Nats-Rollup"), Some("all"));
    assert_eq!(headers.get(TARGET), Some("a"));
    assert_eq!(headers.get("X-Plain"), Some("1"));
    assert_eq!(headers.get(MESSAGE_ID_HEADER), Some(DEAD_ID));
}

#[test]
fn a_stranger_s_message_is_refused_by_the_header_it_lacks() {
    let bare = stored(Headers::default(), Bytes::new());
    assert_eq!(read_waiting(bare), Err(UnreadableError::Missing(TARGET)));
}

#[test]
fn what_no_natshook_would_have_written_is_refused_by_its_header() {
    let headers = waiting_headers(&delivery(Vec::new(), 1, 5), "a", UNIX_EPOCH);
    for (name, value, error) in [
        (TARGET, "a.b", UnreadableError::Bad(TARGET)),
        (TARGET, "a b 3", UnreadableError::Bad(TARGET)),
        (TARGET, "", UnreadableError::Bad(TARGET)),
        (SUBJECT, &"x".repeat(20_000), UnreadableError::Bad(SUBJECT)),
        (STREAM, &"x".repeat(256), UnreadableError::Bad(STREAM)),
        (STREAM, "a.>", UnreadableError::Bad(STREAM)),
        (NOT_BEFORE, "9999-12-31T23:59:60Z", UnreadableError::TooLate(NOT_BEFORE)),
        (NOT_BEFORE, "1969-12-31T23:59:59Z", UnreadableError::Bad(NOT_BEFORE)),
        (ATTEMPTS, "4294967296", UnreadableError::Bad(ATTEMPTS)),
        (SEQUENCE, "-1", UnreadableError::Bad(SEQUENCE)),
    ] {
        let mut forged = headers.clone();
        forged.0.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| *v = value.to_owned());
        assert_eq!(read_waiting(stored(forged, Bytes::new())), Err(error), "{name}: {value:?}");
    }
}

#[test]
fn a_trace_that_cannot_be_read_is_none_and_a_dead_letter_names_its_trace() {
    let mut headers = waiting_headers(&delivery(Vec::new(), 1, 5), "a", UNIX_EPOCH);
    headers.0.iter_mut().filter(|(name, _)| name == TRACE).for_each(|(_, value)| value.push('x'));
    let read = read_waiting(stored(headers, Bytes::new())).unwrap();
    assert_eq!(read.delivery.trace, None);
    let headers = dead_letter_headers(&delivery(Vec::new(), 1, 5), "a", Reason::PermanentStatus);
    assert_eq!(headers.get(TRACE), Some(TRACEPARENT));
}

#[test]
fn a_dead_letter_without_headers_of_its_own_says_what_it_lacks() {
    let delivery =
        delivery(vec![("X-Large".to_owned(), "x".repeat(93)), ("Nats-TTL".into(), "1".into())], 1, 5);
    let mut headers = dead_letter_headers(&delivery, "a", Reason::AttemptsExhausted);
    omit_body(&mut headers, &delivery.message);
    omit_original_headers(&mut headers, &delivery.message);
    assert_eq!(headers.get("X-Large").or(headers.get("Natshook-Original-Nats-TTL")), None);
    assert_eq!(headers.get(MESSAGE_ID_HEADER), Some(DEAD_ID));
    assert_eq!(headers.get(REASON), Some("attempts_exhausted"));
    let note = "omitted: 109 bytes are more than the server takes; they are in stream EVENTS at 9";
    assert_eq!(headers.get(HEADERS), Some(note));
}

#[test]
fn each_copy_of_a_waiting_delivery_is_renewed_under_an_id_of_its_own() {
    let waiting = |copy| Waiting {
        delivery: delivery(vec![], 1, 5),
        target: "a".into(),
        not_before: UNIX_EPOCH,
        copy,
        letter: None,
    };
    let id = |copy| renewed_headers(&waiting(copy)).get(MESSAGE_ID_HEADER).map(str::to_owned);
    assert_eq!(id(7).as_deref(), Some("EVENTS:9:5000000000:a:1:after-7"));
    assert_ne!(id(7), id(8));
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        names in prop::collection::vec("(Nats-|Natshook-|natshook-original-|X-)[A-Za-z]{1,8}", 0..4),
        attempts in 0_u32..20,
        seconds in 0_u64..4_000_000_000,
    ) {
        let original: Vec<_> = names.into_iter().map(|name| (name, "v".to_owned())).collect();
        let delivery = delivery(original, attempts, seconds);
        let not_before = UNIX_EPOCH + Duration::from_secs(seconds + 30);
        let headers = waiting_headers(&delivery, "a", not_before);
        let read = read_waiting(stored(headers, delivery.message.payload.clone())).unwrap();
        prop_assert_eq!(read, Waiting { delivery, target: "a".into(), not_before, copy: 1, letter: None });
    }

    #[test]
    fn nothing_a_stranger_writes_makes_reading_fail_otherwise(
        values in prop::collection::vec(("(Natshook-(Target|Attempts|Not-Before|Published|Subject|Stream|Sequence|First-Attempt))", "\\PC{0,12}"), 0..10),
    ) {
        let _ = read_waiting(stored(Headers(values), Bytes::new()));
    }
}

fn letter(of: &Delivery, reason: Reason) -> DeadLetter {
    let headers = dead_letter_headers(of, "a", reason);
    let subject = "natshook.dead-letter.a".into();
    read_letter(Message { subject, ..stored(headers, of.message.payload.clone()) })
}

#[test]
fn a_replayed_delivery_has_ids_that_nothing_had_before() {
    let mut delivery = delivery(vec![], 1, 5);
    let letter = letter(&delivery, Reason::PermanentStatus);
    let id = |headers: Headers| headers.get(MESSAGE_ID_HEADER).unwrap().to_owned();
    let copy = |at| id(replayed_headers(&delivery, "a", ReplayOf::Letter(letter.mark()), at));
    let later = UNIX_EPOCH + Duration::from_secs(9);
    assert_eq!(copy(UNIX_EPOCH), "EVENTS:9:5000000000:a:replay-1-5000000000000000000");
    assert_eq!(copy(UNIX_EPOCH), copy(later), "the broker keeps one, however often it is stored");
    let (first, dead) = (
        id(waiting_headers(&delivery, "a", UNIX_EPOCH)),
        id(dead_letter_headers(&delivery, "a", Reason::PermanentStatus)),
    );
    delivery.replayed = Some(later);
    assert_ne!(id(waiting_headers(&delivery, "a", UNIX_EPOCH)), first);
    assert_ne!(id(dead_letter_headers(&delivery, "a", Reason::PermanentStatus)), dead);
}

#[test]
fn a_letter_that_natshook_cannot_have_written_is_shown_and_is_no_delivery() {
    let bare = read_letter(Message {
        subject: "natshook.dead-letter.a".into(),
        ..stored(Headers::default(), Bytes::new())
    });
    assert_eq!((bare.target.as_str(), bare.reason.as_str(), bare.attempts), ("a", "", 0));
    assert_eq!(bare.delivery(UNIX_EPOCH), Err(NotReplayable::Header(UnreadableError::Missing(TARGET))));
    let mut other = letter(&delivery(vec![], 1, 5), Reason::PermanentStatus);
    other.target = "b".to_owned();
    assert_eq!(other.delivery(UNIX_EPOCH), Err(NotReplayable::Header(UnreadableError::Bad(TARGET))));
    let unreadable = letter(&delivery(vec![], 1, 5), Reason::Unreadable);
    assert_eq!(unreadable.delivery(UNIX_EPOCH), Err(NotReplayable::Unreadable));
}

#[test]
fn what_a_letter_does_not_hold_is_where_it_came_from_or_nowhere() {
    let mut delivery = delivery(vec![], 1, 5);
    let mut omitting = |origin: Origin| {
        delivery.message.origin = origin;
        let mut headers = dead_letter_headers(&delivery, "a", Reason::PermanentStatus);
        omit_body(&mut headers, &delivery.message);
        read_letter(stored(headers, Bytes::new())).rest()
    };
    let place = Place { stream: "EVENTS".into(), sequence: 9, what: "body" };
    assert_eq!(omitting(Origin::Stored { stream: "EVENTS".into(), sequence: 9 }), Ok(Some(place)));
    let passing = omitting(Origin::Passing { id: "core-x".into(), reply: None });
    assert_eq!(passing, Err(NotReplayable::NeverStored("body")));
}

proptest! {
    #[test]
    fn a_dead_letter_becomes_the_delivery_that_it_was(
        names in prop::collection::vec("(Nats-|Natshook-|natshook-original-|X-)[A-Za-z]{1,8}", 0..4),
        attempts in 0_u32..20,
        seconds in 0_u64..4_000_000_000,
        core in prop::bool::ANY,
        nanos in 0_u64..u64::MAX,
    ) {
        let original: Vec<_> = names.into_iter().map(|name| (name, "v".to_owned())).collect();
        let mut delivery = delivery(original, attempts, seconds);
        if core {
            delivery.message.origin = Origin::Passing { id: "core-Ab9".into(), reply: None };
        }
        let letter = letter(&delivery, Reason::TooOld);
        prop_assert_eq!(letter.webhook_id(), Some(delivery.message.webhook_id()));
        prop_assert_eq!(letter.attempts, attempts);
        let now = UNIX_EPOCH + Duration::from_nanos(nanos);
        let (target, again) = letter.delivery(now).unwrap();
        prop_assert_eq!(target.as_str(), "a");
        prop_assert_eq!(&again, &Delivery { failed: None, replayed: Some(now), ..delivery.clone() });

        let mark = LetterMark { id: nanos, stored: now };
        let headers = replayed_headers(&again, "a", ReplayOf::Letter(mark), UNIX_EPOCH);
        let waiting = read_waiting(stored(headers, again.message.payload.clone())).unwrap();
        prop_assert_eq!(&waiting.delivery, &again);
        prop_assert_eq!(waiting.letter, Some(mark));
        let renewed = read_waiting(stored(renewed_headers(&waiting), Bytes::new())).unwrap();
        prop_assert_eq!(renewed.letter, Some(mark), "a copy names its letter until that is removed");
    }

    #[test]
    fn no_stranger_s_letter_breaks_a_listing(
        values in prop::collection::vec(("(Natshook-(Target|Reason|Attempts|Published|Replayed|Subject|Stream|Sequence|Id|Dead-Letter|Body|Headers|Last-Status))", "\\PC{0,12}|[0-9@]{0,24}"), 0..12),
    ) {
        let stored = stored(Headers(values), Bytes::new());
        let _ = read_waiting(stored.clone());
        let letter = read_letter(stored);
        let _ = (letter.delivery(UNIX_EPOCH), letter.rest(), letter.webhook_id());
    }
}
