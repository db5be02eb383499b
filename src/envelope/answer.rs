//! How a receiver's answer is told in the headers of the message that goes back to NATS.

use http::{HeaderMap, HeaderName, header::CONTENT_TYPE};

use super::{BODY, ID, SUBJECT, TARGET, end_of_id, push, storage_id};
use crate::{
    message::{Delivery, Headers, MESSAGE_ID_HEADER},
    outcome::Answer,
};

/// The status of an answer that is told.
const STATUS: &str = "Natshook-Status";

/// The most bytes of the receiver's own headers that are told: a stream takes no more than 65,535 in all.
const HEADER_BYTES_MAX: usize = 16 * 1024;

/// The headers under which `answer` goes back to NATS, with those of its own that are `chosen`, under the names there. The
/// id is the same however often the same delivery is answered, so that a stream stores it once within its window. `cut`
/// says that the body is longer than what is told of it: so many bytes.
#[must_use]
pub fn answer_headers(
    delivery: &Delivery,
    target: &str,
    answer: &Answer,
    chosen: &[(HeaderName, String)],
    cut: Option<usize>,
) -> Headers {
    let message = &delivery.message;
    let mut headers = Vec::with_capacity(chosen.len() + 7);
    push(&mut headers, MESSAGE_ID_HEADER, storage_id(message, target, &end_of_id(delivery, "reply")));
    push(&mut headers, STATUS, answer.status.to_string());
    push(&mut headers, ID, message.webhook_id());
    push(&mut headers, TARGET, target.to_owned());
    push(&mut headers, SUBJECT, message.subject.clone());
    if let Some(bytes) = cut {
        push(&mut headers, BODY, format!("cut: the answer has more than these {bytes} bytes"));
    }
    if let Some(kept) = &answer.kept {
        tell(&kept.headers, &CONTENT_TYPE, "Content-Type", &mut headers);
        let mut left = HEADER_BYTES_MAX;
        for (name, written) in chosen {
            let bytes: usize = kept.headers.get_all(name).iter().map(|v| written.len() + v.len()).sum();
            if bytes <= left && *name != CONTENT_TYPE {
                left -= bytes;
                tell(&kept.headers, name, written, &mut headers);
            }
        }
    }
    Headers(headers)
}

/// A value that is not visible ASCII is left out: NATS headers are lines of text.
fn tell(answered: &HeaderMap, name: &HeaderName, written: &str, headers: &mut Vec<(String, String)>) {
    let values = answered.get_all(name).iter().filter_map(|value| value.to_str().ok());
    headers.extend(values.map(|value| (written.to_owned(), value.to_owned())));
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::{
        message::{Message, Origin},
        outcome::Kept,
    };

    fn delivery() -> Delivery {
        Delivery::fresh(Message {
            subject: "orders.created".into(),
            payload: Bytes::new(),
            headers: Headers(vec![(MESSAGE_ID_HEADER.into(), "order.1".into())]),
            origin: Origin::Stored { stream: "EVENTS".into(), sequence: 9 },
            published: SystemTime::UNIX_EPOCH + Duration::from_secs(5),
        })
    }

    fn answer(headers: HeaderMap) -> Answer {
        let kept = Some(Box::new(Kept { headers, body: Bytes::new() }));
        Answer { status: 201, retry_after: None, excerpt: Bytes::new(), kept }
    }

    #[test]
    fn an_answer_is_told_with_the_message_s_id_and_the_chosen_headers() {
        let mut own = HeaderMap::new();
        own.insert("content-type", HeaderValue::from_static("application/json"));
        own.append("x-id", HeaderValue::from_static("7"));
        own.append("x-id", HeaderValue::from_static("8"));
        own.insert("x-other", HeaderValue::from_static("9"));
        let chosen = [(HeaderName::from_static("x-id"), "X-Id".to_owned())];
        let told = answer_headers(&delivery(), "a", &answer(own), &chosen, Some(3));
        let told: Vec<String> = told.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(
            told,
            [
                "Nats-Msg-Id: EVENTS:9:5000000000:a:reply",
                "Natshook-Status: 201",
                "Natshook-Id: order%2E1",
                "Natshook-Target: a",
                "Natshook-Subject: orders.created",
                "Natshook-Body: cut: the answer has more than these 3 bytes",
                "Content-Type: application/json",
                "X-Id: 7",
                "X-Id: 8",
            ]
        );
    }

    #[test]
    fn a_replay_is_answered_under_an_id_of_its_own() {
        let replayed = Delivery { replayed: Some(SystemTime::UNIX_EPOCH), ..delivery() };
        let told = answer_headers(&replayed, "a", &answer(HeaderMap::new()), &[], None);
        assert_eq!(told.get(MESSAGE_ID_HEADER), Some("EVENTS:9:5000000000:a:reply:replayed-0"));
    }

    #[test]
    fn headers_that_no_stream_would_take_are_left_out() {
        let mut own = HeaderMap::new();
        own.insert(
            "x-long",
            HeaderValue::from_str(&"x".repeat(HEADER_BYTES_MAX)).unwrap_or(HeaderValue::from(0)),
        );
        own.insert("x-short", HeaderValue::from_static("1"));
        let chosen = ["x-long", "x-short"].map(|name| (HeaderName::from_static(name), name.to_owned()));
        let told = answer_headers(&delivery(), "a", &answer(own), &chosen, None);
        assert_eq!((told.get("x-long"), told.get("x-short")), (None, Some("1")));
    }
}
