//! What an earlier version has left on the broker is taken up by this one: deliveries that wait, dead letters, pauses and
//! consumers. `fixtures/stored-<version>` holds what each version wrote; a version that writes otherwise adds its own.

use std::time::SystemTime;

use async_nats::jetstream::{consumer::pull, kv};

use crate::support::broker::{EVENTS, RETRY_QUEUE};
use crate::support::connector::natshook_with;
use crate::support::letters::own_streams;
use crate::support::{Broker, Config, Connector, Receiver, secs, throughout, until};

/// The headers that a version wrote, with times that are not too old to be retried, and one that only a later version knows.
fn headers(file: &str) -> Vec<(String, String)> {
    let path = format!("{}/tests/it/fixtures/{file}", env!("CARGO_MANIFEST_DIR"));
    let published = humantime::format_rfc3339_nanos(SystemTime::now() - secs(60)).to_string();
    let text = std::fs::read_to_string(path).unwrap().replace("{published}", &published);
    let headers = text.lines().map(|line| line.split_once(": ").unwrap());
    let later = [("Natshook-Of-A-Later-Version", "whatever")];
    headers.chain(later).map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

async fn store(broker: &Broker, subject: &str, file: &str) {
    let headers = headers(file);
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    broker.publish_with_headers(subject, &headers, file).await;
}

#[tokio::test]
async fn deliveries_and_dead_letters_that_0_1_0_stored_are_delivered() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    own_streams(&broker.jetstream_context().await, secs(120)).await;
    store(&broker, "natshook.retry.policy", "stored-0.1.0/waiting.txt").await;
    store(&broker, "natshook.dead-letter.policy", "stored-0.1.0/dead_letter.txt").await;

    let more = "pass_headers = [\"X-Tenant\"]";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    let waited = &receiver.wait_for("/hook", 1).await[0];
    assert_eq!(waited.body, b"stored-0.1.0/waiting.txt");
    for (name, value) in [
        ("webhook-id", "EVENTS-7"),
        ("natshook-attempt", "2"),
        ("natshook-subject", "a"),
        ("x-tenant", "acme"),
    ] {
        assert_eq!(waited.header(name).as_deref(), Some(value), "{name}");
    }

    let listed = natshook_with(&config, &["dead-letters", "list"]).await;
    assert!(listed.stdout.contains("attempts_exhausted"), "{}", listed.all());
    let replayed = natshook_with(&config, &["dead-letters", "replay", "--target", "policy"]).await;
    assert_eq!(replayed.code, 0, "{}", replayed.all());
    let replayed = &receiver.wait_for("/hook", 2).await[1];
    assert_eq!(replayed.body, b"stored-0.1.0/dead_letter.txt");
    assert_eq!(replayed.header("webhook-id").as_deref(), Some("EVENTS-8"));
    until("nothing is left", secs(10), async || broker.count(RETRY_QUEUE).await == 0).await;
}

#[tokio::test]
async fn a_pause_and_a_consumer_of_0_1_0_hold() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let context = broker.jetstream_context().await;
    let bucket = kv::Config { bucket: "NATSHOOK_STATE".to_owned(), history: 1, ..Default::default() };
    let bucket = context.create_key_value(bucket).await.unwrap();
    let pause = "{\"at\":\"2026-11-24T09:52:10.699Z\",\"paused\":true}";
    bucket.put("pause.policy", pause.into()).await.unwrap();
    let stream = async_nats::jetstream::stream::Config {
        name: EVENTS.to_owned(),
        subjects: vec!["a".to_owned()],
        ..Default::default()
    };
    let stream = context.create_stream(stream).await.unwrap();
    broker.publish_numbered("a", 0..5).await;
    // It had come to the third message.
    let consumer = pull::Config {
        durable_name: Some("natshook-policy".to_owned()),
        deliver_policy: async_nats::jetstream::consumer::DeliverPolicy::ByStartSequence { start_sequence: 3 },
        filter_subject: "a".to_owned(),
        ..Default::default()
    };
    stream.create_consumer(consumer).await.unwrap();

    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    throughout("the pause holds", secs(1), async || receiver.count("/hook") == 0).await;
    let resumed = natshook_with(&config, &["targets", "resume", "policy"]).await;
    assert_eq!(resumed.code, 0, "{}", resumed.all());
    receiver.wait_for("/hook", 3).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.bodies("/hook"), ["2", "3", "4"]);
}
