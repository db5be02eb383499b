//! What waits behind a failing message waits in the retry stream, however much it is and whatever becomes of the order.

use super::{AT_ONCE, arrivals, assert_in_order, publish_each, subjects, wait_for_last};
use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

const ORDERED: &str = "natshook.ordered.policy";

/// Fails everything of `orders.0` until the test says otherwise.
async fn receiver_that_refuses_the_first_subject() -> Receiver {
    let receiver = Receiver::start().await;
    receiver.judge("/hook", |request| {
        if super::subject(request) == "orders.0" { Answer::status(500) } else { Answer::ok() }
    });
    receiver
}

#[tokio::test]
async fn thousands_behind_a_failing_message_cost_storage_and_no_slots() {
    let broker = Broker::start().await;
    let receiver = receiver_that_refuses_the_first_subject().await;
    let more = "order = \"subject\"\nretry = { initial = \"1s\", factor = 1, max = \"1s\", attempts = 1000, jitter = 0 }";
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), more);
    let mut connector = Connector::start(&config).await;
    let subjects = subjects(2);
    publish_each(&broker, &subjects, 0..1).await;
    receiver.wait_for("/hook", 2).await;
    let before = connector.peak_memory_mib();
    let context = broker.jetstream_context().await;
    for _ in 0..3 {
        let mut stored = Vec::new();
        for _ in 0..1_000 {
            stored.push(context.publish("orders.0".to_owned(), vec![b'1'; 2_000].into()).await.unwrap());
        }
        for ack in stored {
            ack.await.unwrap();
        }
    }
    until("all of them are parked", secs(60), async || broker.count(RETRY_QUEUE).await == 3_001).await;
    until("and settled in their stream", secs(10), async || {
        broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 0))
    })
    .await;
    let grown = connector.peak_memory_mib() - before;
    assert!(grown < 40, "{grown} MiB for 6 MB of messages that wait elsewhere");
    publish_each(&broker, &subjects[1..], 1..50).await;
    wait_for_last(&receiver, "/hook", &subjects[1..], 49, 10).await;
    until("the leader tells how many are parked", secs(10), async || {
        connector.get("/metrics").await.1.contains("natshook_parked_deliveries{target=\"policy\"} 3001\n")
    })
    .await;

    // Another leader finds them all, and in order.
    receiver.always("/hook", Answer::ok());
    receiver.judge("/hook", |_| Answer::ok());
    connector.stop().await;
    let _next = Connector::start(&config.another()).await;
    until("all are delivered", secs(60), async || broker.count(RETRY_QUEUE).await == 0).await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn what_is_parked_when_the_order_is_switched_off_is_retried_as_it_comes() {
    let broker = Broker::start().await;
    let receiver = receiver_that_refuses_the_first_subject().await;
    let config = |more: &str| {
        let target = format!("{more}\n{AT_ONCE}");
        Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), &target)
    };
    let ordered = config("order = \"subject\"");
    let connector = Connector::start(&ordered).await;
    publish_each(&broker, &subjects(1), 0..30).await;
    until("all wait", secs(10), async || {
        let stored = broker.stored(RETRY_QUEUE).await;
        stored.iter().filter(|message| message.subject == ORDERED).count() == 30
    })
    .await;

    connector.write_config(&ordered.text().replace("order = \"subject\"", "order = \"none\""));
    connector.wait_for_line(&["not ordered any more"]).await;
    let stored = broker.stored(RETRY_QUEUE).await;
    assert!(stored.iter().all(|message| message.subject == "natshook.retry.policy"), "{stored:?}");
    receiver.judge("/hook", |_| Answer::ok());
    until("all are delivered", secs(20), async || broker.count(RETRY_QUEUE).await == 0).await;
    let mut arrived = arrivals(&receiver, "/hook")["orders.0"].clone();
    arrived.sort_unstable();
    arrived.dedup();
    assert_eq!(arrived, (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn an_order_that_is_switched_on_holds_from_then_on_and_through_changes_of_the_target() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "orders.>", &receiver.url("/hook"), AT_ONCE);
    let connector = Connector::start(&config).await;
    publish_each(&broker, &subjects(3), 0..1).await;
    receiver.wait_for("/hook", 3).await;
    let ordered = format!("order = \"subject\"\n{AT_ONCE}");
    connector.write_config(&config.text().replace(AT_ONCE, &ordered));
    connector.wait_for_line(&["this replica leads"]).await;
    receiver.judge("/hook", |_| if fastrand::u8(0..4) == 0 { Answer::status(500) } else { Answer::ok() });
    publish_each(&broker, &subjects(3), 1..200).await;
    receiver.wait_for("/hook", 100).await;
    connector.write_config(&config.text().replace(AT_ONCE, &format!("concurrency = 7\n{ordered}")));
    wait_for_last(&receiver, "/hook", &subjects(3), 199, 40).await;
    broker.wait_until_settled("policy").await;
    assert_in_order(&receiver, "/hook", &subjects(3), 200);
    let led = connector.output().matches("this replica leads").count();
    assert_eq!(led, 2, "the changed target took over from the one before");
}
