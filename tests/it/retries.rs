//! Retries: when they come, what they count, and what they survive.

use std::time::{Duration, SystemTime};

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE, Stored, header};
use crate::support::receiver::Received;
use crate::support::{Answer, Broker, Config, Connector, Receiver, millis, secs, throughout};

fn gaps(seen: &[Received]) -> Vec<Duration> {
    seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// One target on subject `a` with this policy, and a running connector for it.
async fn target_with(retry: &str) -> (Broker, Receiver, Config, Connector) {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config =
        Config::on(&broker).target("policy", "a", &receiver.url("/hook"), &format!("retry = {retry}"));
    let connector = Connector::start(&config).await;
    (broker, receiver, config, connector)
}

#[tokio::test]
async fn a_delivery_that_fails_twice_arrives_at_the_third_attempt() {
    let (broker, receiver, _, _connector) = target_with("{ delays = [\"1s\", \"2s\"], jitter = 0 }").await;
    receiver.next("/hook", [Answer::status(500), Answer::status(503)]);

    broker.publish("a", "payload").await;

    let seen = receiver.wait_for("/hook", 3).await;
    for (request, attempt) in seen.iter().zip(["1", "2", "3"]) {
        assert_eq!(request.body, b"payload");
        assert_eq!(request.header("natshook-attempt").as_deref(), Some(attempt));
    }
    let gaps = gaps(&seen);
    for (gap, wait) in gaps.iter().zip([secs(1), secs(2)]) {
        assert!(*gap >= wait, "never early: {gap:?} instead of {wait:?}");
        assert!(*gap <= wait + millis(2_500), "not much later: {gap:?} instead of {wait:?}");
    }
    broker.wait_until_settled("policy").await;
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn an_exponential_policy_spreads_its_attempts() {
    let policy = "{ initial = \"1s\", factor = 2, max = \"2s\", attempts = 4, jitter = 0 }";
    let (broker, receiver, _, _connector) = target_with(policy).await;
    receiver.always("/hook", Answer::status(500));

    broker.publish("a", "1").await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Attempts").as_deref(), Some("4"));
    let seen = receiver.at("/hook");
    assert_eq!(seen.len(), 4);
    for (gap, wait) in gaps(&seen).iter().zip([secs(1), secs(2), secs(2)]) {
        assert!(*gap >= wait && *gap <= wait + millis(2_500), "{gap:?} instead of {wait:?}");
    }
}

#[tokio::test]
async fn a_waiting_retry_holds_no_slot() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/hook", [Answer::status(500)]);
    let more = "concurrency = 1\nretry = { delays = [\"1h\"] }";
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), more);
    let _connector = Connector::start(&config).await;

    broker.publish_numbered("a", 0..20).await;

    receiver.wait_for("/hook", 20).await;
    assert_eq!(broker.wait_for_retries(1).await.len(), 1);
}

