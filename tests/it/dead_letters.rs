//! What ends as a dead letter, what stands in it, and that nothing is acked before it is stored.

use std::time::SystemTime;

use futures_util::StreamExt;

use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE, header};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, throughout, until};

#[tokio::test]
async fn a_dead_letter_tells_the_whole_story() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500)]);
    let long = "why: ".to_owned() + &"x".repeat(5_000);
    receiver.always("/hook", Answer::status(503).body(long.clone()));
    let more = "retry = { delays = [\"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "orders.*", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    let begun = SystemTime::now();

    broker.publish("orders.1", "another").await;
    let headers = [
        ("Content-Type", "text/csv"),
        ("X-Own", "kept"),
        ("X-Own", "twice"),
        ("Nats-Msg-Id", "id-7"),
        ("Natshook-Target", "forged"),
        ("Natshook-Attempts", "77"),
    ];
    let sequence = broker.publish_with_headers("orders.2", &headers, b"\x00\xffbytes").await;

    let dead = broker.wait_for_dead_letters(2).await;
    let letter = dead.iter().find(|letter| header(letter, "Natshook-Subject").as_deref() == Some("orders.2"));
    let letter = letter.expect("the second message is there");
    assert_eq!(letter.subject, "natshook.dead-letter.policy");
    assert_eq!(&letter.payload[..], b"\x00\xffbytes");
    let expected = [
        ("Natshook-Reason", "attempts_exhausted"),
        ("Natshook-Target", "policy"),
        ("Natshook-Attempts", "2"),
        ("Natshook-Last-Status", "503"),
        ("Natshook-Stream", EVENTS),
        ("Natshook-Sequence", &sequence.to_string()),
        ("Natshook-Subject", "orders.2"),
        ("Content-Type", "text/csv"),
        ("Natshook-Original-Nats-Msg-Id", "id-7"),
        ("Natshook-Original-Natshook-Target", "forged"),
        ("Natshook-Original-Natshook-Attempts", "77"),
    ];
    for (name, value) in expected {
        assert_eq!(header(letter, name).as_deref(), Some(value), "{name}");
    }
    assert_eq!(letter.header_all("X-Own"), ["kept", "twice"]);
    let id = header(letter, "Nats-Msg-Id").unwrap();
    assert!(id.starts_with(&format!("{EVENTS}:{sequence}:")) && id.ends_with(":policy:dead"), "{id}");
    assert!(header(letter, "Natshook-Last-Error").unwrap().contains("503"));
    let response = header(letter, "Natshook-Response").unwrap();
    assert!(response.starts_with("why: xxx") && response.len() <= 1_024, "{} bytes", response.len());
    let time = |name: &str| {
        let text = header(letter, name).unwrap_or_else(|| panic!("no {name}"));
        humantime::parse_rfc3339(&text).unwrap_or_else(|_| panic!("{name} is not RFC 3339: {text}"))
    };
    let (published, first, last) =
        (time("Natshook-Published"), time("Natshook-First-Attempt"), time("Natshook-Last-Attempt"));
    assert!(
        begun <= published + secs(1) && published <= first + secs(1),
        "{begun:?} {published:?} {first:?}"
    );
    assert!(first + secs(1) <= last && last <= SystemTime::now(), "{first:?} {last:?}");
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_response_that_is_not_text_is_still_a_legal_header() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always(
        "/hook",
        Answer::status(400).body(b"a\r\nNatshook-Reason: forged\r\n\x00\xff\xc3\x28\n\nb".to_vec()),
    );
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("permanent_status"));
    let response = header(&dead[0], "Natshook-Response").unwrap();
    assert!(response.starts_with('a') && response.ends_with('b'), "{response:?}");
    assert_eq!(&dead[0].payload[..], b"1");
}

#[tokio::test]
async fn a_plain_subscriber_sees_dead_letters_as_they_come() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    let client = broker.client().await;
    let mut watch = client.subscribe("natshook.dead-letter.>").await.unwrap();
    client.flush().await.unwrap();

    broker.publish("a", "1").await;

    let seen = tokio::time::timeout(secs(10), watch.next()).await.expect("in time").unwrap();
    assert_eq!(seen.subject.as_str(), "natshook.dead-letter.policy");
    assert_eq!(&seen.payload[..], b"1");
}

