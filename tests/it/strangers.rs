//! Messages in the retry queue that natshook did not write: each is delivered or set aside with a reason, none is
//! tried for ever, and none takes natshook along.

use std::time::SystemTime;

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE, header, publish_raw};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

/// What follows a forged delivery.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    /// It looks like one of natshook's, and is delivered as this attempt.
    Delivered(&'static str),
    DeadLetter(&'static str),
}
use End::{DeadLetter, Delivered};

const UNREADABLE: End = DeadLetter("unreadable");

/// The headers of a delivery whose second attempt is due.
fn due(target: &str) -> Vec<(String, String)> {
    let now = humantime::format_rfc3339_nanos(SystemTime::now()).to_string();
    [
        ("Natshook-Target", target),
        ("Natshook-Attempts", "1"),
        ("Natshook-Last-Status", "503"),
        ("Natshook-Last-Error", "answered 503"),
        ("Natshook-First-Attempt", &now),
        ("Natshook-Last-Attempt", &now),
        ("Natshook-Stream", "EVENTS"),
        ("Natshook-Sequence", "7"),
        ("Natshook-Subject", "a"),
        ("Natshook-Published", &now),
        ("Natshook-Not-Before", &now),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

async fn publish(broker: &Broker, subject: &str, headers: &[(String, String)], payload: &str) {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    broker.publish_with_headers(subject, &headers, payload).await;
}

/// Headers that are changed, to what, and what follows.
const FORGED: [(&str, &str, End); 29] = [
    ("X-None", "as natshook writes it", Delivered("2")),
    ("Natshook-Attempts", "0", Delivered("1")),
    ("Natshook-Attempts", "4294967295", Delivered("4294967295")),
    ("Natshook-Attempts", "4294967296", UNREADABLE),
    ("Natshook-Attempts", "-1", UNREADABLE),
    ("Natshook-Attempts", "1e3", UNREADABLE),
    ("Natshook-Target", "", UNREADABLE),
    ("Natshook-Target", "a.b", UNREADABLE),
    ("Natshook-Target", "*", UNREADABLE),
    ("Natshook-Target", ">", UNREADABLE),
    ("Natshook-Target", "x 5", UNREADABLE),
    ("Natshook-Target", "é", UNREADABLE),
    ("Natshook-Not-Before", "9999-12-31T23:59:59Z", UNREADABLE),
    ("Natshook-Not-Before", "9999-12-31T23:59:60Z", UNREADABLE),
    ("Natshook-Not-Before", "1969-12-31T23:59:59Z", UNREADABLE),
    ("Natshook-Not-Before", "1970-01-01T00:00:00Z", Delivered("2")),
    ("Natshook-Not-Before", "yesterday", UNREADABLE),
    ("Natshook-Published", "9999-12-31T23:59:59Z", Delivered("2")),
    ("Natshook-Published", "1970-01-01T00:00:00Z", DeadLetter("too_old")),
    ("Natshook-Published", "9223372036854775808", UNREADABLE),
    ("Natshook-First-Attempt", "9999-12-31T23:59:59Z", Delivered("2")),
    ("Natshook-Last-Attempt", "2026-02-30T00:00:00Z", UNREADABLE),
    ("Natshook-Sequence", "18446744073709551615", Delivered("2")),
    ("Natshook-Sequence", "18446744073709551616", UNREADABLE),
    ("Natshook-Stream", "a.>", UNREADABLE),
    ("Natshook-Stream", "événements", Delivered("2")),
    ("Natshook-Last-Status", "99999", Delivered("2")),
    ("Natshook-Subject", "a b\tc \u{1b}[31m", Delivered("2")),
    ("Nats-Rollup", "", Delivered("2")),
];

/// Without any of these there is no delivery.
const REQUIRED: [&str; 9] = [
    "Natshook-Target",
    "Natshook-Attempts",
    "Natshook-First-Attempt",
    "Natshook-Last-Attempt",
    "Natshook-Stream",
    "Natshook-Sequence",
    "Natshook-Subject",
    "Natshook-Published",
    "Natshook-Not-Before",
];

#[tokio::test]
async fn forged_deliveries_are_delivered_or_set_aside() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    let mut expected: Vec<(String, End)> = Vec::new();

    for (name, value, end) in FORGED {
        let mut headers = due("policy");
        headers.retain(|(n, _)| n != name);
        headers.push((name.to_owned(), value.to_owned()));
        let what = format!("{name}: {value}");
        publish(&broker, "natshook.retry.policy", &headers, &what).await;
        expected.push((what, end));
    }
    for name in REQUIRED {
        let mut headers = due("policy");
        headers.retain(|(n, _)| n != name);
        let what = format!("no {name}");
        publish(&broker, "natshook.retry.policy", &headers, &what).await;
        expected.push((what, UNREADABLE));
    }
    // The header decides, whatever subject it stands under.
    publish(&broker, "natshook.retry.nobody", &due("policy"), "under another subject").await;
    expected.push(("under another subject".into(), Delivered("2")));

    broker.wait_until_settled("policy").await;
    let dead = broker.stored(DEAD_LETTERS).await;
    let mut found: Vec<(String, String)> = Vec::new();
    for letter in &dead {
        let payload = String::from_utf8(letter.payload.clone()).expect("text");
        found.push((payload, header(letter, "Natshook-Reason").expect("a reason")));
        assert_eq!(letter.subject, "natshook.dead-letter.policy");
    }
    for request in receiver.at("/hook") {
        let payload = String::from_utf8(request.body.clone()).expect("text");
        found.push((payload, request.header("natshook-attempt").expect("an attempt")));
    }
    let mut expected: Vec<(String, String)> = expected
        .into_iter()
        .map(|(what, end)| match end {
            Delivered(attempt) => (what, attempt.to_owned()),
            DeadLetter(reason) => (what, reason.to_owned()),
        })
        .collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(connector.get("/readyz").await.0, 200);
    let kept = dead.iter().find(|letter| letter.payload == b"Natshook-Target: a.b").expect("it is there");
    assert_eq!(kept.header_all("Natshook-Original-Natshook-Target"), ["a.b"], "people see what was written");
}

#[tokio::test]
async fn a_delivery_for_a_target_that_nobody_has_is_set_aside_in_the_end() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    Connector::start(&config).await.stop().await;
    publish(&broker, "natshook.retry.gone", &due("gone"), "for nobody").await;
    // Replicas with another config would have looked at it before: each look is a hand-out.
    let stream = broker.jetstream_context().await.get_stream(RETRY_QUEUE).await.unwrap();
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("natshook-retry").await.unwrap();
    for _ in 0..5 {
        use futures_util::StreamExt;
        let mut taken = consumer.batch().max_messages(1).expires(secs(5)).messages().await.unwrap();
        let message = taken.next().await.expect("one message").unwrap();
        message.double_ack_with(async_nats::jetstream::AckKind::Nak(None)).await.unwrap();
    }

    let _connector = Connector::start(&config).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].subject, "natshook.dead-letter.gone");
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("unknown_target"));
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.count("/hook"), 0);
}

