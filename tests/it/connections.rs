//! Several accounts in one process: each with its own streams and targets, and none touched by what happens to another.

use async_nats::ConnectOptions;

use crate::support::broker::{DEAD_LETTERS, RETRY_QUEUE};
use crate::support::connector::natshook_with;
use crate::support::{Answer, Broker, Config, Connector, Receiver, http, natshook, secs, throughout, until};

/// Two brokers, each with a target: `a` gets what is published to `a` on the one, `b` what is on the other.
fn two(one: &Broker, other: &Broker, receiver: &Receiver) -> Config {
    Config::of_connections().connection("eu", one, "", ("a", "events.>", &receiver.url("/a"))).connection(
        "us",
        other,
        "",
        ("b", "events.>", &receiver.url("/b")),
    )
}

/// A natshook whose connections all stand: it is ready when one of them does.
async fn all_ready(config: &Config) -> Connector {
    let connector = Connector::start(config).await;
    until("all is ready", secs(20), async || connector.get("/readyz").await == (200, "ready\n".to_owned()))
        .await;
    connector
}

#[tokio::test]
async fn each_account_s_messages_go_to_its_own_targets() {
    let (one, other, receiver) = (Broker::start().await, Broker::start().await, Receiver::start().await);
    let mut connector = all_ready(&two(&one, &other, &receiver)).await;
    one.publish("events.new", "from one").await;
    other.publish("events.new", "from the other").await;
    receiver.wait_for("/a", 1).await;
    receiver.wait_for("/b", 1).await;
    assert_eq!(
        (receiver.bodies("/a"), receiver.bodies("/b")),
        (vec!["from one".into()], vec!["from the other".into()])
    );
    let metrics = connector.get("/metrics").await.1;
    for name in ["eu", "us"] {
        let line = format!("natshook_broker_connected{{connection=\"{name}\"}} 1");
        assert!(metrics.contains(&line), "{metrics}");
    }
    connector.stop().await;
    assert_eq!(connector.output().matches("drained").count(), 1, "{}", connector.output());
}

#[tokio::test]
async fn what_one_account_says_of_another_s_target_is_not_believed() {
    let (one, other, receiver) = (Broker::start().await, Broker::start().await, Receiver::start().await);
    receiver.next("/b", [Answer::status(503)]);
    let _connector = all_ready(&two(&one, &other, &receiver)).await;
    other.publish("events.new", "its own").await;
    let waiting = other.wait_for_retries(1).await.remove(0);
    let headers: Vec<(&str, &str)> =
        waiting.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    one.publish_with_headers("natshook.retry.b", &headers, "smuggled").await;
    until("it is looked at", secs(20), async || {
        one.outstanding(RETRY_QUEUE, "natshook-retry").await == Some((0, 1))
    })
    .await;
    receiver.wait_for("/b", 2).await;
    assert_eq!(receiver.bodies("/b"), ["its own", "its own"]);
}

