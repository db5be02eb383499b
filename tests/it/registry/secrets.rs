//! Secrets of registered targets: sealed at rest, never given back, kept through a change, never sent elsewhere.

use serde_json::json;

use super::{BUCKET, KEY, OTHER_KEY, ask, open, put, target};
use crate::support::{Answer, Broker, Config, Connector, Receiver, secs, until};

const TOKEN: &str = "hunter2-hunter2-hunter2";
const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn with_secrets(receiver: &Receiver, path: &str) -> serde_json::Value {
    let mut target = target("policy", "a", receiver, path);
    target["auth"] = json!({ "bearer": TOKEN });
    target["signing"] = json!({ "secrets": [SIGNING] });
    target
}

/// All that the bucket's file holds, as text.
async fn raw(broker: &Broker) -> String {
    let stored = broker.stored(BUCKET).await;
    stored.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned()).collect()
}

#[tokio::test]
async fn secrets_are_sealed_in_the_bucket_and_used_in_requests_and_never_given_back() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let mut connector = Connector::start(&open(&broker)).await;
    put(&broker, with_secrets(&receiver, "/hook")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    broker.publish("a", "1").await;
    let seen = receiver.wait_for("/hook", 1).await;
    assert_eq!(seen[0].header("authorization").as_deref(), Some(format!("Bearer {TOKEN}").as_str()));
    assert!(seen[0].header("webhook-signature").is_some());

    let raw = raw(&broker).await;
    assert!(raw.contains("\"sealed\":\"v1."), "{raw}");
    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done().to_string();
    assert!(found.contains("{\"bearer\":{\"sealed\":true}}") && !found.contains("v1."), "{found}");
    let listed = ask(&broker, "list", json!({})).await.done().to_string();
    assert!(listed.contains("policy"), "{listed}");
    connector.stop().await;
    for (place, text) in [("bucket", raw), ("get", found), ("list", listed), ("log", connector.output())] {
        assert!(!text.contains("hunter2") && !text.contains(&SIGNING[6..]), "{place}: {text}");
    }
}

#[tokio::test]
async fn a_change_keeps_the_secrets_that_it_leaves_and_sends_none_to_another_address() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let _connector = Connector::start(&open(&broker)).await;
    put(&broker, with_secrets(&receiver, "/one")).await.done();
    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done();
    let mut edited = found["target"].clone();
    edited["url"] = json!(receiver.url("/two"));
    ask(&broker, "put", json!({ "target": edited, "revision": found["revision"] })).await.done();
    until("the change holds", secs(10), async || {
        let _ = ask(&broker, "test", json!({ "name": "policy" })).await;
        receiver.count("/two") > 0
    })
    .await;
    let seen = receiver.at("/two");
    assert_eq!(seen[0].header("authorization").as_deref(), Some(format!("Bearer {TOKEN}").as_str()));

    let thief = Receiver::start().await;
    edited["url"] = json!(thief.url("/two"));
    let refused = put(&broker, edited).await;
    assert_eq!(refused.code.as_deref(), Some("400"));
    assert!(refused.body.to_string().contains("secrets that are kept were not given for it"), "{refused:?}");
    assert_eq!(thief.received().len(), 0);
}

#[tokio::test]
async fn what_another_key_sealed_stops_nobody_else_and_is_used_again_when_the_key_is_back() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/hook", Answer::status(500));
    let mut connector = Connector::start(&open(&broker)).await;
    let mut secret = with_secrets(&receiver, "/hook");
    secret["retry"] = json!({ "delays": ["1s", "1s", "1s"], "jitter": 0, "overload_wait": "0s" });
    put(&broker, secret).await.done();
    put(&broker, target("plain", "a", &receiver, "/plain")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    connector.wait_for_line(&["consumer made", "natshook-plain"]).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/hook", 1).await;
    connector.stop().await;

    let rotated = |keys: &str| connector_config(&broker, keys);
    let other = Connector::start(&rotated(&format!("key = \"{OTHER_KEY}\""))).await;
    other.wait_for_line(&["ERROR", "a registered target cannot be used", "policy", "auth.bearer"]).await;
    broker.publish("a", "2").await;
    receiver.wait_for("/plain", 2).await;
    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done();
    assert_eq!(found["state"], "invalid");
    assert_eq!(found["errors"].as_array().unwrap().len(), 2, "{found}");
    drop(other);

    receiver.always("/hook", Answer::ok());
    let both = format!("key = \"{OTHER_KEY}\"\nformer_keys = [\"{KEY}\"]");
    let _both = Connector::start(&rotated(&both)).await;
    until("its messages were kept for it", secs(60), async || {
        let bodies = receiver.bodies("/hook");
        bodies.contains(&"1".to_owned()) && bodies.contains(&"2".to_owned())
    })
    .await;
    broker.wait_until_settled("policy").await;
    // Put back as it is shown, it is sealed with the new key.
    let found = ask(&broker, "get", json!({ "name": "policy" })).await.done();
    let before = raw(&broker).await;
    let again = put(&broker, found["target"].clone()).await.done();
    assert_eq!(again["changed"], true);
    assert_ne!(raw(&broker).await, before);
    let again = put(&broker, found["target"].clone()).await.done();
    assert_eq!(again["changed"], false, "sealed with the new key already");
}

fn connector_config(broker: &Broker, keys: &str) -> Config {
    Config::on(broker).and(&format!("[registry]\nenabled = true\n{keys}"))
}

#[tokio::test]
async fn without_a_key_a_target_with_secrets_is_refused_and_one_without_is_not() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let _connector = Connector::start(&connector_config(&broker, "")).await;
    let refused = put(&broker, with_secrets(&receiver, "/hook")).await;
    assert_eq!(refused.code.as_deref(), Some("400"));
    assert_eq!(refused.wrong(), ["auth.bearer", "signing.secrets[0]"]);
    assert!(refused.body.to_string().contains("registry.key"), "{refused:?}");
    put(&broker, target("policy", "a", &receiver, "/hook")).await.done();
}
