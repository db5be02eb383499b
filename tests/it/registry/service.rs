//! What is asked and answered.

use std::time::Instant;

use serde_json::{Value, json};

use super::{BUCKET, ask, ask_with, open, put, target};
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, millis, secs, until};

#[tokio::test]
async fn a_service_registers_its_webhook_with_one_request_and_every_replica_delivers_within_a_second() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let mut one = Connector::start(&config).await;
    let two = Connector::start(&config.another()).await;
    // A stream holds the subject already: whatever is stored after the answer is delivered.
    put(&broker, target("first", "orders.>", &receiver, "/first")).await.done();
    until("a stream holds the subject", secs(10), async || {
        broker.outstanding("EVENTS", "natshook-first").await.is_some()
    })
    .await;

    let answered = put(&broker, target("orders", "orders.created", &receiver, "/orders")).await.done();
    broker.publish_numbered("orders.created", 0..10).await;
    let began = Instant::now();
    receiver.wait_for("/orders", 10).await;
    assert!(began.elapsed() < secs(1), "{:?}", began.elapsed());
    assert_eq!(answered["name"], "orders");
    assert_eq!(answered["changed"], true);
    for connector in [&one, &two] {
        until("the replica has the target", millis(1_000), async || {
            let (_, metrics) = connector.get("/metrics").await;
            metrics.contains("natshook_registered_targets{state=\"active\"} 2")
                && metrics.contains("natshook_lane_limit{target=\"orders\"}")
        })
        .await;
    }
    // Each replica delivers by itself, and after a restart too.
    one.kill9();
    broker.publish_numbered("orders.created", 10..20).await;
    receiver.wait_long_for("/orders", 20, secs(40)).await;
    one.restart().await;
    drop(two);
    broker.publish_numbered("orders.created", 20..30).await;
    receiver.wait_long_for("/orders", 30, secs(40)).await;
    broker.wait_until_settled("orders").await;
    assert_eq!(receiver.bodies("/orders").len(), 30, "nothing twice");
}

#[tokio::test]
async fn a_target_that_is_not_valid_is_refused_with_every_error_and_changes_nothing() {
    let broker = Broker::start().await;
    let _connector = Connector::start(&open(&broker)).await;
    let bad = json!({
        "name": "policy", "subjects": ["a..b", "natshook.targets.put"], "url": "http://10.0.0.1/x",
        "timeout": "1 parsec", "timout": "1s", "retry": { "delays": ["1s", 2] },
        "auth": { "bearer": { "env": "PATH" }, "basic": { "user": "a:b", "password": { "file": "/etc/passwd" } } },
        "signing": { "secrets": ["nonsense", ["PATH"]] }
    });
    let refused = put(&broker, bad).await;
    assert_eq!(refused.code.as_deref(), Some("400"));
    assert_eq!(refused.error.as_deref(), Some("the target is not valid: 11 errors"));
    let mut wrong = refused.wrong();
    wrong.sort_unstable();
    let expected = [
        "auth",
        "auth.basic.password",
        "auth.bearer",
        "retry.delays[1]",
        "signing.secrets[0]",
        "signing.secrets[1]",
        "subjects[0]",
        "subjects[1]",
        "timeout",
        "timout",
        "url",
    ];
    for key in expected {
        assert!(wrong.contains(&key), "{key} in {wrong:?}");
    }
    let text = refused.body.to_string();
    assert!(text.contains("did you mean"), "{text}");
    assert!(!text.contains("nonsense"), "no secret is shown: {text}");
    assert_eq!(broker.count(BUCKET).await, 0);

    for (question, code) in [
        (json!("a text"), "400"),
        (json!({ "target": { "name": "a b" } }), "400"),
        (json!({ "target": 7 }), "400"),
        (json!({ "target": {}, "revisoin": 1 }), "400"),
    ] {
        assert_eq!(ask(&broker, "put", question.clone()).await.code.as_deref(), Some(code), "{question}");
    }
    assert_eq!(broker.count(BUCKET).await, 0);
}