#[tokio::test]
async fn a_retry_survives_restarts_and_the_end_of_its_source() {
    let (mut broker, receiver, config, mut connector) =
        target_with("{ delays = [\"3s\"], jitter = 0 }").await;
    receiver.next("/hook", [Answer::status(500)]);
    broker
        .publish_with_headers("a", &[("Nats-Msg-Id", "7"), ("ce-type", "x"), ("Content-Type", "text/x")], "1")
        .await;
    broker.wait_for_retries(1).await;

    connector.stop().await;
    let stream = broker.jetstream_context().await.get_stream("EVENTS").await.unwrap();
    stream.purge().await.unwrap();
    broker.kill9();
    broker.restart().await;
    let _connector = Connector::start(&config).await;

    // What a killed server forgets of a consumer costs an `ack_wait` at most.
    let seen = receiver.wait_long_for("/hook", 2, secs(30)).await;
    assert_eq!(seen[1].body, b"1");
    for (name, value) in
        [("webhook-id", "7"), ("ce-type", "x"), ("content-type", "text/x"), ("natshook-attempt", "2")]
    {
        assert_eq!(seen[1].header(name).as_deref(), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_crash_during_an_attempt_costs_no_attempt() {
    let (broker, receiver, config, mut connector) = target_with("{ delays = [\"1h\"] }").await;
    receiver.next("/hook", [Answer::ok().after(secs(60))]);
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;

    connector.kill9();
    let _connector = Connector::start(&config).await;

    let seen = receiver.wait_long_for("/hook", 2, secs(30)).await;
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("1"));
}

/// The gap between the first request, answered 503 with this `Retry-After`, and the second.
async fn gap_after(retry_after: &str) -> Duration {
    let (broker, receiver, _, _connector) = target_with("{ delays = [\"1s\"], jitter = 0 }").await;
    receiver.next("/hook", [Answer::status(503).header("Retry-After", retry_after)]);
    broker.publish("a", "1").await;
    let seen = receiver.wait_for("/hook", 2).await;
    assert_eq!(seen[1].header("natshook-attempt").as_deref(), Some("2"));
    gaps(&seen)[0]
}

#[tokio::test]
async fn retry_after_in_seconds_lengthens_the_wait() {
    let gap = gap_after("4").await;
    assert!(gap >= secs(4) && gap < millis(6_500), "{gap:?}");
}

#[tokio::test]
async fn retry_after_as_a_date_lengthens_the_wait() {
    // A date has whole seconds: what is written as five seconds ahead is at least four.
    let gap = gap_after(&httpdate::fmt_http_date(SystemTime::now() + secs(6))).await;
    assert!(gap >= millis(2_500) && gap < secs(8), "{gap:?}");
}

#[tokio::test]
async fn retry_after_never_shortens_the_wait_and_nonsense_is_ignored() {
    for value in ["0", "-5", "soon", "1e9", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let gap = gap_after(value).await;
        assert!(gap >= secs(1) && gap < millis(3_500), "{value}: {gap:?}");
    }
}

#[tokio::test]
async fn a_hostile_retry_after_waits_an_hour_at_most() {
    let in_a_year = httpdate::fmt_http_date(SystemTime::now() + secs(365 * 24 * 3_600));
    for value in ["99999999999999999999", "86400", &in_a_year] {
        let (broker, receiver, _, _connector) = target_with("{ delays = [\"1s\"], jitter = 0 }").await;
        receiver.next("/hook", [Answer::status(503).header("Retry-After", value)]);

        broker.publish("a", "1").await;

        let wait = due_in(&broker.wait_for_retries(1).await[0]);
        assert!(wait <= secs(3_600) && wait > secs(3_500), "{value}: {wait:?}");
    }
}

/// How long from now a waiting delivery is due.
fn due_in(waiting: &Stored) -> Duration {
    let due = header(waiting, "Natshook-Not-Before").expect("a retry says when it is due");
    let due = humantime::parse_rfc3339(&due).unwrap_or_else(|_| panic!("RFC 3339, not {due}"));
    due.duration_since(SystemTime::now()).expect("it is due later")
}

#[tokio::test]
async fn retry_after_holds_the_whole_target_and_no_other() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.next("/held", [Answer::status(429).header("Retry-After", "4")]);
    let more = "retry = { delays = [\"1s\"], jitter = 0, overload_wait = \"1s\" }";
    let config = Config::on(&broker).target("held", "a", &receiver.url("/held"), more).target(
        "free",
        "a",
        &receiver.url("/free"),
        more,
    );
    let _connector = Connector::start(&config).await;
    broker.publish("a", "first").await;
    broker.wait_for_retries(1).await;

    broker.publish("a", "second").await;

    let seen = receiver.wait_for("/held", 3).await;
    assert!(seen[1].at - seen[0].at >= secs(4), "{:?}", gaps(&seen));
    let free = receiver.at("/free");
    assert_eq!(free.len(), 2);
    assert!(free[1].at < seen[1].at);
}

#[tokio::test]
async fn an_overloaded_receiver_is_given_its_longer_wait() {
    let policy = "{ delays = [\"1s\"], jitter = 0, overload_wait = \"4s\" }";
    let (broker, receiver, _, _connector) = target_with(policy).await;
    receiver.next("/hook", [Answer::status(429)]);

    broker.publish("a", "1").await;

    let gap = gaps(&receiver.wait_for("/hook", 2).await)[0];
    assert!(gap >= secs(4) && gap < millis(6_500), "{gap:?}");
}

#[tokio::test]
async fn max_age_ends_the_retries() {
    let policy = "{ delays = [\"1s\", \"1s\", \"30s\"], jitter = 0, max_age = \"10s\" }";
    let (broker, receiver, _, _connector) = target_with(policy).await;
    receiver.always("/hook", Answer::status(500));

    broker.publish("a", "1").await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("too_old"));
    assert_eq!(header(&dead[0], "Natshook-Attempts").as_deref(), Some("3"));
    assert_eq!(receiver.count("/hook"), 3);
}

#[tokio::test]
async fn an_old_message_still_gets_its_first_attempt() {
    let (broker, receiver, config, mut connector) =
        target_with("{ delays = [\"1s\"], jitter = 0, max_age = \"2s\" }").await;
    connector.stop().await;
    broker.publish("a", "works").await;
    broker.publish("a", "fails").await;
    let published = std::time::Instant::now();
    crate::support::until("the messages are too old", secs(5), async || published.elapsed() > secs(3)).await;
    receiver.next("/hook", [Answer::ok(), Answer::status(500)]);

    let _connector = Connector::start(&config).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("too_old"));
    assert_eq!(header(&dead[0], "Natshook-Attempts").as_deref(), Some("1"));
    assert_eq!(receiver.bodies("/hook"), ["fails", "works"]);
}

