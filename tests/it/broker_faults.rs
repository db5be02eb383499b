//! The broker dies, stands still, or loses what natshook needs, while natshook runs.

use std::collections::HashSet;

use crate::support::broker::{DEAD_LETTERS, EVENTS};
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, until};

/// A broker, a receiver that takes 10 ms, and a ready connector with one target on `a`.
async fn running() -> (Broker, Receiver, Connector) {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(millis(10)));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "concurrency = 16");
    let connector = Connector::start(&config).await;
    (broker, receiver, connector)
}

fn distinct(receiver: &Receiver) -> usize {
    receiver.bodies("/hook").into_iter().collect::<HashSet<_>>().len()
}

#[tokio::test]
async fn a_broker_killed_and_restarted_under_load_loses_nothing() {
    let (mut broker, receiver, mut connector) = running().await;
    broker.publish_numbered("a", 0..600).await;
    for stopped_after in [50, 200] {
        receiver.wait_for("/hook", stopped_after).await;
        broker.kill9();
        let port = connector.admin_port;
        until("natshook notices", secs(15), async || {
            crate::support::http::get(port, "/readyz").await.is_some_and(|(status, _)| status == 503)
        })
        .await;
        broker.restart().await;
        connector.wait_until_ready().await;
    }

    until("every message is delivered", secs(60), async || distinct(&receiver) == 600).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
    assert!(connector.exited().is_none());
    // What the server forgot of our acks may come again, but not everything.
    let requests = receiver.received().len();
    assert!(requests < 1_200, "{requests} requests for 600 messages");
}

#[tokio::test]
async fn a_broker_that_stands_still_delays_and_loses_nothing() {
    let (broker, receiver, _connector) = running().await;
    broker.publish_numbered("a", 0..200).await;
    receiver.wait_for("/hook", 20).await;

    broker.pause();
    // Longer than a heartbeat may be late.
    tokio::time::sleep(secs(8)).await;
    broker.resume();

    broker.publish_numbered("a", 200..220).await;
    until("every message is delivered", secs(60), async || distinct(&receiver) == 220).await;
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_deleted_consumer_is_an_error_and_is_made_again() {
    let (broker, receiver, connector) = running().await;
    broker.publish("a", "before").await;
    broker.wait_until_settled("policy").await;

    let stream = broker.jetstream_context().await.get_stream(EVENTS).await.unwrap();
    stream.delete_consumer("natshook-policy").await.unwrap();

    connector.wait_for_line(&["ERROR", "natshook-policy"]).await;
    let made = async || broker.outstanding(EVENTS, "natshook-policy").await.is_some();
    until("the consumer is made again", secs(30), made).await;
    broker.publish("a", "after").await;
    let after = async || receiver.bodies("/hook").contains(&"after".to_owned());
    until("what is published then is delivered", secs(30), after).await;
}

#[tokio::test]
async fn messages_published_while_the_consumer_was_gone_are_delivered_too() {
    let (broker, receiver, connector) = running().await;
    broker.publish("a", "before").await;
    broker.wait_until_settled("policy").await;
    connector.signal("STOP");
    let stream = broker.jetstream_context().await.get_stream(EVENTS).await.unwrap();
    stream.delete_consumer("natshook-policy").await.unwrap();
    broker.publish("a", "meanwhile").await;

    connector.signal("CONT");

    let delivered = async || receiver.bodies("/hook").contains(&"meanwhile".to_owned());
    until("nothing that was stored is left out", secs(30), delivered).await;
}

#[tokio::test]
async fn a_deleted_retry_consumer_is_made_again() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500)]);
    let more = "retry = { delays = [\"3s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    broker.wait_for_retries(1).await;

    let stream = broker.jetstream_context().await.get_stream("NATSHOOK_RETRY").await.unwrap();
    stream.delete_consumer("natshook-retry").await.unwrap();

    let seen = receiver.wait_long_for("/hook", 2, secs(40)).await;
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("2"));
}

#[tokio::test]
async fn a_deleted_source_stream_is_an_error_and_is_made_again() {
    let (broker, receiver, mut connector) = running().await;
    broker.publish("a", "before").await;
    broker.wait_until_settled("policy").await;
    let context = broker.jetstream_context().await;

    context.delete_stream(EVENTS).await.unwrap();

    connector.wait_for_line(&["ERROR", EVENTS]).await;
    let made = async || broker.outstanding(EVENTS, "natshook-policy").await.is_some();
    until("stream and consumer are made again", secs(60), made).await;
    broker.publish("a", "after").await;
    let after = async || receiver.bodies("/hook").contains(&"after".to_owned());
    until("what is published then is delivered", secs(30), after).await;
    connector.wait_until_ready().await;
}

