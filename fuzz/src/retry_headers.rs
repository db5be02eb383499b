//! What stands in the retry queue, where anybody may write: it is refused by the header that is wrong, or it is a
//! delivery that is written again as it was read.

use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use natshook::{
    disposition::Reason,
    envelope::{dead_letter_headers, read_letter, read_waiting, waiting_headers},
    message::{Headers, Message, Origin},
    target::TargetName,
};

use super::headers_and_payload;

/// Reads a message of the retry queue whose headers and payload are `bytes`.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let (headers, payload) = headers_and_payload(&text);
    let headers = headers.into_iter().filter(|(name, _)| name.is_ascii()).collect();
    let Ok(first) = read_waiting(stored(Headers(headers), payload)) else { return };
    assert!(TargetName::new(&first.target).is_some(), "{:?} is no target", first.target);
    let id = first.delivery.message.webhook_id();
    assert!(id.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.'), "{id:?}");

    let written = waiting_headers(&first.delivery, &first.target, first.not_before);
    let second = match read_waiting(stored(written, payload)) {
        Ok(second) => second,
        Err(error) => panic!("what natshook writes it cannot read: {error}"),
    };
    assert_eq!((&second.target, second.not_before), (&first.target, first.not_before));
    assert_eq!(second.delivery.attempts(), first.delivery.attempts());
    assert_eq!(second.delivery.message, first.delivery.message, "the message itself is as it was");
    // Texts of an error are cut to what is kept; after that nothing changes any more.
    let written = waiting_headers(&second.delivery, &second.target, second.not_before);
    let third = read_waiting(stored(written, payload));
    assert_eq!(third.map(|third| third.delivery), Ok(second.delivery.clone()));

    let headers = dead_letter_headers(&second.delivery, &second.target, Reason::AttemptsExhausted);
    let letter = read_letter(Message {
        subject: format!("natshook.dead-letter.{}", second.target),
        ..stored(headers, payload)
    });
    let again = letter.delivery(UNIX_EPOCH).map(|(_, delivery)| delivery.message);
    assert_eq!(again.as_ref(), Ok(&second.delivery.message), "a dead letter becomes the message that it was");

    for headers in [
        waiting_headers(&second.delivery, &second.target, second.not_before),
        dead_letter_headers(&second.delivery, &second.target, Reason::AttemptsExhausted),
    ] {
        one_of_each(&headers, &second.delivery.message.headers);
    }
}

/// natshook's own headers and the broker's stand there once, whatever the original message brought along.
fn one_of_each(headers: &Headers, originals: &Headers) {
    for (index, (name, _)) in headers.iter().enumerate() {
        let lower = name.to_ascii_lowercase();
        if lower.starts_with("natshook-original-")
            || !(lower.starts_with("nats-") || lower.starts_with("natshook-"))
        {
            continue;
        }
        let first = headers.iter().position(|(other, _)| other.eq_ignore_ascii_case(name));
        assert_eq!(first, Some(index), "{name} twice");
        assert!(lower.starts_with("natshook-") || lower == "nats-msg-id", "{name} would steer the broker");
    }
    let kept = headers.iter().count();
    assert!(kept >= originals.iter().count(), "headers of the message are lost");
}

fn stored(headers: Headers, payload: &str) -> Message {
    Message {
        subject: "natshook.retry.fuzzed".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        headers,
        origin: Origin::Stored { stream: "NATSHOOK_RETRY".into(), sequence: 1 },
        published: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
    }
}