#[tokio::test]
async fn a_target_is_changed_and_removed_by_whoever_knows_its_revision() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let connector = Connector::start(&open(&broker)).await;
    let first = put(&broker, target("policy", "a", &receiver, "/one")).await.done();
    let again = put(&broker, target("policy", "a", &receiver, "/one")).await.done();
    assert_eq!((&again["revision"], &again["changed"]), (&first["revision"], &json!(false)));

    let moved = target("policy", "a", &receiver, "/two");
    let at = |revision: Value| json!({ "target": moved, "revision": revision });
    assert_eq!(ask(&broker, "put", at(json!(0))).await.code.as_deref(), Some("409"));
    assert_eq!(ask(&broker, "put", at(json!(99))).await.code.as_deref(), Some("409"));
    let second = ask(&broker, "put", at(first["revision"].clone())).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    until("the new address is used", secs(5), async || {
        broker.publish("a", "x").await;
        receiver.count("/two") > 0
    })
    .await;

    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done();
    assert_eq!((&found["revision"], &found["state"]), (&second["revision"], &json!("active")));
    assert_eq!(found["target"], moved);
    let stale = json!({ "name": "policy", "revision": first["revision"] });
    assert_eq!(ask(&broker, "delete", stale).await.code.as_deref(), Some("409"));
    ask(&broker, "delete", json!({ "name": "policy", "revision": second["revision"] })).await.done();
    for verb in ["get", "delete", "pause", "resume", "test"] {
        until("it is not there", secs(5), async || {
            ask(&broker, verb, json!({ "name": "policy" })).await.code.as_deref() == Some("404")
        })
        .await;
    }
    until("its consumer is gone", secs(20), async || {
        broker.outstanding("EVENTS", "natshook-policy").await.is_none()
    })
    .await;
    assert!(!connector.output().contains("vanished"), "nobody missed the consumer");
    // A name that was used can be used again.
    ask(&broker, "put", json!({ "target": moved, "revision": 0 })).await.done();
}

#[tokio::test]
async fn of_many_who_register_one_name_at_once_one_does() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let _one = Connector::start(&config).await;
    let _two = Connector::start(&config.another()).await;
    let client = broker.client().await;
    let puts = (0..20).map(|i| {
        let target = target("policy", "a", &receiver, &format!("/{i}"));
        ask_with(&client, "put", json!({ "target": target, "revision": 0 }))
    });
    let answered = futures_util::future::join_all(puts).await;
    let refused = answered.iter().filter(|answered| answered.code.as_deref() == Some("409")).count();
    assert_eq!((answered.len(), refused), (20, 19), "{answered:?}");
    assert_eq!(broker.count(BUCKET).await, 1);
}

#[tokio::test]
async fn subjects_that_are_added_on_two_replicas_at_once_are_all_held() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let one = Connector::start(&config).await;
    let two = Connector::start(&config.another()).await;
    for round in 0..5 {
        let client = broker.client().await;
        let puts = (0..6).map(|i| {
            let name = format!("t{round}-{i}");
            let target = target(&name, &format!("new.{name}"), &receiver, &format!("/{name}"));
            ask_with(&client, "put", json!({ "target": target }))
        });
        for answered in futures_util::future::join_all(puts).await {
            answered.done();
        }
    }
    let names = || (0..5).flat_map(|round| (0..6).map(move |i| format!("t{round}-{i}")));
    until("every target has its consumer", secs(60), async || {
        let mut there = true;
        for name in names() {
            there &= broker.outstanding("EVENTS", &format!("natshook-{name}")).await.is_some();
        }
        there
    })
    .await;
    for name in names() {
        broker.publish(&format!("new.{name}"), "x").await;
        receiver.wait_long_for(&format!("/{name}"), 1, secs(30)).await;
    }
    for connector in [one, two] {
        assert!(!connector.output().contains("a task of natshook ended"));
    }
}

#[tokio::test]
async fn a_target_that_is_removed_may_leave_its_position_for_the_next_one() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let _connector = Connector::start(&open(&broker)).await;
    let policy = target("policy", "a", &receiver, "/hook");
    put(&broker, policy.clone()).await.done();
    until("a stream holds the subject", secs(10), async || {
        broker.outstanding("EVENTS", "natshook-policy").await.is_some()
    })
    .await;
    ask(&broker, "delete", json!({ "name": "policy", "keep_position": true })).await.done();
    until("nobody serves it", secs(5), async || {
        ask(&broker, "test", json!({ "name": "policy" })).await.code.as_deref() == Some("404")
    })
    .await;
    broker.publish_numbered("a", 0..5).await;
    put(&broker, policy).await.done();
    receiver.wait_for("/hook", 5).await;
}

#[tokio::test]
async fn a_registered_target_is_paused_resumed_and_tested_by_request() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/test", Answer::status(204));
    let config = open(&broker).target("own", "b", &receiver.url("/own"), "");
    let connector = Connector::start(&config).await;
    put(&broker, target("policy", "a", &receiver, "/test")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;

    let report = ask(&broker, "test", json!({ "name": "policy" })).await.done();
    assert_eq!((&report["delivered"], &report["status"]), (&json!(true), &json!(204)));
    let paused = ask(&broker, "pause", json!({ "name": "policy" })).await.done();
    assert_eq!(paused, json!({ "name": "policy", "paused": true }));
    let (_, metrics) = connector.get("/metrics").await;
    assert!(metrics.contains("natshook_target_paused{target=\"policy\"} 1"), "{metrics}");
    broker.publish("a", "1").await;
    ask(&broker, "resume", json!({ "name": "policy" })).await.done();
    receiver.wait_for("/test", 2).await;
    // The config's own targets as well.
    ask(&broker, "test", json!({ "name": "own" })).await.done();
    assert_eq!(receiver.count("/own"), 1);
}

