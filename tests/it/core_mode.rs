//! `source = "core"`: a broker without JetStream, retries in memory, dead letters published plainly.

use std::collections::HashSet;

use futures_util::StreamExt;

use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

fn core(broker: &Broker) -> Config {
    Config::on(broker).top("source = \"core\"")
}

async fn publish_plainly(broker: &Broker, subject: &str, payloads: impl IntoIterator<Item = String>) {
    let client = broker.client().await;
    for payload in payloads {
        client.publish(subject.to_owned(), payload.into()).await.unwrap();
    }
    client.flush().await.unwrap();
}

#[tokio::test]
async fn messages_are_delivered_without_jetstream() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    let config = core(&broker).target("orders", "orders.*", &receiver.url("/orders"), "").target(
        "all",
        "orders.>, invoices.>",
        &receiver.url("/all"),
        "",
    );
    let _connector = Connector::start(&config).await;
    let client = broker.client().await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Content-Type", "text/csv");
    headers.insert("Nats-Msg-Id", "id-1");

    client.publish_with_headers("orders.new", headers, "a,b".into()).await.unwrap();
    client.publish("invoices.new.eu", "2".into()).await.unwrap();
    client.flush().await.unwrap();

    let seen = receiver.wait_for("/orders", 1).await;
    for (name, value) in [
        ("content-type", "text/csv"),
        ("webhook-id", "id-1"),
        ("natshook-subject", "orders.new"),
        ("natshook-attempt", "1"),
    ] {
        assert_eq!(seen[0].header(name).as_deref(), Some(value), "{name}");
    }
    receiver.wait_for("/all", 2).await;
    assert_eq!(receiver.bodies("/all"), ["2", "a,b"]);
}

#[tokio::test]
async fn a_message_without_an_id_gets_one_that_stays_the_same() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500)]);
    let more = "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }";
    let config = core(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;

    publish_plainly(&broker, "a", ["1".to_owned(), "2".to_owned()]).await;

    let seen = receiver.wait_for("/hook", 3).await;
    let ids = |body: &[u8]| -> HashSet<String> {
        seen.iter().filter(|r| r.body == body).map(|r| r.header("webhook-id").unwrap()).collect()
    };
    assert_eq!((ids(b"1").len(), ids(b"2").len()), (1, 1));
    assert_ne!(ids(b"1"), ids(b"2"));
    let attempts: Vec<_> =
        seen.iter().filter(|r| r.body == b"1").map(|r| r.header("natshook-attempt").unwrap()).collect();
    assert_eq!(attempts, ["1", "2"]);
}

#[tokio::test]
async fn replicas_share_the_messages() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(10)));
    let target = |config: Config| config.target("policy", "a", &receiver.url("/hook"), "");
    let _one = Connector::start(&target(core(&broker))).await;
    let _two = Connector::start(&target(core(&broker))).await;

    publish_plainly(&broker, "a", (0..200).map(|i| i.to_string())).await;

    receiver.wait_for("/hook", 200).await;
    let bodies = receiver.bodies("/hook");
    assert_eq!(bodies.iter().collect::<HashSet<_>>().len(), 200);
    assert_eq!(bodies.len(), 200, "each message goes to one replica");
}

#[tokio::test]
async fn a_message_that_cannot_be_delivered_is_published_as_a_dead_letter() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(500).body("no"));
    let more = "retry = { delays = [\"1s\"], jitter = 0 }";
    let config = core(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    let client = broker.client().await;
    let mut dead = client.subscribe("natshook.dead-letter.>").await.unwrap();
    client.flush().await.unwrap();

    publish_plainly(&broker, "a", ["1".to_owned()]).await;

    let letter = tokio::time::timeout(secs(10), dead.next()).await.expect("in time").unwrap();
    assert_eq!(letter.subject.as_str(), "natshook.dead-letter.policy");
    assert_eq!(&letter.payload[..], b"1");
    let headers = letter.headers.unwrap();
    for (name, value) in [
        ("Natshook-Reason", "attempts_exhausted"),
        ("Natshook-Target", "policy"),
        ("Natshook-Attempts", "2"),
        ("Natshook-Last-Status", "500"),
        ("Natshook-Response", "no"),
        ("Natshook-Subject", "a"),
    ] {
        assert_eq!(headers.get(name).map(|v| v.as_str()), Some(value), "{name}");
    }
    assert_eq!(receiver.count("/hook"), 2);
}

#[tokio::test]
async fn a_sick_target_does_not_delay_a_healthy_one() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/sick", Answer::status(500).after(secs(2)));
    let more = "concurrency = 2";
    let config = core(&broker).target("sick", "a", &receiver.url("/sick"), more).target(
        "healthy",
        "a",
        &receiver.url("/healthy"),
        more,
    );
    let _connector = Connector::start(&config).await;

    publish_plainly(&broker, "a", (0..100).map(|i| i.to_string())).await;

    receiver.wait_long_for("/healthy", 100, secs(5)).await;
}

#[tokio::test]
async fn a_drain_finishes_what_was_received() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(100)));
    let config = core(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 4");
    let mut connector = Connector::start(&config).await;
    publish_plainly(&broker, "a", (0..40).map(|i| i.to_string())).await;
    receiver.wait_for("/hook", 4).await;

    connector.stop().await;

    assert_eq!(receiver.bodies("/hook").into_iter().collect::<HashSet<_>>().len(), 40);
}

#[tokio::test]
async fn delivery_goes_on_after_a_broker_restart() {
    let mut broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    let config = core(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;

    broker.kill9();
    broker.restart().await;
    connector.wait_until_ready().await;

    // A core subscription exists again some time after the reconnect: what comes before is not kept.
    until("messages arrive again", secs(15), async || {
        publish_plainly(&broker, "a", ["1".to_owned()]).await;
        receiver.count("/hook") > 0
    })
    .await;
}