#[tokio::test]
async fn a_stranger_on_the_retry_subject_does_no_harm() {
    let (broker, receiver, _, connector) = target_with("{ delays = [\"1s\"], jitter = 0 }").await;
    receiver.next("/hook", [Answer::status(500)]);

    broker.publish("natshook.retry.policy", "no headers at all").await;
    broker.publish("natshook.retry.nobody", "no such target").await;
    let hostile = [
        ("Natshook-Attempts", "-1"),
        ("Natshook-Not-Before", "yesterday"),
        ("Natshook-Sequence", "99999999999999999999999"),
        ("Natshook-Subject", "a b\tc"),
    ];
    broker.publish_with_headers("natshook.retry.policy", &hostile, "nonsense").await;
    broker.publish("a", "honest").await;

    let honest = async || receiver.at("/hook").iter().filter(|r| r.body == b"honest").count() == 2;
    crate::support::until("the honest message is retried", secs(15), honest).await;
    broker.wait_until_settled("policy").await;
    let bodies = receiver.bodies("/hook");
    assert!(!bodies.iter().any(|body| body == "no such target"), "{bodies:?}");
    assert_eq!(connector.get("/readyz").await.0, 200);
    // What could not be read is kept for people to see.
    let kept: Vec<_> = broker.stored(DEAD_LETTERS).await;
    assert!(kept.iter().any(|letter| &letter.payload[..] == b"no such target"), "{kept:?}");
    // And counted, without the names that a stranger chose.
    let (_, metrics) = connector.get("/metrics").await;
    let counted = "natshook_dead_letters_total{target=\"\",reason=\"unreadable\"} 3\n";
    assert!(metrics.contains(counted) && !metrics.contains("nobody"), "{metrics}");
}

#[tokio::test]
async fn hours_long_delays_wait_in_the_queue() {
    let (broker, receiver, _, _connector) = target_with("{ delays = [\"10h\"], jitter = 0 }").await;
    receiver.always("/hook", Answer::status(500));

    broker.publish("a", "1").await;

    let waiting = broker.wait_for_retries(1).await;
    let wait = due_in(&waiting[0]);
    assert!(wait > secs(35_900) && wait <= secs(36_000), "{wait:?}");
    let id = header(&waiting[0], "Nats-Msg-Id").unwrap();
    assert!(id.starts_with("EVENTS:1:") && id.ends_with(":policy:1"), "{id}");
    throughout("it is not attempted early", secs(3), async || receiver.count("/hook") == 1).await;
    assert_eq!(broker.count(RETRY_QUEUE).await, 1);
}

#[tokio::test]
async fn a_message_that_is_redelivered_again_and_again_is_a_crash_loop() {
    let (broker, receiver, config, mut connector) = target_with("{ delays = [\"1h\"] }").await;
    connector.stop().await;
    broker.publish("a", "poison").await;
    let stream = broker.jetstream_context().await.get_stream("EVENTS").await.unwrap();
    let consumer: async_nats::jetstream::consumer::PullConsumer =
        stream.get_consumer("natshook-policy").await.unwrap();
    // Somebody takes the message and gives it back, as the broker does for one that crashed.
    for _ in 0..11 {
        use futures_util::StreamExt;
        let mut taken = consumer.batch().max_messages(1).expires(secs(5)).messages().await.unwrap();
        let message = taken.next().await.expect("one message").unwrap();
        message.double_ack_with(async_nats::jetstream::AckKind::Nak(None)).await.unwrap();
    }

    let _connector = Connector::start(&config).await;

    let dead = broker.wait_for_dead_letters(1).await;
    assert_eq!(header(&dead[0], "Natshook-Reason").as_deref(), Some("crash_loop"));
    assert_eq!(&dead[0].payload[..], b"poison");
    assert_eq!(receiver.count("/hook"), 0);
}

#[tokio::test]
async fn a_full_retry_queue_holds_the_message_back_until_there_is_room() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(500));
    let config = Config::on(&broker)
        .target("policy", "a", &receiver.url("/hook"), "retry = { delays = [\"1h\"] }")
        .and("[retry_queue]\nmax_bytes = 20000");
    let connector = Connector::start(&config).await;
    broker.publish("a", vec![b'1'; 12_000]).await;
    broker.wait_for_retries(1).await;

    broker.publish("a", vec![b'2'; 12_000]).await;

    connector.wait_for_line(&["ERROR", "policy", "maximum bytes exceeded"]).await;
    assert_eq!(broker.outstanding("EVENTS", "natshook-policy").await, Some((0, 1)), "it is not acked");
    let stream = broker.jetstream_context().await.get_stream(RETRY_QUEUE).await.unwrap();
    stream.purge().await.unwrap();
    let waits =
        async || broker.stored(RETRY_QUEUE).await.first().is_some_and(|message| message.payload[0] == b'2');
    crate::support::until("it waits for its next attempt", secs(15), waits).await;
    assert_eq!(receiver.count("/hook"), 2, "the webhook itself is not called again");
}
