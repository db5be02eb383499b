//! From a subject to the webhooks that want it: who gets what.

use crate::support::broker::{DEAD_LETTERS, EVENTS, RETRY_QUEUE};
use crate::support::{Broker, Config, Connector, Receiver};

#[tokio::test]
async fn a_message_reaches_the_target_of_its_subject() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "PolicyUpdated", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    let sequence = broker.publish("PolicyUpdated", r#"{"id":1}"#).await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].first_line, "POST /hook HTTP/1.1");
    assert_eq!(seen[0].body, br#"{"id":1}"#);
    assert_eq!(seen[0].header("webhook-id"), Some(format!("{EVENTS}-{sequence}")));
    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(broker.count(DEAD_LETTERS).await, 0);
}

#[tokio::test]
async fn a_message_reaches_every_matching_target() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker)
        .target("exact", "policies.eu.created", &receiver.url("/exact"), "")
        .target("star", "policies.*.created", &receiver.url("/star"), "")
        .target("rest", "policies.>", &receiver.url("/rest"), "")
        .target("other", "claims.>", &receiver.url("/other"), "");
    let _connector = Connector::start(&config).await;

    for subject in ["policies.eu.created", "policies.us.created", "policies.eu.deleted.twice", "claims.x"] {
        broker.publish(subject, subject).await;
    }

    for target in ["exact", "star", "rest", "other"] {
        broker.wait_until_settled(target).await;
    }
    assert_eq!(receiver.bodies("/exact"), ["policies.eu.created"]);
    assert_eq!(receiver.bodies("/star"), ["policies.eu.created", "policies.us.created"]);
    assert_eq!(
        receiver.bodies("/rest"),
        ["policies.eu.created", "policies.eu.deleted.twice", "policies.us.created"]
    );
    assert_eq!(receiver.bodies("/other"), ["claims.x"]);
}

#[tokio::test]
async fn overlapping_subjects_of_one_target_deliver_a_message_once() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let subjects = "orders.>, orders.*.paid, orders.eu.paid, refunds.*, refunds.*";
    let config = Config::on(&broker).target("orders", subjects, &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    broker.publish("orders.eu.paid", "1").await;
    broker.publish("orders.eu", "2").await;
    broker.publish("refunds.eu", "3").await;

    broker.wait_until_settled("orders").await;
    assert_eq!(receiver.bodies("/hook"), ["1", "2", "3"]);
}

#[tokio::test]
async fn wildcards_that_cross_each_other_deliver_what_either_matches() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    // Neither contains the other, but `x.a.b` matches both: the broker refuses such subjects in one stream.
    let config = Config::on(&broker).target("crossed", "x.a.*, x.*.b", &receiver.url("/hook"), "").target(
        "other",
        "x.*.c",
        &receiver.url("/other"),
        "",
    );
    let _connector = Connector::start(&config).await;

    for subject in ["x.a.b", "x.a.x", "x.x.b", "x.a.c", "x.x.c"] {
        broker.publish(subject, subject).await;
    }

    broker.wait_until_settled("crossed").await;
    broker.wait_until_settled("other").await;
    assert_eq!(receiver.bodies("/hook"), ["x.a.b", "x.a.c", "x.a.x", "x.x.b"]);
    assert_eq!(receiver.bodies("/other"), ["x.a.c", "x.x.c"]);
}

#[tokio::test]
async fn subjects_that_no_stream_can_hold_together_are_named() {
    let broker = Broker::start().await;
    // What contains both is `*.>`, which would hold natshook's own subjects and the broker's.
    let config = Config::on(&broker).target("orders", "orders.>", "http://127.0.0.1:1/", "").target(
        "created",
        "*.created",
        "http://127.0.0.1:1/",
        "",
    );
    let connector = Connector::spawn(&config, &[]);

    connector.wait_for_line(&["ERROR", "orders.>", "*.created"]).await;
}

#[tokio::test]
async fn an_existing_stream_that_holds_the_subject_is_used_as_it_is() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let theirs = async_nats::jetstream::stream::Config {
        name: "BUSINESS".to_owned(),
        subjects: vec!["orders.>".to_owned(), "invoices.>".to_owned()],
        max_messages: 10_000,
        ..Default::default()
    };
    let context = broker.jetstream_context().await;
    context.create_stream(theirs.clone()).await.unwrap();
    let config = Config::on(&broker).target("orders", "orders.*", &receiver.url("/hook"), "");
    let _connector = Connector::start(&config).await;

    let sequence = broker.publish("orders.new", "1").await;

    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("webhook-id"), Some(format!("BUSINESS-{sequence}")));
    assert!(context.get_stream(EVENTS).await.is_err(), "no second stream");
    let stream = context.get_stream("BUSINESS").await.unwrap();
    let now = &stream.cached_info().config;
    assert_eq!((&now.subjects, now.max_messages), (&theirs.subjects, theirs.max_messages));
}

