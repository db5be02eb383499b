//! How a batch ends: all together, in halves, or through crashes and drains.

use std::collections::BTreeSet;

use super::{all_numbers, batching, config_for, numbers};
use crate::support::broker::{DEAD_LETTERS, EVENTS, header};
use crate::support::receiver::{Gate, Received};
use crate::support::{Answer, Broker, Connector, Receiver, millis, secs, until};

/// Answers `status` to every batch that holds one of `poison`.
fn refuse(receiver: &Receiver, status: u16, poison: &'static [u64]) {
    receiver.judge("/hook", move |request| {
        let spoilt = numbers(request).iter().any(|number| poison.contains(number));
        Answer::status(if spoilt { status } else { 200 })
    });
}

/// What was in the batches that were accepted.
fn accepted(receiver: &Receiver, poison: &[u64]) -> Vec<u64> {
    let accepted = |request: &Received| !numbers(request).iter().any(|number| poison.contains(number));
    let requests: Vec<_> = receiver.at("/hook").into_iter().filter(accepted).collect();
    all_numbers(&requests)
}

#[tokio::test]
async fn a_transient_failure_is_everybody_s_and_all_come_again_in_few_requests() {
    let more = "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }";
    let (broker, receiver, _, _connector) =
        batching("{ max_messages = 50, max_wait = \"300ms\" }", more).await;
    receiver.next("/hook", [Answer::status(503)]);

    broker.publish_numbered("a", 0..50).await;

    broker.wait_until_settled("policy").await;
    let seen = receiver.at("/hook");
    let failed = numbers(&seen[0]);
    assert!(failed.len() > 10, "{failed:?}");
    assert_eq!(all_numbers(&seen[1..]), (0..50).collect::<Vec<_>>(), "once more each, and nobody twice");
    let again = |request: &&Received| request.header("natshook-attempt").as_deref() == Some("2");
    let retries: Vec<_> = seen.iter().filter(again).cloned().collect();
    let retried: BTreeSet<u64> = all_numbers(&retries).into_iter().collect();
    assert!(failed.iter().all(|number| retried.contains(number)), "{failed:?} in {retried:?}");
    assert!(seen.len() <= 8, "{} requests", seen.len());
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn attempts_that_are_used_up_are_each_member_s_own() {
    let more = "retry = { delays = [\"1s\"], jitter = 0 }";
    let (broker, receiver, _, _connector) =
        batching("{ max_messages = 3, max_wait = \"300ms\" }", more).await;
    receiver.always("/hook", Answer::status(500));

    broker.publish_numbered("a", 0..3).await;

    let dead = broker.wait_for_dead_letters(3).await;
    for letter in &dead {
        assert_eq!(header(letter, "Natshook-Reason").as_deref(), Some("attempts_exhausted"));
        assert_eq!(header(letter, "Natshook-Attempts").as_deref(), Some("2"));
    }
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn the_poison_among_a_hundred_is_found_and_everybody_else_arrives_once() {
    const POISON: &[u64] = &[41];
    let (broker, receiver, _, _connector) =
        batching("{ max_messages = 100, max_wait = \"60s\" }", "concurrency = 4").await;
    refuse(&receiver, 413, POISON);

    broker.publish_numbered("a", 0..100).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"41");
    for (name, value) in
        [("Natshook-Reason", "permanent_status"), ("Natshook-Attempts", "1"), ("Natshook-Last-Status", "413")]
    {
        assert_eq!(header(&dead[0], name).as_deref(), Some(value), "{name}");
    }
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 1);
    let others: Vec<u64> = (0..100).filter(|number| *number != 41).collect();
    assert_eq!(accepted(&receiver, POISON), others);
    assert!(receiver.count("/hook") <= 15, "{} requests", receiver.count("/hook"));
    let attempts: BTreeSet<_> = receiver.at("/hook").iter().map(|r| r.header("natshook-attempt")).collect();
    assert_eq!(attempts.len(), 1, "halves are charged nothing");
}

#[tokio::test]
async fn when_a_half_fails_for_the_moment_only_its_members_come_again() {
    const POISON: &[u64] = &[0];
    let more = "concurrency = 1\nretry = { delays = [\"1s\"], jitter = 0 }";
    let (broker, receiver, _, _connector) = batching("{ max_messages = 8, max_wait = \"2s\" }", more).await;
    refuse(&receiver, 400, POISON);
    // All, then the first half, and then the second.
    receiver.next("/hook", [Answer::status(400), Answer::status(503)]);

    broker.publish_numbered("a", 0..8).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"0");
    assert_eq!(
        header(&dead[0], "Natshook-Attempts").as_deref(),
        Some("2"),
        "the 503 counts, the halving does not"
    );
    broker.wait_until_settled("policy").await;
    let seen = receiver.at("/hook");
    assert_eq!((numbers(&seen[1]), numbers(&seen[2])), (vec![0, 1, 2, 3], vec![4, 5, 6, 7]));
    assert_eq!(accepted(&receiver, POISON), (1..8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_message_that_is_not_json_is_a_dead_letter_and_spoils_nothing() {
    let (broker, receiver, _, _connector) = batching("{ max_messages = 2, max_wait = \"60s\" }", "").await;

    broker.publish("a", "1").await;
    broker.publish("a", "{\"a\":").await;
    broker.publish("a", "2").await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(numbers(&seen[0]), [1, 2]);
    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(dead[0].payload, b"{\"a\":");
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("not_json"));
    let error = header(&dead[0], "Natshook-Last-Error").unwrap();
    assert!(error.starts_with("the payload is not JSON") && error.contains("line 1 column 5"), "{error}");
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_drain_sends_at_once_what_waits_for_others() {
    let (broker, receiver, _, mut connector) =
        batching("{ max_messages = 100, max_wait = \"60s\" }", "").await;
    broker.publish_numbered("a", 0..3).await;
    let taken = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 3));
    until("all three wait in the batch", secs(10), taken).await;

    connector.stop().await;

    assert_eq!(numbers(&receiver.at("/hook")[0]), [0, 1, 2]);
    assert_eq!(broker.outstanding(EVENTS, "natshook-policy").await, Some((0, 0)));
}