#[tokio::test]
async fn the_service_is_found_by_tools_of_nats() {
    let broker = Broker::start().await;
    let connector = Connector::start(&open(&broker)).await;
    connector.wait_for_line(&["natshook runs"]).await;
    let client = broker.client().await;
    let ask_service = async |verb: &str| -> Option<Value> {
        let answer = client.request(format!("$SRV.{verb}.natshook"), "".into()).await.ok()?;
        serde_json::from_slice(&answer.payload).ok()
    };
    until("it answers", secs(10), async || ask_service("PING").await.is_some()).await;
    let pong = ask_service("PING").await.unwrap();
    assert_eq!(pong["type"], "io.nats.micro.v1.ping_response");
    assert_eq!(pong["version"], env!("CARGO_PKG_VERSION"));
    until("all endpoints are there", secs(10), async || {
        let info = ask_service("INFO").await.unwrap();
        let mut subjects: Vec<_> =
            info["endpoints"].as_array().unwrap().iter().map(|e| e["subject"].as_str().unwrap()).collect();
        subjects.sort_unstable();
        let verbs = ["delete", "get", "list", "pause", "put", "resume", "test"];
        subjects == verbs.map(|verb| format!("natshook.targets.{verb}"))
    })
    .await;
    ask(&broker, "list", json!({})).await.done();
    let stats = ask_service("STATS").await.unwrap();
    let list = stats["endpoints"].as_array().unwrap().iter().find(|e| e["name"] == "targets-list").unwrap();
    assert_eq!(list["num_requests"], 1);
    assert_eq!(list["queue_group"], "natshook");
}

#[tokio::test]
async fn a_thousand_targets_register_and_are_listed_in_parts() {
    const COUNT: usize = 1_000;
    let broker = Broker::start_with("max_payload: 65536", async_nats::ConnectOptions::new()).await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let connector = Connector::start(&config).await;
    let mut two = Connector::start(&config.another()).await;
    let client = broker.client().await;
    for chunk in (0..COUNT).collect::<Vec<_>>().chunks(20) {
        let puts = chunk.iter().map(|i| {
            let target = target(&format!("t{i:04}"), &format!("many.{i}"), &receiver, &format!("/{i}"));
            ask_with(&client, "put", json!({ "target": target }))
        });
        for answered in futures_util::future::join_all(puts).await {
            answered.done();
        }
    }
    let (mut names, mut parts, mut after) = (Vec::new(), 0, Value::Null);
    until("this replica knows all", secs(10), async || {
        connector
            .get("/metrics")
            .await
            .1
            .contains(&format!("natshook_registered_targets{{state=\"active\"}} {COUNT}"))
    })
    .await;
    loop {
        let question = if after.is_null() { json!({}) } else { json!({ "after": after }) };
        let page = ask_with(&client, "list", question).await.done();
        let targets = page["targets"].as_array().unwrap();
        names.extend(targets.iter().map(|target| target["name"].as_str().unwrap().to_owned()));
        after = targets.last().unwrap()["name"].clone();
        parts += 1;
        if page["more"] == json!(false) {
            break;
        }
    }
    assert!(parts > 1, "all of them are more than one message holds");
    assert_eq!(names, (0..COUNT).map(|i| format!("t{i:04}")).collect::<Vec<_>>());
    let few = ask_with(&client, "list", json!({ "limit": 3 })).await.done();
    assert_eq!((few["targets"].as_array().unwrap().len(), &few["more"]), (3, &json!(true)));

    // Each has its consumer, also after a start that finds all of them.
    until("all consumers are there", secs(120), async || {
        let stream = broker.jetstream_context().await.get_stream("EVENTS").await.unwrap();
        stream.cached_info().state.consumer_count >= COUNT
    })
    .await;
    two.restart().await;
    let context = broker.jetstream_context().await;
    for i in [0, 1, 499, 998, 999] {
        context.publish(format!("many.{i}"), "x".into()).await.unwrap().await.unwrap();
        receiver.wait_long_for(&format!("/{i}"), 1, secs(30)).await;
    }
}

#[tokio::test]
async fn without_the_setting_there_is_no_bucket_and_no_service() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = Config::on(&broker).target("own", "a", &receiver.url("/own"), "");
    let connector = Connector::start(&config).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/own", 1).await;
    assert!(broker.jetstream_context().await.get_stream(BUCKET).await.is_err());
    let client = broker.client().await;
    for subject in ["natshook.targets.list", "$SRV.PING.natshook"] {
        let error = client.request(subject, "".into()).await.unwrap_err();
        assert_eq!(error.kind(), async_nats::RequestErrorKind::NoResponders, "{subject}");
    }
    let (_, metrics) = http::get(connector.admin_port, "/metrics").await.unwrap();
    assert!(!metrics.contains("natshook_registered_targets{"), "no rows where none can register");
}