#[tokio::test]
async fn a_deleted_dead_letter_stream_is_made_again() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let connector = Connector::start(&config).await;
    broker.jetstream_context().await.delete_stream(DEAD_LETTERS).await.unwrap();

    broker.publish("a", "1").await;

    connector.wait_for_line(&["ERROR", DEAD_LETTERS]).await;
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(&dead[0].payload[..], b"1");
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn retries_and_fresh_messages_survive_a_broker_restart_together() {
    let mut broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", (0..9).map(|_| Answer::status(500)));
    let more = "retry = { delays = [\"2s\", \"2s\"], jitter = 0 }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;
    broker.publish_numbered("a", 0..9).await;
    broker.wait_for_retries(9).await;

    broker.kill9();
    broker.restart().await;
    broker.publish_numbered("a", 9..12).await;

    until("every message is delivered", secs(60), async || {
        let seen = receiver.at("/hook");
        let delivered: HashSet<_> = seen[9..].iter().map(|r| r.body.clone()).collect();
        delivered.len() == 12
    })
    .await;
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_broker_that_comes_back_empty_is_set_up_again() {
    let (mut broker, receiver, _connector) = running().await;
    broker.publish("a", "before").await;
    broker.wait_until_settled("policy").await;
    receiver.next("/hook", [Answer::status(400)]);

    broker.kill9();
    broker.lose_store();
    broker.restart().await;

    let made = async || broker.outstanding(EVENTS, "natshook-policy").await.is_some();
    until("stream and consumer are made again", secs(60), made).await;
    broker.publish("a", "fails").await;
    broker.publish("a", "works").await;
    let works = async || receiver.bodies("/hook").contains(&"works".to_owned());
    until("what is published then is delivered", secs(30), works).await;
    assert_eq!(broker.wait_for_dead_letters(1).await[0].payload, b"fails");
    let retries = async || broker.outstanding("NATSHOOK_RETRY", "natshook-retry").await.is_some();
    until("the retry queue is made again", secs(60), retries).await;
}

#[tokio::test]
async fn a_stream_that_counts_anew_does_not_swallow_dead_letters() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(400));
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;
    assert_eq!(broker.publish("a", "before").await, 1);
    broker.wait_for_dead_letters(1).await;
    broker.jetstream_context().await.delete_stream(EVENTS).await.unwrap();
    let made = async || broker.outstanding(EVENTS, "natshook-policy").await.is_some();
    until("stream and consumer are made again", secs(60), made).await;

    // The id of a dead letter is made of stream, sequence and target: all are the same again.
    assert_eq!(broker.publish("a", "after").await, 1);

    let dead = broker.wait_for_dead_letters(2).await;
    assert_eq!(dead[1].payload, b"after");
}

#[tokio::test]
async fn a_stream_that_allows_too_few_consumers_is_named_with_the_limit() {
    let broker = Broker::start().await;
    let theirs = async_nats::jetstream::stream::Config {
        name: "SMALL".to_owned(),
        subjects: vec!["a".to_owned()],
        max_consumers: 1,
        ..Default::default()
    };
    broker.jetstream_context().await.create_stream(theirs).await.unwrap();
    let config = Config::on(&broker).target("one", "a", "http://127.0.0.1:1/", "").target(
        "two",
        "a",
        "http://127.0.0.1:1/",
        "",
    );
    let connector = Connector::spawn(&config, &[]);

    connector.wait_for_line(&["ERROR", "SMALL", "max_consumers"]).await;
}

#[tokio::test]
async fn a_stream_that_forgets_sooner_than_a_target_may_lag_is_a_warning() {
    let broker = Broker::start().await;
    let theirs = async_nats::jetstream::stream::Config {
        name: "SHORT".to_owned(),
        subjects: vec!["a".to_owned()],
        max_age: secs(60),
        ..Default::default()
    };
    broker.jetstream_context().await.create_stream(theirs).await.unwrap();
    let config = Config::on(&broker).target("policy", "a", "http://127.0.0.1:1/", "");
    let connector = Connector::start(&config).await;

    connector.wait_for_line(&["WARN", "SHORT", "max_age"]).await;
}
