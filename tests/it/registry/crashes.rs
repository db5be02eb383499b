//! What is registered survives natshook, the broker and the connection between them.

use serde_json::json;

use super::{BUCKET, ask, open, put, target};
use crate::support::{Broker, Connector, Receiver, secs, until};

#[tokio::test]
async fn what_was_answered_survives_the_death_of_natshook_and_of_the_broker() {
    let mut broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut connector = Connector::start(&open(&broker)).await;
    for i in 0..10 {
        put(&broker, target(&format!("t{i}"), "a", &receiver, &format!("/{i}"))).await.done();
    }
    connector.kill9();
    broker.restart().await;
    connector.restart().await;
    until("the stream is there", secs(20), async || {
        broker.outstanding("EVENTS", "natshook-t9").await.is_some()
    })
    .await;
    broker.publish("a", "1").await;
    for i in 0..10 {
        receiver.wait_long_for(&format!("/{i}"), 1, secs(30)).await;
    }
}

#[tokio::test]
async fn a_target_that_registers_while_a_replica_is_cut_off_reaches_it_when_it_is_back() {
    let mut broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let connector = Connector::start(&open(&broker)).await;
    put(&broker, target("gone", "a", &receiver, "/gone")).await.done();
    put(&broker, target("stays", "a", &receiver, "/stays")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-stays"]).await;
    // The replica stands still while another one takes the requests, and the broker forgets its connection.
    connector.signal("STOP");
    let config = open(&broker);
    let other = Connector::start(&config).await;
    until("the other one answers", secs(20), async || {
        let client = broker.client().await;
        let target = target("late", "a", &receiver, "/late").to_string();
        let question = format!("{{\"target\":{target}}}");
        let asked = client.request("natshook.targets.put", question.into());
        tokio::time::timeout(secs(1), asked).await.is_ok_and(|answer| answer.is_ok())
    })
    .await;
    until("the other one removes", secs(20), async || {
        let client = broker.client().await;
        let asked = client.request("natshook.targets.delete", "{\"name\":\"gone\"}".into());
        tokio::time::timeout(secs(1), asked).await.is_ok_and(|answer| answer.is_ok())
    })
    .await;
    drop(other);
    broker.restart().await;
    connector.signal("CONT");
    until("it knows what is there now", secs(30), async || {
        let (_, metrics) = connector.get("/metrics").await;
        metrics.contains("natshook_lane_limit{target=\"late\"}")
            && metrics.contains("natshook_lane_limit{target=\"stays\"}")
            && !metrics.contains("natshook_lane_limit{target=\"gone\"}")
    })
    .await;
    broker.publish("a", "1").await;
    receiver.wait_long_for("/late", 1, secs(30)).await;
    receiver.wait_long_for("/stays", 1, secs(30)).await;
}

#[tokio::test]
async fn a_bucket_that_somebody_deletes_is_made_again_with_what_is_known() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut connector = Connector::start(&open(&broker)).await;
    put(&broker, target("policy", "a", &receiver, "/hook")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    broker.jetstream_context().await.delete_stream(BUCKET).await.unwrap();
    connector.wait_long_for_line(&["the bucket of registered targets is gone"], secs(60)).await;
    until("the target is kept again", secs(10), async || broker.count(BUCKET).await == 1).await;
    connector.restart().await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
    ask(&broker, "get", json!({ "name": "policy" })).await.done();
}