#[tokio::test]
async fn a_header_of_the_retry_queue_that_is_not_utf_8_holds_nothing_up() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    let mut block: Vec<u8> = b"Natshook-Last-Error: \xff\xfe\r\n".to_vec();
    for (name, value) in due("policy").iter().filter(|(name, _)| name != "Natshook-Last-Error") {
        block.extend(format!("{name}: {value}\r\n").bytes());
    }
    let block = block.strip_suffix(b"\r\n").expect("lines");

    publish_raw(&broker, "natshook.retry.policy", block, b"not utf-8").await;
    broker.publish("a", "honest").await;

    // The broker hands the message out again after `ack_wait`, before natshook looks for what breaks the connection.
    let arrived = async || receiver.bodies("/hook") == ["honest", "not utf-8"];
    until("both arrive", secs(60), arrived).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

/// Nearly as many bytes of headers as a stream takes, which leaves no room for natshook's own.
const HEADER_BYTES: usize = 65_400;

#[tokio::test]
async fn headers_as_large_as_a_stream_takes_end_as_a_dead_letter() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/refuses", Answer::status(400));
    receiver.always("/fails", Answer::status(500));
    let twice = "retry = { delays = [\"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("refuses", "a", &receiver.url("/refuses"), "").target(
        "fails",
        "a",
        &receiver.url("/fails"),
        twice,
    );
    let connector = Connector::start(&config).await;
    let large = [("X-Large".to_owned(), "x".repeat(HEADER_BYTES))];

    publish(&broker, "a", &large, "from a publisher").await;
    publish(&broker, "natshook.retry.refuses", &large, "from a stranger").await;

    let dead = broker.wait_for_dead_letters(3).await;
    let mut reasons: Vec<_> = dead.iter().filter_map(|letter| header(letter, "Natshook-Reason")).collect();
    reasons.sort();
    assert_eq!(reasons, ["attempts_exhausted", "permanent_status", "unreadable"]);
    for letter in &dead {
        let where_it_is = header(letter, "Natshook-Headers").expect("it is told where the headers are");
        assert!(["from a publisher", "from a stranger"].map(Vec::from).contains(&letter.payload));
        assert!(where_it_is.contains("65407 bytes") && where_it_is.contains("in stream"), "{where_it_is}");
    }
    assert_eq!((receiver.count("/refuses"), receiver.count("/fails")), (1, 2));
    for target in ["refuses", "fails"] {
        broker.wait_until_settled(target).await;
    }
    assert_eq!(connector.get("/readyz").await.0, 200);
}
