//! Answers that have a word on each message of a batch.

use serde_json::json;

use super::{all_numbers, batching, numbers};
use crate::support::broker::{DEAD_LETTERS, header};
use crate::support::{Answer, secs, until};

const RETRY: &str = "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }";

#[tokio::test]
async fn a_207_settles_each_message_by_its_own_status() {
    let batch = "{ max_messages = 4, max_wait = \"500ms\", answer = \"multi-status\" }";
    let (broker, receiver, _, _connector) = batching(batch, RETRY).await;
    let statuses =
        json!([{ "status": 200 }, { "status": 422, "error": "no such thing" }, { "status": 503 }, 201]);
    receiver.next("/hook", [Answer::status(207).body(statuses.to_string())]);

    broker.publish_numbered("a", 0..4).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"1");
    for (name, value) in [
        ("Natshook-Reason", "permanent_status"),
        ("Natshook-Last-Status", "422"),
        ("Natshook-Last-Error", "answered 207, with 422 for this message"),
        ("Natshook-Response", r#"{"error":"no such thing","status":422}"#),
    ] {
        assert_eq!(header(&dead[0], name).as_deref(), Some(value), "{name}");
    }
    broker.wait_until_settled("policy").await;
    let seen = receiver.at("/hook");
    assert_eq!(seen.len(), 2, "nothing is halved");
    assert_eq!(numbers(&seen[1]), [2], "only the 503 comes again");
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("2"));
}

#[tokio::test]
async fn what_an_answer_lists_as_failed_comes_again_and_the_rest_is_delivered() {
    let batch = "{ max_messages = 4, max_wait = \"500ms\", answer = { failed = \"/batchItemFailures\" } }";
    let (broker, receiver, _, _connector) = batching(batch, RETRY).await;
    let failed =
        json!({ "batchItemFailures": [{ "itemIdentifier": "EVENTS-2" }, 2, { "index": 3, "status": 400 }] });
    receiver.next("/hook", [Answer::ok().body(failed.to_string())]);
    receiver.always("/hook", Answer::ok().body(r#"{"batchItemFailures":[]}"#));

    broker.publish_numbered("a", 0..4).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"3");
    broker.wait_until_settled("policy").await;
    let seen = receiver.at("/hook");
    assert_eq!(all_numbers(&seen[1..]), [1, 2]);
}

#[tokio::test]
async fn an_answer_that_cannot_be_read_is_no_success() {
    let batch = "{ max_messages = 2, max_wait = \"500ms\", answer = { failed = \"/failed\" } }";
    let (broker, receiver, _, _connector) = batching(batch, RETRY).await;
    receiver.always("/hook", Answer::ok().body("thank you"));

    broker.publish_numbered("a", 0..2).await;

    let dead = broker.wait_for_dead_letters(2).await;
    for letter in &dead {
        assert_eq!(header(letter, "Natshook-Reason").as_deref(), Some("attempts_exhausted"));
        let error = header(letter, "Natshook-Last-Error").unwrap();
        assert!(error.starts_with("answered 200, but cannot be read message by message"), "{error}");
    }
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_whole_refusal_is_halved_whatever_answers_usually_say() {
    let batch = "{ max_messages = 8, max_wait = \"60s\", answer = \"multi-status\" }";
    let (broker, receiver, _, _connector) = batching(batch, "").await;
    receiver.judge("/hook", |request| Answer::status(if numbers(request).contains(&5) { 413 } else { 200 }));

    broker.publish_numbered("a", 0..8).await;

    assert_eq!(broker.wait_for_dead_letters(1).await[0].payload, b"5");
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 1);
}

#[tokio::test]
async fn when_every_message_fails_the_breaker_opens_as_for_any_request() {
    let batch = "{ max_messages = 2, max_wait = \"100ms\", answer = \"multi-status\" }";
    let (broker, receiver, _, connector) = batching(batch, "concurrency = 1").await;
    receiver.judge("/hook", |request| {
        let each = vec![503; numbers(request).len()];
        Answer::status(207).body(json!(each).to_string())
    });

    broker.publish_numbered("a", 0..40).await;

    connector.wait_for_line(&["breaker opened"]).await;
    assert_eq!(receiver.count("/hook"), 10, "ten requests failed in a row");
    let metrics = async || connector.get("/metrics").await.1;
    let open = "natshook_breaker_state{target=\"policy\",state=\"open\"} 1";
    until("metrics tell", secs(5), async || metrics().await.contains(open)).await;
}