#[tokio::test]
async fn a_drain_hands_back_what_has_no_permit_and_what_outlasts_the_grace_period() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let batch = "{ max_messages = 2, max_wait = \"60s\" }";
    let more = "concurrency = 1\n[shutdown]\ngrace_period = \"1s\"";
    let config = config_for(&broker, &receiver, batch, more);
    let mut connector = Connector::start(&config).await;
    receiver.next("/hook", [Answer::ok().after(secs(60))]);
    broker.publish_numbered("a", 0..2).await;
    receiver.wait_for("/hook", 1).await;
    broker.publish_numbered("a", 2..4).await;

    let began = std::time::Instant::now();
    connector.stop().await;
    assert!(began.elapsed() < secs(10), "the grace period was obeyed: {:?}", began.elapsed());

    let _connector = Connector::start(&config).await;
    broker.wait_until_settled("policy").await;
    assert_eq!(all_numbers(&receiver.at("/hook")[1..]), [0, 1, 2, 3], "all of it came again, within seconds");
}

#[tokio::test]
async fn a_changed_target_sends_what_its_old_batch_holds() {
    let (broker, receiver, config, connector) =
        batching("{ max_messages = 100, max_wait = \"60s\" }", "").await;
    broker.publish_numbered("a", 0..3).await;
    let taken = async || broker.outstanding(EVENTS, "natshook-policy").await == Some((0, 3));
    until("all three wait in the batch", secs(10), taken).await;

    connector.write_config(&config.text().replace("60s", "50s"));

    assert_eq!(numbers(&receiver.wait_for("/hook", 1).await[0]), [0, 1, 2]);
    broker.wait_until_settled("policy").await;
}

#[tokio::test]
async fn a_killed_natshook_loses_nothing_and_sends_the_whole_batch_again() {
    let (broker, receiver, config, mut connector) =
        batching("{ max_messages = 10, max_wait = \"1s\" }", "").await;
    let gate = Gate::closed();
    receiver.next("/hook", [Answer::ok().behind(&gate)]);
    broker.publish_numbered("a", 0..25).await;
    receiver.wait_for("/hook", 2).await;

    connector.kill9();
    gate.open();
    let _connector = Connector::start(&config).await;

    broker.wait_until_settled("policy").await;
    let seen: BTreeSet<u64> = all_numbers(&receiver.at("/hook")).into_iter().collect();
    assert_eq!(seen, (0..25).collect());
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn with_core_nats_batches_are_sent_too_and_a_drain_leaves_nobody_behind() {
    let broker = Broker::start_without_jetstream().await;
    let receiver = Receiver::start().await;
    let batch = "{ max_messages = 3, max_wait = \"60s\" }";
    let more = "retry = { delays = [\"1s\"], jitter = 0 }";
    let config = config_for(&broker, &receiver, batch, more).top("source = \"core\"");
    let mut connector = Connector::start(&config).await;
    receiver.next("/hook", [Answer::status(503)]);
    let client = broker.client().await;
    for number in 0..3 {
        client.publish("a", number.to_string().into()).await.unwrap();
    }
    let seen = receiver.wait_for("/hook", 2).await;
    assert_eq!((numbers(&seen[0]), numbers(&seen[1])), (vec![0, 1, 2], vec![0, 1, 2]), "they come again");
    for number in 3..5 {
        client.publish("a", number.to_string().into()).await.unwrap();
    }
    until("two wait for a third", secs(10), async || {
        connector.get("/metrics").await.1.contains("natshook_deliveries_in_flight{target=\"policy\"} 2\n")
    })
    .await;

    connector.stop().await;

    let seen = receiver.at("/hook");
    assert_eq!((seen.len(), numbers(&seen[2])), (3, vec![3, 4]));
}

#[tokio::test]
async fn a_sick_batch_target_costs_the_others_nothing() {
    const MESSAGES: usize = 5_000;
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::ok().after(secs(60)));
    receiver.always("/healthy", Answer::ok().after(millis(50)));
    let batch = "{ max_messages = 100, max_wait = \"60s\" }";
    let config = config_for(&broker, &receiver, batch, "timeout = \"60s\"").target(
        "healthy",
        "a",
        &receiver.url("/healthy"),
        "",
    );
    let _connector = Connector::start(&config).await;

    for begin in (0..MESSAGES).step_by(1_000) {
        broker.publish_numbered("b", begin..begin + 1_000).await;
    }
    receiver.wait_for("/hook", 2).await;
    broker.publish_numbered("a", 0..1_000).await;

    receiver.wait_long_for("/healthy", 1_000, secs(30)).await;
    let (healthy, sick) = (receiver.most_in_flight("/healthy"), receiver.count("/hook"));
    assert!(healthy > 48, "{healthy} at a time, although it may have 64");
    assert!((2..=10).contains(&sick), "{sick} batches wait for the sick one");
    let waiting = broker.outstanding(EVENTS, "natshook-policy").await.unwrap();
    assert!(waiting.1 <= 1_100, "the rest stays in the stream: {waiting:?}");
}