#[tokio::test]
async fn a_message_over_the_limit_is_never_sent() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "max_payload_bytes = 100");
    let _connector = Connector::start(&config).await;

    broker.publish("a", vec![b'x'; 101]).await;
    broker.publish("a", vec![b'y'; 100]).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("message_too_large"));
    assert_eq!(header(&dead[0], "Natshook-Attempts").as_deref(), Some("0"));
    assert_eq!(dead[0].payload.len(), 101);
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(broker.count(DEAD_LETTERS).await, 1);
}

#[tokio::test]
async fn a_full_dead_letter_stream_holds_the_message_back_until_there_is_room() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker)
        .target("policy", "a", &receiver.url("/hook"), "")
        .and("[dead_letter]\nmax_bytes = 20000");
    let connector = Connector::start(&config).await;
    broker.publish("a", vec![b'1'; 12_000]).await;
    broker.wait_for_dead_letters(1).await;

    broker.publish("a", vec![b'2'; 12_000]).await;

    let line = connector.wait_for_line(&["ERROR", "policy", "maximum bytes exceeded"]).await;
    assert!(line.contains(DEAD_LETTERS) || line.contains("dead-letter"), "{line}");
    let unacked = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 1));
    throughout("the source message is not acked", secs(3), unacked).await;
    assert_eq!(broker.stored(DEAD_LETTERS).await[0].payload[0], b'1', "the older letter is not pushed out");

    let stream = broker.jetstream_context().await.get_stream(DEAD_LETTERS).await.unwrap();
    stream.purge().await.unwrap();

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload[0], b'2');
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.received().len(), 2, "the webhook itself is not called again");
}

/// Users `app` (natshook) and `test`; `app` may not publish to `denied`.
pub(crate) fn users(denied: &str) -> String {
    format!(
        "authorization {{ users: [\n {{ user: app, password: pw, permissions: {{ publish: {{ allow: \">\", deny: {denied:?} }}, subscribe: \">\" }} }}\n \
         {{ user: test, password: pw }}\n] }}"
    )
}

async fn a_denied_publish_is_made_good_later(denied: &str, status: u16, stream: &str) {
    let test = async_nats::ConnectOptions::with_user_and_password("test".into(), "pw".into());
    let broker = Broker::start_with(&users(denied), test).await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(status));
    let config = Config::on(&broker).nats("user = \"app\"\npassword = \"pw\"").target(
        "policy",
        "a",
        &receiver.url("/hook"),
        "retry = { delays = [\"1h\"] }",
    );
    let connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    // The broker says nothing but a permissions violation; natshook says what it means.
    connector.wait_for_line(&["ERROR", "policy", denied]).await;
    assert_eq!(broker.outstanding(EVENTS, "natshook-policy").await, Some((0, 1)), "nothing is acked");
    assert_eq!(broker.count(stream).await, 0);

    broker.reload(&users("nothing.at.all")).await;

    until("the message is stored", secs(60), async || broker.count(stream).await == 1).await;
    let settled = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0));
    until("the source is acked", secs(10), settled).await;
}

#[tokio::test]
async fn a_denied_dead_letter_is_stored_once_the_permission_is_there() {
    a_denied_publish_is_made_good_later("natshook.dead-letter.policy", 400, DEAD_LETTERS).await;
}

#[tokio::test]
async fn a_denied_retry_is_stored_once_the_permission_is_there() {
    a_denied_publish_is_made_good_later("natshook.retry.policy", 500, RETRY_QUEUE).await;
}