#[tokio::test]
async fn a_target_whose_subjects_lie_in_several_streams_gets_them_all() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let context = broker.jetstream_context().await;
    for (name, subject) in [("EU", "orders.eu.>"), ("US", "orders.us.>")] {
        let subjects = vec![subject.to_owned()];
        let theirs =
            async_nats::jetstream::stream::Config { name: name.to_owned(), subjects, ..Default::default() };
        context.create_stream(theirs).await.unwrap();
    }
    let config = Config::on(&broker).stream_instead("create = false").target(
        "orders",
        "orders.*.new",
        &receiver.url("/hook"),
        "",
    );
    let _connector = Connector::start(&config).await;

    for subject in ["orders.eu.new", "orders.us.new", "orders.us.old"] {
        broker.publish(subject, subject).await;
    }

    receiver.wait_for("/hook", 2).await;
    assert_eq!(receiver.bodies("/hook"), ["orders.eu.new", "orders.us.new"]);
}

#[tokio::test]
async fn a_new_target_starts_with_new_messages() {
    assert_eq!(started_at("").await, ["new"]);
}

#[tokio::test]
async fn what_the_stream_that_natshook_makes_stores_is_delivered_from_the_first_message_on() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let context = broker.jetstream_context().await;
    // A publisher that is already at work: natshook starts with it.
    let publisher = tokio::spawn(async move {
        let mut stored = Vec::new();
        for i in 0.. {
            let sent = context.publish("a", i.to_string().into()).await.unwrap();
            if sent.await.is_ok() {
                stored.push(i.to_string());
            }
            if stored.len() == 300 {
                break;
            }
        }
        stored
    });

    let _connector = Connector::start(&config).await;

    let mut stored = publisher.await.unwrap();
    broker.wait_until_settled("policy").await;
    stored.sort();
    assert_eq!(receiver.bodies("/hook"), stored);
}

#[tokio::test]
async fn a_target_can_start_with_all_messages() {
    assert_eq!(started_at("start = \"all\"").await, ["new", "old-1", "old-2"]);
}

#[tokio::test]
async fn a_target_can_start_at_a_sequence() {
    assert_eq!(started_at("start = 2").await, ["new", "old-2"]);
}

#[tokio::test]
async fn a_target_can_start_at_a_time() {
    assert_eq!(started_at("start = \"2001-01-01T00:00:00Z\"").await, ["new", "old-1", "old-2"]);
}

/// What a target gets of two old messages and a new one.
async fn started_at(start: &str) -> Vec<String> {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let first = Config::on(&broker).target("first", "a", &receiver.url("/first"), "");
    let mut connector = Connector::start(&first).await;
    broker.publish("a", "old-1").await;
    broker.publish("a", "old-2").await;
    broker.wait_until_settled("first").await;
    connector.stop().await;

    let both = first.target("second", "a", &receiver.url("/second"), start);
    let _connector = Connector::start(&both).await;
    broker.publish("a", "new").await;
    broker.wait_until_settled("second").await;
    receiver.bodies("/second")
}

#[tokio::test]
async fn messages_published_while_natshook_is_down_are_delivered_when_it_is_back() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&config).await;
    connector.stop().await;

    broker.publish_numbered("a", 0..50).await;
    let _connector = Connector::start(&config).await;

    broker.wait_until_settled("policy").await;
    let mut expected: Vec<_> = (0..50).map(|i| i.to_string()).collect();
    expected.sort();
    assert_eq!(receiver.bodies("/hook"), expected);
}

#[tokio::test]
async fn two_replicas_share_the_work() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", crate::support::Answer::ok().after(crate::support::millis(20)));
    let target = |config: Config| config.target("policy", "a", &receiver.url("/hook"), "concurrency = 4");
    let one = Connector::start(&target(Config::on(&broker))).await;
    let two = Connector::start(&target(Config::on(&broker))).await;

    broker.publish_numbered("a", 0..300).await;

    broker.wait_until_settled("policy").await;
    let mut expected: Vec<_> = (0..300).map(|i| i.to_string()).collect();
    expected.sort();
    assert_eq!(receiver.bodies("/hook"), expected, "each message once");
    assert!(receiver.most_in_flight("/hook") > 4, "never more than one replica's worth at a time");
    for replica in [&one, &two] {
        let (_, metrics) = replica.get("/metrics").await;
        let lines = metrics.lines().filter(|l| l.contains("policy") && l.contains("delivered"));
        let delivered: f64 = lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        assert!(delivered >= 30.0, "a replica delivered only {delivered}:\n{metrics}");
    }
}

#[tokio::test]
async fn a_changed_subject_list_takes_effect_at_the_next_start() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let before = Config::on(&broker).target("policy", "a", &receiver.url("/hook"), "");
    let mut connector = Connector::start(&before).await;
    broker.publish("a", "1").await;
    broker.wait_until_settled("policy").await;
    connector.stop().await;

    let after = Config::on(&broker).target("policy", "a, b.>", &receiver.url("/hook"), "");
    let _connector = Connector::start(&after).await;
    broker.publish("a", "2").await;
    broker.publish("b.c", "3").await;

    broker.wait_until_settled("policy").await;
    assert_eq!(receiver.bodies("/hook"), ["1", "2", "3"]);
    assert_eq!(broker.count(RETRY_QUEUE).await, 0);
}
