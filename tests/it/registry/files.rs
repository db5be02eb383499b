//! Registered targets beside those of the config, and what a changed config means for them.

use serde_json::json;

use super::{ask, open, put, target};
use crate::support::{Answer, Broker, Config, Connector, Receiver, natshook, secs, until};

#[tokio::test]
async fn a_target_of_the_config_cannot_be_overwritten_or_removed() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker).target("own", "a", &receiver.url("/own"), "");
    let _connector = Connector::start(&config).await;
    let refused = put(&broker, target("own", "a", &receiver, "/thief")).await;
    assert_eq!(refused.code.as_deref(), Some("409"));
    assert!(refused.error.unwrap().contains("natshook's config"));
    for verb in ["get", "delete"] {
        assert_eq!(ask(&broker, verb, json!({ "name": "own" })).await.code.as_deref(), Some("409"), "{verb}");
    }
    broker.publish("a", "1").await;
    receiver.wait_for("/own", 1).await;
    assert_eq!(receiver.count("/thief"), 0);
}

#[tokio::test]
async fn a_config_that_takes_a_registered_name_wins_and_gives_it_back() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let config = open(&broker);
    let connector = Connector::start(&config).await;
    put(&broker, target("policy", "a", &receiver, "/registered")).await.done();
    connector.wait_for_line(&["consumer made", "natshook-policy"]).await;
    let with_own = config.clone().target("policy", "a", &receiver.url("/own"), "");
    connector.write_config(&with_own.text());
    connector.wait_for_line(&["WARN", "the config's is used"]).await;
    connector.wait_for_line(&["config reloaded"]).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/own", 1).await;
    let listed = ask(&broker, "list", json!({})).await.done();
    assert_eq!(listed["targets"][0]["state"], "overridden");

    connector.write_config(&config.text());
    until("the registered one is used again", secs(10), async || {
        broker.publish("a", "2").await;
        receiver.count("/registered") > 0
    })
    .await;
}

#[tokio::test]
async fn a_changed_config_is_what_registered_targets_are_judged_by() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    receiver.always("/slow", Answer::ok());
    let config = open(&broker).and("[defaults]\nheaders = { x-from = \"one\" }");
    let connector = Connector::start(&config).await;
    put(&broker, target("plain", "a", &receiver, "/plain")).await.done();
    let mut needs_http = target("other", "a", &receiver, "/other");
    needs_http["url"] = json!("https://hooks.example/x");
    needs_http["subjects"] = json!(["b"]);
    put(&broker, needs_http).await.done();
    connector.wait_for_line(&["consumer made", "natshook-plain"]).await;
    broker.publish("a", "1").await;
    assert_eq!(receiver.wait_for("/plain", 1).await[0].header("x-from").as_deref(), Some("one"));
    // Another default is taken over, with nothing registered anew.
    connector.write_config(&config.text().replace("\"one\"", "\"two\""));
    until("the new default is used", secs(10), async || {
        broker.publish("a", "2").await;
        receiver.at("/plain").iter().any(|seen| seen.header("x-from").as_deref() == Some("two"))
    })
    .await;
    // What the guard does not let through any more ends; what it does, goes on.
    let closed = config.clone().egress_instead("allow = []");
    connector.write_config(&closed.text());
    connector.wait_for_line(&["ERROR", "a registered target cannot be used", "plain", "url"]).await;
    until("it is shown", secs(20), async || {
        let listed = ask(&broker, "list", json!({})).await.done();
        listed["targets"][0]["state"] == "active" && listed["targets"][1]["state"] == "invalid"
    })
    .await;
    let before = receiver.count("/plain");
    broker.publish("a", "3").await;
    connector.write_config(&config.text());
    receiver.wait_long_for("/plain", before + 1, secs(20)).await;
}

#[tokio::test]
async fn what_somebody_writes_into_the_bucket_himself_counts_as_well_and_nonsense_harms_nobody() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let connector = Connector::start(&open(&broker)).await;
    let bucket = broker.jetstream_context().await.get_key_value("NATSHOOK_TARGETS").await.unwrap();
    for (key, value) in [
        ("nonsense", "{".to_owned()),
        ("other", json!({ "name": "policy", "subjects": "a", "url": receiver.url("/x") }).to_string()),
        ("a.b", target("a.b", "a", &receiver, "/x").to_string()),
        (
            "env",
            json!({ "subjects": "a", "url": receiver.url("/x"), "auth": { "bearer": { "env": "PATH" } } })
                .to_string(),
        ),
        ("direct", json!({ "subjects": "a", "url": receiver.url("/direct") }).to_string()),
    ] {
        bucket.put(key, value.into()).await.unwrap();
    }
    connector.wait_for_line(&["consumer made", "natshook-direct"]).await;
    broker.publish("a", "1").await;
    receiver.wait_for("/direct", 1).await;
    let listed = ask(&broker, "list", json!({})).await.done();
    let states: Vec<_> =
        listed["targets"].as_array().unwrap().iter().map(|t| (&t["name"], &t["state"])).collect();
    let invalid = json!("invalid");
    let names = ["a.b", "direct", "env", "nonsense", "other"].map(|name| json!(name));
    let expected = [&invalid, &json!("active"), &invalid, &invalid, &invalid];
    assert_eq!(states, names.iter().zip(expected).collect::<Vec<_>>());
    assert_eq!(receiver.count("/x"), 0);
}

#[tokio::test]
async fn the_settings_of_the_registry_are_judged() {
    let broker = Broker::start().await;
    let receiver = Receiver::start().await;
    let check = async |config: &Config| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("natshook.toml");
        std::fs::write(&file, config.text()).unwrap();
        let done = natshook(&["check", "--config", &file.to_string_lossy()]).await;
        (done.code, done.all())
    };
    assert_eq!(check(&open(&broker)).await.0, 0, "no target is needed where they register");
    let (code, said) = check(&Config::on(&broker).and("[registry]\nenabled = false")).await;
    assert!(code == 78 && said.contains("targets: is missing"), "{said}");
    let wrong = Config::on(&broker)
        .top("source = \"core\"")
        .and("[registry]\nenabled = true\nkey = \"short\"\nreplicas = 9\nkeys = 1")
        .target("a", "natshook.targets.put, $KV.NATSHOOK_TARGETS.>, *.targets.*", &receiver.url("/x"), "");
    let (code, said) = check(&wrong).await;
    assert_eq!(code, 78);
    for text in [
        "registry.enabled: cannot be true with source = \"core\"",
        "registry.key: is not 32 bytes",
        "registry.replicas: found 9",
        "registry.keys: unknown key; did you mean \"key\"?",
        "targets[0].subjects[0] (target \"a\"): found \"natshook.targets.put\", which reaches",
        "targets[0].subjects[1] (target \"a\"): found \"$KV.NATSHOOK_TARGETS.>\"",
        "targets[0].subjects[2] (target \"a\"): found \"*.targets.*\"",
    ] {
        assert!(said.contains(text), "{text} in {said}");
    }
    assert!(!said.contains("short"), "no key is shown: {said}");
}