#[tokio::test]
async fn two_targets_have_their_own_dead_letters_for_one_message() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/one", Answer::status(400));
    receiver.always("/two", Answer::status(422));
    let config = Config::on(&broker)
        .target("one", "a", &receiver.url("/one"), "")
        .target("two", "a", &receiver.url("/two"), "")
        .target("fine", "a", &receiver.url("/fine"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    let dead = broker.wait_for_dead_letters(2).await;
    let mut seen: Vec<_> =
        dead.iter().map(|letter| (letter.subject.as_str(), header(letter, "Natshook-Last-Status"))).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            ("natshook.dead-letter.one", Some("400".to_owned())),
            ("natshook.dead-letter.two", Some("422".to_owned()))
        ]
    );
    assert_eq!(receiver.wait_for("/fine", 1).await.len(), 1);
}

#[tokio::test]
async fn another_name_means_other_streams_and_subjects() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config =
        Config::on(&broker).top("name = \"claims-eu\"").target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("a", "1").await;

    until("the dead letter is stored", secs(10), async || broker.count("CLAIMS-EU_DEAD_LETTER").await == 1)
        .await;
    let dead = broker.stored("CLAIMS-EU_DEAD_LETTER").await;
    assert_eq!(dead[0].subject.as_str(), "claims-eu.dead-letter.policy");
    assert!(broker.outstanding(EVENTS, "claims-eu-policy").await.is_some());
    assert!(broker.outstanding("CLAIMS-EU_RETRY", "claims-eu-retry").await.is_some());
}

#[tokio::test]
async fn natshook_s_own_streams_are_made_as_designed() {
    use async_nats::jetstream::stream::{DiscardPolicy, RetentionPolicy, StorageType};
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker)
        .target("policy", "a, b.>", &receiver.url("/hook"), "")
        .and("[dead_letter]\nmax_age = \"7d\"");
    let _connector = Connector::start(&config).await;

    let context = broker.jetstream_context().await;
    let of = async |name: &str| context.get_stream(name).await.unwrap().cached_info().config.clone();
    let events = of(EVENTS).await;
    assert_eq!((events.storage, events.retention), (StorageType::File, RetentionPolicy::Limits));
    assert_eq!(events.subjects, ["a", "b.>"]);
    let retry = of(RETRY_QUEUE).await;
    assert_eq!((retry.storage, retry.retention), (StorageType::File, RetentionPolicy::WorkQueue));
    assert_eq!(retry.subjects, ["natshook.retry.*"]);
    let dead = of(DEAD_LETTERS).await;
    assert_eq!((dead.storage, dead.retention), (StorageType::File, RetentionPolicy::Limits));
    assert_eq!((dead.max_age, dead.discard), (secs(7 * 24 * 3600), DiscardPolicy::New));
    let consumer =
        context.get_stream(EVENTS).await.unwrap().consumer_info("natshook-policy").await.unwrap().config;
    assert_eq!((consumer.ack_wait, consumer.max_deliver), (secs(20), -1));
    assert!(consumer.backoff.is_empty());
    assert_eq!(consumer.max_ack_pending, 1_000);
    assert_eq!(consumer.durable_name.as_deref(), Some("natshook-policy"));
}

#[tokio::test]
async fn a_message_as_large_as_the_broker_takes_is_retried_and_dead_lettered_too() {
    let broker = Broker::start_with("max_payload: 100000", async_nats::ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    let more = "retry = { delays = [\"1s\", \"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("works", "a", &receiver.url("/works"), more).target(
        "fails",
        "a",
        &receiver.url("/fails"),
        more,
    );
    let _connector = Connector::start(&config).await;
    receiver.next("/works", [Answer::status(500)]);
    receiver.always("/fails", Answer::status(500));

    // There is no room for the headers that a delivery has in the retry queue, or a dead letter.
    let sequence = broker.publish("a", vec![b'x'; 100_000]).await;

    let seen = receiver.wait_for("/works", 2).await;
    assert_eq!(seen[1].body.len(), 100_000);
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Target").as_deref(), Some("fails"));
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("attempts_exhausted"));
    assert_eq!(header(&dead[0], "Natshook-Stream").as_deref(), Some(EVENTS));
    assert_eq!(header(&dead[0], "Natshook-Sequence"), Some(sequence.to_string()));
    broker.wait_until_settled("works").await;
    broker.wait_until_settled("fails").await;
    assert_eq!(receiver.count("/fails"), 3);
}
