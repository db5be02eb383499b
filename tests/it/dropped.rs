//! What a source stream drops before natshook could deliver it is reported: the promise is for what the stream
//! keeps.

use async_nats::jetstream::stream;

use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, throughout, until};

/// A stream that keeps so many messages.
async fn stream_of(broker: &Broker, subjects: &[&str], max_messages: i64) {
    let config = stream::Config {
        name: "EVENTS".to_owned(),
        subjects: subjects.iter().map(ToString::to_string).collect(),
        max_messages,
        ..Default::default()
    };
    broker.jetstream_context().await.create_stream(config).await.unwrap();
}

async fn lost(connector: &Connector) -> u64 {
    let (_, text) = connector.get("/metrics").await;
    let line = "natshook_source_messages_lost_total{target=\"policy\"} ";
    text.lines().find_map(|l| l.strip_prefix(line)?.parse().ok()).unwrap()
}

#[tokio::test]
async fn what_the_stream_drops_while_a_breaker_is_open_is_reported_with_count_and_sequences() {
    let broker = Broker::start().await;
    stream_of(&broker, &["a"], 10).await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", (0..3).map(|_| Answer::status(404)));
    let more = "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..3).await;
    connector.wait_for_line(&["breaker opened"]).await;

    // The sequences 4 to 43, of which the stream keeps 34 to 43. Up to 3 may have been asked for before.
    broker.publish_numbered("a", 3..43).await;

    // A slow machine may still be publishing when the probe is made: then the gap is reported in parts, 15 s apart.
    let delivered = || receiver.count("/hook") as u64 - 3;
    until("all are delivered or reported", secs(40), async || delivered() + lost(&connector).await == 43)
        .await;
    connector.wait_for_line(&["the stream dropped messages", "\"last_sequence\":33"]).await;
    let reports: Vec<serde_json::Value> = connector
        .output()
        .lines()
        .filter(|line| line.contains("ERROR") && line.contains("the stream dropped messages"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let numbers = |field: &str| reports.iter().map(|line| line[field].as_u64().unwrap()).collect::<Vec<_>>();
    let (firsts, lasts, counts) = (numbers("first_sequence"), numbers("last_sequence"), numbers("at_most"));
    assert!((4..=7).contains(&firsts[0]), "{reports:?}");
    assert_eq!(lasts.last(), Some(&33), "{reports:?}");
    assert_eq!(counts.iter().sum::<u64>(), lost(&connector).await, "{reports:?}");
    for ((first, last), count) in firsts.iter().zip(&lasts).zip(&counts) {
        assert_eq!(*count, last - first + 1, "{reports:?}");
    }
}

#[tokio::test]
async fn what_was_dropped_while_natshook_was_down_is_reported_at_its_start() {
    let broker = Broker::start().await;
    stream_of(&broker, &["a"], 10).await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..5).await;
    receiver.wait_for("/hook", 5).await;
    connector.stop().await;

    broker.publish_numbered("a", 5..35).await;
    let connector = Connector::start(&config).await;

    receiver.wait_for("/hook", 15).await;
    if broker.client().await.server_info().version.starts_with("2.10.") {
        // It moves such a consumer's place along with the stream's beginning: nothing tells what was in between.
        return;
    }
    let line = connector.wait_for_line(&["ERROR", "the stream dropped messages"]).await;
    for field in ["\"first_sequence\":6", "\"last_sequence\":25", "\"at_most\":20"] {
        assert!(line.contains(field), "{field} in {line}");
    }
}

#[tokio::test]
async fn messages_of_other_subjects_that_a_stream_drops_are_no_loss() {
    let broker = Broker::start().await;
    stream_of(&broker, &["a", "other"], 10).await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;

    for i in 0..5 {
        broker.publish_numbered("other", 0..30).await;
        broker.publish_numbered("a", i..i + 1).await;
        receiver.wait_for("/hook", i + 1).await;
    }

    throughout("nothing is reported", secs(6), async || lost(&connector).await == 0).await;
}