#[tokio::test]
async fn a_connection_whose_broker_is_down_is_waited_for_while_the_others_deliver() {
    let (one, receiver) = (Broker::start().await, Receiver::start().await);
    let mut other = Broker::prepare("", ConnectOptions::new());
    let connector = Connector::spawn(&two(&one, &other, &receiver), &[]);
    until("natshook is ready, but for the other", secs(20), async || {
        let (status, text) = connector.get("/readyz").await;
        status == 200 && text.starts_with("ready, but for: connection us: connection to the broker")
    })
    .await;
    one.publish("events.new", "1").await;
    receiver.wait_for("/a", 1).await;

    other.restart().await;
    connector.wait_long_for_line(&["natshook runs", "us"], secs(30)).await;
    other.publish("events.new", "1").await;
    receiver.wait_for("/b", 1).await;
    until("all is ready", secs(20), async || connector.get("/readyz").await == (200, "ready\n".to_owned()))
        .await;

    other.kill9();
    connector.wait_long_for_line(&["connection to the broker lost", "us"], secs(20)).await;
    one.publish("events.new", "2").await;
    receiver.wait_for("/a", 2).await;
    assert_eq!(connector.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_connection_that_cannot_be_used_rests_and_the_others_go_on() {
    let (one, receiver) = (Broker::start().await, Receiver::start().await);
    let other = Broker::start_without_jetstream().await;
    let connector = Connector::spawn(&two(&one, &other, &receiver), &[]);
    connector.wait_long_for_line(&["cannot be used; the others go on", "JetStream", "us"], secs(30)).await;
    until("the stream is there", secs(20), async || {
        one.jetstream_context().await.get_stream("EVENTS").await.is_ok()
    })
    .await;
    one.publish("events.new", "1").await;
    receiver.wait_for("/a", 1).await;
}

#[tokio::test]
async fn a_reload_adds_changes_and_removes_connections_and_leaves_the_others_alone() {
    let (one, other, receiver) = (Broker::start().await, Broker::start().await, Receiver::start().await);
    let both = two(&one, &other, &receiver);
    let only = Config::of_connections().connection("eu", &one, "", ("a", "events.>", &receiver.url("/a")));
    let only = only.in_place_of(&both);
    let connector = Connector::start(&only).await;
    let reloaded = async |text: String, times: usize| {
        connector.write_config(&text);
        until("the config is reloaded", secs(20), async || {
            connector.output().matches("config reloaded").count() == times
        })
        .await;
    };

    reloaded(both.text(), 1).await;
    connector.wait_long_for_line(&["natshook runs", "us"], secs(20)).await;
    other.publish("events.new", "1").await;
    receiver.wait_for("/b", 1).await;

    let changed = both.text().replace("/b\"", "/c\"");
    reloaded(changed, 2).await;
    other.publish("events.new", "2").await;
    receiver.wait_for("/c", 1).await;

    reloaded(only.text(), 3).await;
    other.publish("events.new", "3").await;
    one.publish("events.new", "1").await;
    receiver.wait_for("/a", 1).await;
    throughout("nothing more comes", secs(1), async || receiver.count("/c") == 1).await;
    assert!(!connector.get("/metrics").await.1.contains("\"us\""), "nothing is shown of it");
    assert_eq!(connector.output().matches("connected to the broker").count(), 2, "{}", connector.output());
}

#[tokio::test]
async fn commands_take_the_connection_that_is_named_or_that_has_the_target() {
    let (one, other, receiver) = (Broker::start().await, Broker::start().await, Receiver::start().await);
    receiver.always("/b", Answer::status(400));
    let config = two(&one, &other, &receiver);
    let _connector = all_ready(&config).await;
    other.publish("events.new", "refused").await;
    other.wait_for_dead_letters(1).await;

    let unnamed = natshook_with(&config, &["dead-letters", "list"]).await;
    assert_eq!(unnamed.code, 2, "{}", unnamed.all());
    assert!(unnamed.stderr.contains("choose one of eu, us with --connection"), "{}", unnamed.stderr);
    let unknown = natshook_with(&config, &["dead-letters", "list", "--connection", "as"]).await;
    assert_eq!((unknown.code, unknown.stderr.trim()), (2, "no connection \"as\"; known are eu, us"));

    let listed = natshook_with(&config, &["dead-letters", "list", "--connection", "us", "--json"]).await;
    assert!(listed.code == 0 && listed.stdout.contains("refused"), "{}", listed.all());
    let paused = natshook_with(&config, &["targets", "pause", "b"]).await;
    assert_eq!(paused.stdout, "b: paused on 1 of 1 replicas\n", "{}", paused.all());
    let targets = natshook_with(&config, &["targets", "--connection", "us", "--json"]).await;
    let shown: serde_json::Value = serde_json::from_str(targets.stdout.trim()).unwrap();
    assert_eq!(shown["targets"].as_array().unwrap().len(), 1, "nothing of the other account: {shown}");
    let published = natshook_with(&config, &["publish", "events.new", "{}", "--connection", "eu"]).await;
    assert_eq!(published.code, 0, "{}", published.all());
    receiver.wait_for("/a", 1).await;
    let replayed = natshook_with(&config, &["replay", "--target", "a", "--since", "1h"]).await;
    assert_eq!(replayed.code, 0, "{}", replayed.all());
    receiver.wait_for("/a", 2).await;
    let checked = natshook_with(&config, &["check", "--connect"]).await;
    assert!(
        checked.stdout.contains("connection eu: ok") && checked.stdout.contains("connection us: ok"),
        "{}",
        checked.all()
    );
}

#[tokio::test]
async fn the_page_shows_and_replays_the_dead_letters_of_each_connection() {
    let (one, other, receiver) = (Broker::start().await, Broker::start().await, Receiver::start().await);
    receiver.next("/b", [Answer::status(400)]);
    let connector = all_ready(&two(&one, &other, &receiver)).await;
    other.publish("events.new", "refused").await;
    other.wait_for_dead_letters(1).await;

    let (_, list) = connector.get("/dead-letters?connection=us").await;
    let place = "/dead-letters/1?connection=us";
    assert!(list.contains(place) && list.contains("<select id=\"connection\""), "{list}");
    assert!(connector.get("/dead-letters?connection=eu").await.1.contains("There are none"));
    assert_eq!(connector.get("/dead-letters?connection=as").await.0, 404);
    assert!(connector.get(place).await.1.contains("refused"));
    let (_, overview) = connector.get("/").await;
    assert!(overview.contains("/targets/a") && overview.contains("/targets/b"), "{overview}");

    let action = "/dead-letters/1/replay?connection=us";
    let origin = format!("http://127.0.0.1:{}", connector.admin_port);
    let replayed = http::request(connector.admin_port, "POST", action, &[("Origin", &origin)], b"").await;
    assert_eq!(replayed.unwrap().status(), 200);
    receiver.wait_for("/b", 2).await;
    until("the letter is gone", secs(20), async || other.count(DEAD_LETTERS).await == 0).await;
}

#[tokio::test]
async fn what_belongs_into_a_connection_is_refused_above_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("natshook.toml");
    let target = |name: &str| {
        format!(
            "[[connections.targets]]\nname = {name:?}\nsubjects = \"a\"\nurl = \"https://hooks.example/\"\n"
        )
    };
    let text = format!(
        "[nats]\nservers = \"nats://a\"\n[[connections]]\nname = \"eu\"\n{}{}[[connections]]\nname = \"eu\"\n{}\
         [[connections]]\nname = \"a b\"\nnat = {{}}\n",
        target("a"),
        target("b"),
        target("a")
    );
    std::fs::write(&file, text).unwrap();
    let checked = natshook(&["check", "--config", file.to_str().unwrap()]).await;
    assert_eq!(checked.code, 78, "{}", checked.all());
    for line in [
        "nats: stands beside [[connections]], where each connection has its own; move it into one of them",
        "connections[1].name: found \"eu\", which is the name of connections[0] already",
        "connections[1].targets[0].name (target \"a\"): found \"a\", which is the name of connections[0].targets[0] already",
        "connections[2].name: found \"a b\", expected letters",
        "connections[2].nat: unknown key; did you mean \"nats\"?",
        "connections[2].targets: is missing",
    ] {
        assert!(checked.stderr.contains(line), "{line}\n{}", checked.stderr);
    }
}
